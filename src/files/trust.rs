//! Whether a file can be trusted: nobody but the user and root may have written it, or be able to replace it.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::fuse::server_of;
use super::names::folder;
use super::untrusted::Untrusted;
use super::way::way;

/// The largest file that is read as a whole, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// How long a pipe is waited for, and how often it is looked at.
const PIPE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// Others than the owner may write.
pub(super) const WRITE: u32 = 0o022;
/// Others than the owner may read, write or execute.
const ANY: u32 = 0o077;
/// In a folder that everybody may write to, each may only remove or rename what is their own.
const STICKY: u32 = 0o1000;

/// What a file is for, which decides who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is read, and believed.
    Configuration,
    /// It holds a secret: others may not even read it.
    Secret,
    /// It is one of systemd's credentials, which are systemd's business.
    Credential,
    /// It is written. Root may write a service's files, in that service's own folder.
    Written,
}

/// Reads the text of the file at `path`, if it can be trusted.
///
/// # Errors
/// When it cannot, or cannot be read, or is not UTF-8.
pub fn read_to_string(path: &Path, purpose: Purpose) -> Result<String, Untrusted> {
    // Opening some devices has an effect of its own.
    check(path, purpose)?;
    // Otherwise a pipe would only be opened once somebody writes to it.
    let file = File::options()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .map_err(Untrusted::io(path))?;
    let found = file.metadata().map_err(Untrusted::io(path))?;
    User::current().check(path, Some(&found), purpose)?;
    read(&file, PIPE_WITHIN).map_err(Untrusted::io(path))
}

/// The text of a file that is open without blocking. A pipe has `within` to be written.
fn read(mut file: &File, within: Duration) -> io::Result<String> {
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let began = Instant::now();
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) if !is_pipe || !bytes.is_empty() => break,
            Ok(read @ 1..) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if !is_pipe || error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ if began.elapsed() >= within => {
                let message = "is a pipe that nobody writes to";
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            // Nobody has opened it for writing yet, or written to it.
            _ => std::thread::sleep(LOOK_EVERY),
        }
        if bytes.len() > MAX_LENGTH {
            let message = "is larger than 1 MiB; name the right file";
            return Err(io::Error::new(ErrorKind::FileTooLarge, message));
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Checks that the file at `path` can be trusted, or could be if it were created now.
///
/// # Errors
/// When it cannot, or cannot be looked at.
pub fn check(path: &Path, purpose: Purpose) -> Result<(), Untrusted> {
    let found = match std::fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(Untrusted::io(path)(error)),
    };
    User::current().check(path, found.as_ref(), purpose)
}

/// Who runs this.
#[derive(Clone, Copy, Debug)]
struct User {
    id: u32,
    group: u32,
    /// Whether nobody else is in that group, as distributions make one for each user. They also let it write by default.
    is_alone: bool,
}

impl User {
    fn current() -> Self {
        let id = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            id,
            group,
            is_alone: id != 0 && is_alone(id, group, &read("/etc/passwd"), &read("/etc/group")),
        }
    }

    fn check(
        self,
        path: &Path,
        found: Option<&Metadata>,
        purpose: Purpose,
    ) -> Result<(), Untrusted> {
        if purpose == Purpose::Credential {
            return Ok(());
        }
        let service = self.service(path, found, purpose);
        if let Some(found) = found {
            self.check_file(path, found, purpose, service)?;
        }
        self.check_way(path, service)?;
        // The way is that of what was checked, and not of what lay there for a moment.
        match found.map(|found| (found, path.metadata())) {
            None => Ok(()),
            Some((found, Ok(now))) if (now.dev(), now.ino()) == (found.dev(), found.ino()) => {
                Ok(())
            }
            Some((_, Err(error))) => Err(Untrusted::io(path)(error)),
            Some(_) => {
                let message = "was replaced by another file just now; run this again";
                Err(Untrusted::io(path)(io::Error::other(message)))
            }
        }
    }

    /// Checks that nobody else can replace what `path` leads to: a folder on the way to it, a link, or where that leads.
    fn check_way(self, path: &Path, service: u32) -> Result<(), Untrusted> {
        for (at, found) in way(path)? {
            self.check_owner(&at, &found, service)?;
            if found.is_dir() && found.mode() & STICKY == 0 {
                self.check_writers(path, &at, &found)?;
            }
        }
        Ok(())
    }

    fn check_owner(self, path: &Path, found: &Metadata, service: u32) -> Result<(), Untrusted> {
        let trusted = [0, self.id, service];
        let server = server_of(found.dev());
        let mut answerable = [Some(found.uid()), server].into_iter().flatten();
        let Some(owner) = answerable.find(|user| !trusted.contains(user)) else {
            return Ok(());
        };
        Err(Untrusted::Foreign {
            path: path.to_owned(),
            owner,
            mode: found.mode() & PERMISSIONS,
            user: self.id,
        })
    }

    fn check_file(
        self,
        path: &Path,
        found: &Metadata,
        purpose: Purpose,
        service: u32,
    ) -> Result<(), Untrusted> {
        let kind = found.file_type();
        // A terminal's slave is a device of whoever opened it, and says what they type into it.
        if purpose == Purpose::Configuration && !kind.is_file() {
            let message = "is no regular file";
            return Err(Untrusted::io(path)(io::Error::other(message)));
        }
        self.check_owner(path, found, service)?;
        // What the system provides, such as /dev/null, keeps nothing, and what is written to a terminal is read there.
        if kind.is_char_device() && (found.uid() == 0 || purpose == Purpose::Written) {
            return Ok(());
        }
        let (owner, mode) = (found.uid(), found.mode() & PERMISSIONS);
        let rights = self.rights_of_others(path, found);
        if rights & WRITE != 0 {
            return Err(Untrusted::Writable {
                path: path.to_owned(),
                owner,
                mode,
                secret: purpose == Purpose::Secret,
                replaces: None,
            });
        }
        if purpose == Purpose::Secret && rights & ANY != 0 {
            // How root lets a service read a secret that it may not change.
            let is_given = owner == 0 && self.id != 0 && found.gid() == self.group;
            if !is_given || mode & 0o007 != 0 || has_list(path) {
                return Err(Untrusted::Readable {
                    path: path.to_owned(),
                    owner,
                    mode,
                });
            }
        }
        Ok(())
    }

    /// The service whose file this is, or is to be, where root writes it: the owner of its folder.
    fn service(self, path: &Path, found: Option<&Metadata>, purpose: Purpose) -> u32 {
        let owner_of_folder = || {
            let real = match found {
                Some(_) => path.canonicalize().ok()?,
                None => path.to_owned(),
            };
            Some(folder(&real).metadata().ok()?.uid())
        };
        let is_root = purpose == Purpose::Written && self.id == 0;
        match is_root.then(owner_of_folder).flatten() {
            Some(owner) if found.is_none_or(|found| found.uid() == owner) => owner,
            _ => self.id,
        }
    }

    /// Checks that nobody else may write to `folder`, which is on the way to `path`.
    fn check_writers(self, path: &Path, folder: &Path, found: &Metadata) -> Result<(), Untrusted> {
        if self.rights_of_others(folder, found) & WRITE == 0 {
            return Ok(());
        }
        Err(Untrusted::Writable {
            path: folder.to_owned(),
            owner: found.uid(),
            mode: found.mode() & PERMISSIONS,
            secret: false,
            replaces: Some(path.to_owned()),
        })
    }

    /// The rights of others than the owner to what is at `path`, without those of a group in which nobody else is.
    fn rights_of_others(self, path: &Path, found: &Metadata) -> u32 {
        // With an access control list, the bits of the group are those of everybody whom it names.
        let is_private = self.is_alone && found.gid() == self.group && !has_list(path);
        found.mode() & if is_private { 0o007 } else { ANY }
    }
}

