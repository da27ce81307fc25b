//! Secrets that were given where the path of a file belongs.

use std::path::Path;

use thiserror::Error;

/// A key names no file. The value is not repeated: it may be the secret that the file should hold.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "names no file that can be found (the value is not shown, since it may be the secret itself); give the path of one"
)]
pub struct NoFile;

/// Checks that `path` can be shown in messages, because it leads somewhere: to something, or into a folder other than the
/// root.
///
/// # Errors
/// When it may be a secret.
pub fn check_path(path: &Path) -> Result<(), NoFile> {
    let in_folder = |path: &Path| {
        let folder = path.parent();
        folder.is_some_and(|folder| folder != Path::new("/") && folder.is_dir())
    };
    if path.exists() || in_folder(path) {
        Ok(())
    } else {
        Err(NoFile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_leads_somewhere_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert_eq!(check_path(&file), Ok(()), "the folder exists");
        std::fs::write(&file, "").unwrap();
        assert_eq!(check_path(&file), Ok(()));
        assert_eq!(check_path(Path::new("/")), Ok(()));
        let long = "x".repeat(100_000);
        for text in [
            "hunter2",
            "/hunter2",
            "hun/ter+2==",
            "https://x/hunter2",
            "",
            &long,
        ] {
            assert_eq!(check_path(Path::new(text)), Err(NoFile), "{text}");
        }
    }
}
