//! Why a file cannot be trusted.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that others could have written, could write or replace, or, if it holds a secret, read.
#[derive(Debug, Error)]
pub enum Untrusted {
    /// It cannot be looked at.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It belongs to another user than the one that runs this, or root.
    #[error(
        "{path} belongs to user {owner} (mode {mode:o}), who could have put anything there; it must belong to user {user}, who runs this, or to root: `chown {user} {path}` if you trust it, or use another"
    )]
    Foreign {
        /// The file, its folder or a link to it.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// The user who runs this.
        user: u32,
    },
    /// Others may write it.
    #[error(
        "{path} can be written by others (owner {owner}, mode {mode:o}); take that right from them with `chmod {} {path}`{}",
        if *.secret { "600" } else { "go-w" },
        .replaces.as_ref().map_or_else(String::new, |file| format!(", or use another folder: who may write it can replace {}", file.display()))
    )]
    Writable {
        /// The file, or a folder on the way to it.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// Whether it holds a secret.
        secret: bool,
        /// The file, where `path` is a folder.
        replaces: Option<PathBuf>,
    },
    /// Others may create files beside it, which would be believed.
    #[error(
        "{folder} can be written by others (owner {owner}, mode {mode:o}), and what they put beside {path} would be believed; move it into a folder of its own"
    )]
    Neighbours {
        /// The file.
        path: PathBuf,
        /// The folder it is in.
        folder: PathBuf,
        /// The user whose that is.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Root runs this, and another user decides what is there.
    #[error(
        "{path} is user {owner}'s, and root does not run {what} there, which that user could make something else; start that user's service, or run this as that user"
    )]
    OfAnother {
        /// The file.
        path: PathBuf,
        /// The other user.
        owner: u32,
        /// What root does not run.
        what: String,
    },
    /// It holds a secret, and others may read it.
    #[error(
        "{path} can be read by others (owner {owner}, mode {mode:o}) and holds a secret; restrict it with `chmod 600 {path}`"
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
}

impl Untrusted {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }
}
