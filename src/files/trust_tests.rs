//! Files of others, links, pipes and devices, and what is asked of them.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

/// The user who runs the tests.
fn me() -> User {
    let id = rustix::process::geteuid().as_raw();
    User {
        id,
        group: rustix::process::getegid().as_raw(),
        is_alone: false,
    }
}

/// Somebody else.
fn other() -> User {
    User {
        id: 4_294_000,
        group: 4_294_000,
        is_alone: false,
    }
}

/// A folder that only the user who runs the tests may write to, wherever the tests run.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn file(path: &Path, mode: u32) {
    std::fs::write(path, "").unwrap();
    set(path, mode);
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn judge(user: User, path: &Path, purpose: Purpose) -> Result<(), String> {
    let found = path.metadata().ok();
    let result = user.check(path, found.as_ref(), purpose);
    result.map_err(|error| error.to_string())
}

#[test]
fn what_others_may_do_decides() {
    use Purpose::{Configuration, Secret, Written};
    let dir = dir();
    let path = dir.path().join("f");
    for (mode, refused) in [
        (0o600, [false; 3]),
        (0o400, [false; 3]),
        (0o640, [false, true, false]),
        (0o644, [false, true, false]),
        (0o604, [false, true, false]),
        (0o610, [false, true, false]),
        (0o620, [true; 3]),
        (0o602, [true; 3]),
        (0o666, [true; 3]),
    ] {
        file(&path, mode);
        let found = [Configuration, Secret, Written].map(|it| judge(me(), &path, it));
        assert_eq!(
            found.each_ref().map(Result::is_err),
            refused,
            "{mode:o}: {found:?}"
        );
        for message in found.into_iter().filter_map(Result::err) {
            for part in [format!("mode {mode:o}"), "owner ".into(), "`chmod ".into()] {
                assert!(message.contains(&part), "{message}");
            }
        }
    }
}

#[test]
fn files_folders_and_links_of_others_are_refused() {
    let dir = dir();
    let path = dir.path().join("f");
    file(&path, 0o644);
    // Where root runs the tests, all of these are root's, which is trusted.
    if me().id != 0 {
        for purpose in [Purpose::Configuration, Purpose::Secret, Purpose::Written] {
            let message = judge(other(), &path, purpose).unwrap_err();
            for part in ["belongs to user", "mode 644", "chown 4294000", "or to root"] {
                assert!(message.contains(part), "{message}");
            }
        }
        let link = dir.path().join("link");
        symlink("/etc/passwd", &link).unwrap();
        let message = judge(other(), &link, Purpose::Configuration).unwrap_err();
        assert!(message.contains("belongs to user"), "{message}");
    }
    judge(other(), Path::new("/etc/passwd"), Purpose::Configuration).unwrap();
    judge(other(), Path::new("/dev/null"), Purpose::Written).unwrap();
}

#[test]
fn a_configuration_is_a_regular_file_and_a_terminal_of_others_is_nothing() {
    let error = read_to_string(Path::new("/dev/null"), Purpose::Configuration).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    judge(me(), Path::new("/dev/null"), Purpose::Secret).unwrap();
    // Whoever opens a pseudo-terminal owns the device, and says what is read from it.
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let terminal = Path::new(name.to_str().unwrap());
    judge(me(), terminal, Purpose::Written).unwrap();
    judge(me(), terminal, Purpose::Configuration).unwrap_err();
    if me().id == 0 {
        std::os::unix::fs::chown(terminal, Some(4_294_001), None).unwrap();
    }
    for purpose in [Purpose::Secret, Purpose::Written] {
        let message = judge(other(), terminal, purpose).unwrap_err();
        assert!(message.contains("belongs to user"), "{message}");
    }
}

#[test]
fn what_was_replaced_while_it_was_looked_at_is_refused() {
    let dir = dir();
    let (path, other) = (dir.path().join("f"), dir.path().join("other"));
    file(&path, 0o600);
    file(&other, 0o600);
    let found = other.metadata().unwrap();
    for purpose in [Purpose::Configuration, Purpose::Secret, Purpose::Written] {
        let error = me().check(&path, Some(&found), purpose).unwrap_err();
        assert!(error.to_string().contains("was replaced"), "{error}");
    }
}

