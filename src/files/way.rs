//! The way to a file: every folder and every link on it, which somebody could exchange.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::names::folder;
use super::untrusted::Untrusted;

/// The most symbolic links followed to a file, as in the system.
const MAX_LINKS: usize = 40;

/// The folders and the links on the way to what `path` leads to, from the root on; the last one is the folder that it is in.
///
/// # Errors
/// When it cannot be looked at.
pub fn way(path: &Path) -> Result<Vec<(PathBuf, Metadata)>, Untrusted> {
    let io = |error| Untrusted::io(path)(error);
    let absolute = std::path::absolute(path).map_err(io)?;
    let names = |path: &Path| -> Vec<OsString> {
        let names = path
            .components()
            .rev()
            .filter(|part| *part != Component::RootDir);
        names.map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut at, mut left, mut links) = (PathBuf::from("/"), names(&absolute), 0);
    let root = at.symlink_metadata().map_err(io)?;
    let mut way = vec![(at.clone(), root)];
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = match next.symlink_metadata() {
            // It is to be created, or has no name any more.
            Err(error) if error.kind() == ErrorKind::NotFound && left.is_empty() => break,
            result => result.map_err(io)?,
        };
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(io(Errno::LOOP.into()));
            }
            let target = next.read_link().map_err(io)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            left.extend(names(&target));
        } else {
            at.clone_from(&next);
        }
        if found.is_symlink() || found.is_dir() {
            way.push((next, found));
        }
    }
    // The last step may have been one back.
    let is_in = if at.is_dir() {
        at
    } else {
        folder(&at).to_owned()
    };
    let found = is_in.metadata().map_err(io)?;
    way.push((is_in, found));
    Ok(way)
}
