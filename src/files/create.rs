//! Creating files that others cannot read, whatever the process's umask says.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, OFlags, RenameFlags, fcntl_getfl, fcntl_setfl, renameat_with};
use rustix::io::Errno;

use super::master::master_of;
use super::names::folder;
use super::trust::{check_opened, is_own_link};

/// Who may read the database, besides its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    #[default]
    Owner,
    /// The members of its group, who are trusted not to hold locks on it.
    Group,
}

impl Readers {
    /// The permission bits of a file that they may read.
    pub fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }
}

/// Creates the file at `path`, to be opened as `options` say, with the permission bits `mode`.
///
/// # Errors
/// When it cannot be created, also because there is something by that name, be it a link, or because root runs this and
/// another user decides where `path` leads.
pub fn create_new(path: &Path, options: &OpenOptions, mode: u32) -> io::Result<File> {
    refuse_as_root(path)?;
    let mut create = options.clone();
    // Never through a link: `create_new` fails where there is one.
    let file = create.create_new(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Opens the file at `path` as `options` say, or creates it as [`create_new`] does. No symbolic link is followed to create a
/// file, and none of somebody else's to open one.
///
/// # Errors
/// When it can be neither opened nor created, or is one that somebody else has put there.
pub fn open_or_create(path: &Path, options: &OpenOptions, mode: u32) -> io::Result<File> {
    match create_new(path, options, mode) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut open = options.clone();
            // Somebody else's link, or a pipe that nobody reads, may have taken the place of nothing.
            let mut flags = OFlags::NONBLOCK;
            flags.set(OFlags::NOFOLLOW, !is_own_link(path));
            open.custom_flags(flags.bits().cast_signed());
            let file = open.open(path).map_err(|error| explain(path, error))?;
            check_opened(path, &file).map_err(io::Error::other)?;
            fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
            Ok(file)
        }
        Err(error) => Err(error),
    }
}

/// Gives the complete file at `from` the name `to`, on the disk too when this returns, unless there is something by that
/// name.
///
/// # Errors
/// When there is ([`ErrorKind::AlreadyExists`]), or the disk fails; the file may have either name then.
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system cannot rename so.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if to.symlink_metadata().is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)?;
        }
        renamed => renamed?,
    }
    File::open(folder(to))?.sync_all()
}

fn explain(path: &Path, error: io::Error) -> io::Error {
    let is_link = path
        .symlink_metadata()
        .is_ok_and(|found| found.is_symlink());
    if error.kind() == ErrorKind::NotFound && is_link {
        let message = "is a symbolic link to a file that does not exist, and links are not followed to create one; \
                       create that file first, or name it";
        return io::Error::new(ErrorKind::NotFound, message);
    }
    error
}

/// What root creates or opens at such a place could turn out to be a file of root's.
fn refuse_as_root(path: &Path) -> io::Result<()> {
    let Some(user) = master_of(path).map_err(io::Error::other)? else {
        return Ok(());
    };
    Err(io::Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "is in a folder of user {user}, where root writes nothing; run this as that user, or name a file elsewhere"
        ),
    ))
}

/// Gives the file at `path` the permission bits `mode`; returns those it had, if it exists and they were others.
///
/// # Errors
/// When that is not allowed.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<Option<u32>> {
    let found = match path.metadata() {
        Ok(found) => found.permissions().mode() & 0o7777,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if found == mode {
        return Ok(None);
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_file_has_the_mode_whatever_the_umask_and_an_old_one_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let mut options = OpenOptions::new();
        options.append(true);
        for wanted in [0o600, 0o640] {
            let path = dir.path().join(format!("{wanted:o}"));
            open_or_create(&path, &options, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
        }
        std::fs::write(&path, "kept").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open_or_create(&path, &options, 0o600).unwrap();
        assert_eq!(mode(&path), 0o644);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        assert_eq!(set_mode(&path, 0o600).unwrap(), Some(0o644));
        assert_eq!(set_mode(&path, 0o600).unwrap(), None);
        assert_eq!(set_mode(&dir.path().join("none"), 0o600).unwrap(), None);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_published_file_takes_the_place_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to, link] = ["from", "to", "link"].map(|name| dir.path().join(name));
        let create = || create_new(&from, OpenOptions::new().write(true), 0o600);
        create().unwrap();
        assert_eq!(create().unwrap_err().kind(), ErrorKind::AlreadyExists);
        publish(&from, &to).unwrap();
        assert_eq!(mode(&to), 0o600);
        create().unwrap();
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for taken in [&to, &link] {
            let error = publish(&from, taken).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        assert!(from.exists());
    }

    #[test]
    fn no_file_is_created_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut options = OpenOptions::new();
        options.append(true);
        let error = open_or_create(&link, &options, 0o600).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(!target.exists());
        std::fs::write(&target, "").unwrap();
        open_or_create(&link, &options, 0o600).unwrap();
    }

    #[test]
    fn what_somebody_else_put_there_meanwhile_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("planted");
        let mut options = OpenOptions::new();
        options.append(true);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let error = open_or_create(&path, &options, 0o600).unwrap_err();
        assert!(
            error.to_string().contains("can be written by others"),
            "{error}"
        );
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        open_or_create(&path, &options, 0o600).unwrap();
        // A pipe that nobody reads is not waited for.
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(CWD, &path, mode).unwrap();
        open_or_create(&path, &options, 0o600).unwrap_err();
    }
}