#[test]
fn a_private_group_is_none_where_a_list_names_others() {
    let dir = dir();
    let path = dir.path().join("f");
    file(&path, 0o660);
    let alone = User {
        is_alone: true,
        ..me()
    };
    let check = || {
        let found = path.metadata().unwrap();
        alone.check(&path, Some(&found), Purpose::Written)
    };
    check().unwrap();
    // Version 2; the owner, user 4294001, the group, the mask and others, each with tag, rights and id.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (0x01, 6, u32::MAX),
        (0x02, 6, 4_294_001),
        (0x04, 0, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(rights));
        list.extend(u32::to_le_bytes(id));
    }
    let name = c"system.posix_acl_access";
    let set = rustix::fs::setxattr(&path, name, &list, rustix::fs::XattrFlags::empty());
    // Some file systems have none.
    if set.is_ok() {
        let message = check().unwrap_err().to_string();
        assert!(message.contains("can be written by others"), "{message}");
    }
}

#[test]
fn a_folder_in_which_others_may_replace_the_file_counts() {
    let dir = dir();
    let (inner, elsewhere) = (dir.path().join("a/b"), dir.path().join("c"));
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    let (path, link) = (inner.join("f"), elsewhere.join("link"));
    file(&path, 0o600);
    symlink(&path, &link).unwrap();
    let all = |user: User| {
        [&path, &link, &inner.join("new")].map(|path| judge(user, path, Purpose::Written))
    };
    assert!(all(me()).iter().all(Result::is_ok), "{:?}", all(me()));
    let around = dir.path().join("a");
    set(&around, 0o770);
    for message in all(me()) {
        let message = message.unwrap_err();
        assert!(
            message.contains("mode 770") && message.contains("can replace"),
            "{message}"
        );
    }
    let alone = User {
        is_alone: true,
        ..me()
    };
    assert!(
        all(alone).iter().all(Result::is_ok),
        "nobody else is in the group"
    );
    set(&around, 0o1777);
    assert!(all(me()).iter().all(Result::is_ok), "sticky");
    set(&around, 0o700);
    set(&elsewhere, 0o777);
    assert_eq!(
        all(me()).map(|result| result.is_err()),
        [false, true, false],
        "only the link can be replaced"
    );
}

#[test]
fn links_among_the_folders_of_a_path_count_too() {
    let dir = dir();
    let (open, inner) = (dir.path().join("open"), dir.path().join("inner"));
    std::fs::create_dir_all(inner.join("deep")).unwrap();
    std::fs::create_dir(&open).unwrap();
    file(&inner.join("f"), 0o600);
    symlink("../inner", open.join("relative")).unwrap();
    symlink(&inner, open.join("absolute")).unwrap();
    symlink("relative/deep/..", open.join("chain")).unwrap();
    symlink("circle", open.join("circle")).unwrap();
    for link in ["relative", "absolute", "chain"] {
        let path = open.join(link).join("f");
        set(&open, 0o700);
        judge(me(), &path, Purpose::Secret).unwrap();
        set(&open, 0o777);
        let message = judge(me(), &path, Purpose::Secret).unwrap_err();
        assert!(message.contains("mode 777"), "{message}");
    }
    set(&open, 0o700);
    let message = judge(me(), &open.join("circle/f"), Purpose::Written).unwrap_err();
    assert!(message.contains("symbolic links"), "{message}");
}

#[test]
fn a_group_is_private_if_nobody_else_is_in_it() {
    let users = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
    for (groups, users, expected) in [
        ("ann:x:1000:\n", users.to_owned(), true),
        ("ann:x:1000:ann\n", users.to_owned(), true),
        ("ann:x:1000:bob\n", users.to_owned(), false),
        ("ann:x:1000:ann,bob\n", users.to_owned(), false),
        ("bob:x:1001:\n", users.to_owned(), false),
        (
            "ann:x:1000:\n",
            format!("{users}eve:x:1002:1000::/:\n"),
            false,
        ),
        ("ann:x:1000:\n", String::new(), false),
        ("", users.to_owned(), false),
    ] {
        assert_eq!(is_alone(1_000, 1_000, &users, groups), expected, "{groups}");
    }
}

#[test]
fn a_pipe_without_a_writer_and_a_file_without_end_are_not_waited_for() {
    let dir = dir();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&pipe)
        .status();
    assert!(made.unwrap().success());
    let reader = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&pipe)
        .unwrap();
    let error = read(&reader, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(reader);
    let error = read_to_string(Path::new("/dev/zero"), Purpose::Secret).unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, "token")
    });
    assert_eq!(read_to_string(&pipe, Purpose::Secret).unwrap(), "token");
    writer.join().unwrap().unwrap();
}
