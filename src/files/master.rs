//! Root on the files of another user: goes on as that user. Whatever root opened, created or gave away there by its name could
//! be exchanged for a file of root's at any time.

use std::io;
use std::path::Path;

use nix::unistd::{Gid, Uid, getegid, geteuid, getuid};

use super::trust::master_of;

/// For how long root becomes another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Until the process ends. Comes after all that only root can read.
    Good,
    /// Except for [`as_caller`].
    Reading,
}

/// Where root runs this, and another user decides what lies at `path`, goes on as that user.
///
/// # Errors
/// When the system does not allow it.
pub fn act_as_master(path: &Path, duration: For) -> io::Result<()> {
    // Where the way to the file cannot be looked at, opening it says why.
    if let Some((user, group)) = master_of(path).ok().flatten() {
        let group = Gid::from_raw(group);
        #[cfg(not(target_vendor = "apple"))]
        nix::unistd::setgroups(&[group])?;
        nix::unistd::setegid(group)?;
        nix::unistd::seteuid(Uid::from_raw(user))?;
        let path = path.display();
        tracing::debug!(user, "{path} is another user's: going on as that user");
    }
    if duration == For::Good && getuid() != geteuid() {
        let (user, group) = (geteuid(), getegid());
        nix::unistd::setresgid(group, group, group)?;
        nix::unistd::setresuid(user, user, user)?;
    }
    Ok(())
}

/// Does `work` as the user who runs this, even if that is root and goes on as another: for files that are not at that other
/// user's. Nothing else may be under way in that user's folders.
///
/// # Errors
/// When the system does not allow it.
pub fn as_caller<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let (user, group) = (geteuid(), getegid());
    if getuid() == user {
        return Ok(work());
    }
    nix::unistd::seteuid(getuid())?;
    nix::unistd::setegid(nix::unistd::getgid())?;
    let done = work();
    nix::unistd::setegid(group)?;
    nix::unistd::seteuid(user)?;
    Ok(done)
}
