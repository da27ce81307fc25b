//! Root on the files of another user: goes on as that user. Whatever root opened, created or gave away there by its name could
//! be exchanged for a file of root's at any time.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Uid, User, getegid, geteuid, getuid};

use super::trust::WRITE;
use super::untrusted::Untrusted;
use super::way::way;

/// For how long root becomes another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Until the process ends. Comes after all that only root can read.
    Good,
    /// Except for [`as_caller`].
    Reading,
}

/// Where root runs this, and another user decides what the file at `path` is or what is beside it: that user. Whatever root
/// opened there could be exchanged for a file of root's.
///
/// # Errors
/// When the way to the file cannot be looked at.
pub fn master_of(path: &Path) -> Result<Option<u32>, Untrusted> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let way = way(path)?;
    let foreign = way.iter().find(|(_, found)| found.uid() != 0);
    // In a folder for all it is the owner of the file.
    let is_for_all = way
        .last()
        .is_some_and(|(_, found)| found.mode() & WRITE != 0);
    let file = path
        .metadata()
        .ok()
        .filter(|found| is_for_all && found.uid() != 0);
    let master = foreign.map(|(_, found)| found).or(file.as_ref());
    Ok(master.map(Metadata::uid))
}

/// Where root runs this, and another user decides what lies at `path`, goes on as that user, in that user's own group.
///
/// # Errors
/// When the way to the file cannot be looked at, there is no such user, or the system does not allow it.
pub fn act_as_master(path: &Path, duration: For) -> Result<(), Untrusted> {
    let io = |source| Untrusted::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(user) = master_of(path)? {
        become_user(user).map_err(io)?;
        tracing::debug!(
            user,
            "{} is another user's: going on as that user",
            path.display()
        );
    }
    if duration == For::Good && getuid() != geteuid() {
        become_for_good().map_err(io)?;
    }
    Ok(())
}

fn become_user(id: u32) -> io::Result<()> {
    let user = User::from_uid(Uid::from_raw(id))?.ok_or_else(|| {
        io::Error::other(format!(
            "belongs to user {id}, who is not in the system's list of users; run this as that user, or give it to root"
        ))
    })?;
    #[cfg(not(target_vendor = "apple"))]
    nix::unistd::setgroups(&[user.gid])?;
    nix::unistd::setegid(user.gid)?;
    nix::unistd::seteuid(user.uid)?;
    hide_memory()
}

fn become_for_good() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)?;
    hide_memory()
}

/// Keeps the memory and the first environment of this process, which hold secrets, from other processes of its user, and
/// out of core dumps. Linux only; a program that this one starts is not affected, and a change of the user undoes it.
///
/// # Errors
/// When the system does not allow it.
pub fn hide_memory() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| {
            io::Error::other(format!(
                "this process cannot be made undumpable (prctl): {error}"
            ))
        })?;
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
    hide_memory()?;
    Ok(done)
}
