//! Whether sinks write into the database or into one another, by whatever names: compared are real paths and, as there
//! are hard links and redirections, devices and inodes.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::options::Place;
use super::settings::SinkSettings;
use crate::options::Problem;

/// What follows on the database's name in the names of the files beside it.
const BESIDE: [&str; 4] = ["-wal", "-shm", "-journal", ".lock"];

/// The most symbolic links that lead to a file that does not exist.
const MOST_LINKS: usize = 40;

/// A file, which need not exist.
struct Target {
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// The device and inode, if it exists and holds what is written to it.
    id: Option<(u64, u64)>,
}

impl Target {
    fn at(path: &Path) -> Self {
        Self {
            path: Some(real(path)),
            id: std::fs::metadata(path).ok().and_then(id),
        }
    }

    fn of(place: &Place) -> Self {
        match place {
            Place::File(path) => Self::at(path),
            Place::StandardOutput => Self {
                path: None,
                id: std::fs::metadata("/dev/stdout").ok().and_then(id),
            },
        }
    }

    fn is(&self, other: &Self) -> bool {
        let same_path = self.path.is_some() && self.path == other.path;
        same_path || (self.id.is_some() && self.id == other.id)
    }
}

/// What several names of a file have in common; `None` for devices, which do not keep what is written.
fn id(found: Metadata) -> Option<(u64, u64)> {
    let kind = found.file_type();
    (kind.is_file() || kind.is_fifo()).then(|| (found.dev(), found.ino()))
}

/// The path without links, `.` and `..`, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(real) = path.canonicalize() {
            return real;
        }
        let Some(name) = path.file_name() else { break };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        match path.read_link() {
            // A link to a file that does not exist yet.
            Ok(target) => path = folder.join(target),
            Err(_) => return folder.join(name),
        }
    }
    path
}

/// Checks that no sink writes into the file `database` or those beside it, into the file of a token, or where another
/// sink does.
pub(crate) fn check_places(
    sinks: &[SinkSettings],
    database: &Path,
    token_files: &[&Path],
) -> Vec<Problem> {
    const DATABASE: &str = "is the database, or a file that belongs to it; name another file";
    const TOKEN: &str = "is the file of a token; name another file";
    const SINK: &str =
        "is another sink's too, by another name, and their lines would mix; give it its own";
    let mut taken = vec![(Target::at(database), DATABASE)];
    let real = real(database);
    taken.extend(BESIDE.map(|suffix| {
        let mut name = real.clone().into_os_string();
        name.push(suffix);
        (Target::at(Path::new(&name)), DATABASE)
    }));
    taken.extend(token_files.iter().map(|path| (Target::at(path), TOKEN)));
    let mut problems = Vec::new();
    for (n, sink) in sinks.iter().enumerate() {
        let Some(place) = sink.options.place() else {
            continue;
        };
        let target = Target::of(&place);
        let key = format!("sinks[{n}].{}", place.key());
        let other = taken.iter().find(|(other, _)| other.is(&target));
        problems.extend(other.map(|(_, message)| Problem::new(key, *message)));
        taken.push((target, SINK));
    }
    problems
}
