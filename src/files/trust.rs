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
        let server = server_of(path, found.dev());
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
#[path = "trust_tests.rs"]
mod tests;