/// Checks that nobody else can create a file beside the one at `path`, not even in a folder where each may only remove
/// their own. Some programs believe whatever they find there.
///
/// # Errors
/// When somebody else can, or that cannot be looked at.
pub fn check_neighbours(path: &Path) -> Result<(), Untrusted> {
    let way = way(path)?;
    let Some((folder, found)) = way.last() else {
        return Ok(());
    };
    match User::current().rights_of_others(folder, found) & WRITE {
        0 => Ok(()),
        _ => Err(Untrusted::Neighbours {
            path: path.to_owned(),
            folder: folder.clone(),
            owner: found.uid(),
            mode: found.mode() & PERMISSIONS,
        }),
    }
}

/// Checks that nobody else can replace what `path` leads to, or create a file beside it.
///
/// # Errors
/// As for [`check_neighbours`].
pub fn check_folders(path: &Path) -> Result<(), Untrusted> {
    let user = User::current();
    user.check_way(path, user.id)?;
    check_neighbours(path)
}

/// Checks that the file that was opened at `path` can be trusted, whoever may have put it there meanwhile.
///
/// # Errors
/// When it cannot, or cannot be looked at.
pub fn check_opened(path: &Path, file: &File) -> Result<(), Untrusted> {
    let (user, found) = (
        User::current(),
        file.metadata().map_err(Untrusted::io(path))?,
    );
    user.check_file(path, &found, Purpose::Written, user.id)
}

/// Whether what is at `path` has an access control list.
fn has_list(path: &Path) -> bool {
    // A length of 0 asks for the size alone.
    rustix::fs::getxattr(path, c"system.posix_acl_access", &mut [0_u8; 0]).is_ok()
}

/// Whether `path` is a symbolic link of the user's or root's own, which nobody else can exchange.
pub fn is_own_link(path: &Path) -> bool {
    let user = User::current();
    let found = path.symlink_metadata();
    found.is_ok_and(|found| found.is_symlink() && [0, user.id].contains(&found.uid()))
}

/// Whether the user `id` is the only one in `group`, by the lines of `/etc/passwd` and `/etc/group`.
fn is_alone(id: u32, group: u32, users: &str, groups: &str) -> bool {
    let field = |line: &str, n: usize| line.split(':').nth(n).unwrap_or_default().to_owned();
    let number = |line: &str, n: usize| field(line, n).parse() == Ok(group);
    let is_mine = |line: &str| field(line, 2).parse() == Ok(id);
    let mine = users.lines().find(|line| is_mine(line));
    let (Some(mine), Some(found)) = (mine, groups.lines().find(|line| number(line, 2))) else {
        return false;
    };
    let name = field(mine, 0);
    let members = field(found, 3);
    let has_others = members
        .split(',')
        .any(|member| !member.is_empty() && member != name);
    let is_of_others = users.lines().any(|line| number(line, 3) && !is_mine(line));
    !has_others && !is_of_others
}

#[cfg(test)]
mod tests {
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
        let users =
            "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
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
}
