//! `type = "file"`: appends one JSON object per line to a file, and syncs it to disk before acknowledging.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::fs::Access;

use super::options::{BuildError, CheckError, Place, SinkOptions};
use super::sink::{Sink, blocking, json};
use crate::files::{self, Purpose, Untrusted};
use crate::model::{AttemptOutcome, Due, SinkLimits};
use crate::options::{Environment, Problem, Reader};
use crate::stdio::Written;

/// The beginning of every line that this sink writes.
const BEGINNING: &[u8] = b"{\"id\":\"evt_";

/// How far back to look for the beginning of the last line at first, in bytes.
const TAIL: u64 = 64 << 10;

/// The permission bits of a new file.
const MODE: u32 = 0o600;

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileOptions {
    path: PathBuf,
}

/// Reads the keys of this type.
pub(super) fn read(section: &mut Reader<'_>) -> Option<Arc<dyn SinkOptions>> {
    let path = section.text("path").filter(|path| !path.is_empty());
    if path.is_none() {
        section.problem(
            "path",
            "is missing; name the file that events are appended to",
        );
    }
    Some(Arc::new(FileOptions { path: path?.into() }))
}

#[async_trait]
impl SinkOptions for FileOptions {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn place(&self) -> Option<Place> {
        Some(Place::File(self.path.clone()))
    }

    fn resolve(self: Arc<Self>, _: &Environment) -> Result<Arc<dyn SinkOptions>, Problem> {
        match files::check(&self.path, Purpose::Written) {
            // Whatever else is wrong with it may pass.
            Ok(()) | Err(Untrusted::Io { .. }) => Ok(self),
            Err(untrusted) => Err(Problem::new("path", format!("cannot be used: {untrusted}"))),
        }
    }

    async fn build(&self, _: &[String]) -> Result<Arc<dyn Sink>, BuildError> {
        Ok(Arc::new(File::new(self.path.clone())))
    }

    async fn check(&self, _: &Environment) -> Result<String, CheckError> {
        check(&self.path).map_err(CheckError::Configuration)
    }
}

/// Checks that the file at `path` can be appended to, without creating it.
fn check(path: &Path) -> Result<String, String> {
    let folder = files::folder(path);
    if !folder.is_dir() {
        return Err(format!(
            "there is no folder {}; create it",
            folder.display()
        ));
    }
    if rustix::fs::access(folder, Access::WRITE_OK).is_err() {
        return Err(format!("folder {} cannot be written to", folder.display()));
    }
    files::check(path, Purpose::Written).map_err(|untrusted| untrusted.to_string())?;
    // Only regular files: opening a pipe could block until another process opens it.
    if path.is_file() {
        let opened = fs::OpenOptions::new().append(true).open(path);
        opened.map_err(|error| format!("cannot append to {}: {error}", path.display()))?;
    }
    Ok(format!("appends to {}", path.display()))
}

/// Appends events to a file. If it was renamed or deleted, as by log rotation, a new file is opened at the path.
struct File {
    path: PathBuf,
    open: Arc<Mutex<Open>>,
}

/// What is known of the file at the path.
#[derive(Default)]
struct Open {
    /// `None` before the first write, and after one that failed.
    file: Option<fs::File>,
    /// Whether the last line written to something that cannot be read again, such as a pipe, was cut off.
    in_line: bool,
}

impl File {
    /// The file at `path` need not exist, but its folder must.
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: Arc::default(),
        }
    }
}

#[async_trait]
impl Sink for File {
    fn limits(&self) -> SinkLimits {
        SinkLimits::STREAM
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let (path, open) = (self.path.clone(), Arc::clone(&self.open));
        let what = format!("file {}", self.path.display());
        blocking(events, &what, json, move |lines, _| {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = 0;
            let result = append(&path, &mut open, lines, &mut bytes);
            Written { bytes, result }
        })
        .await
    }
}

/// Appends `lines` and syncs them; `kept` is how many of their bytes are there to stay, also when the rest failed.
fn append(path: &Path, slot: &mut Open, lines: &[u8], kept: &mut usize) -> io::Result<()> {
    let mut file = match slot.file.take() {
        Some(file) if is_still_at(&file, path) => file,
        _ => open(path)?,
    };
    // After a failure the slot stays empty: the next call reopens the file, which repairs a partial line.
    let is_file = file.metadata()?.is_file();
    if slot.in_line && !is_file {
        write_some(&mut file, b"\n")?;
    }
    slot.in_line = false;
    let mut written = 0;
    let result = write_all(&mut file, lines, &mut written);
    slot.in_line = !lines[..written].ends_with(b"\n") && written > 0;
    if is_file {
        file.sync_data()?;
    }
    *kept = written;
    result?;
    slot.file = Some(file);
    Ok(())
}

/// Writes `lines`; `written` is how many of their bytes, also when the rest failed.
fn write_all(file: &mut fs::File, lines: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < lines.len() {
        *written += write_some(file, &lines[*written..])?;
    }
    Ok(())
}

fn write_some(file: &mut fs::File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn is_still_at(file: &fs::File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    match (
        file.metadata().map(identity),
        fs::metadata(path).map(identity),
    ) {
        (Ok(open), Ok(named)) => open == named,
        _ => false,
    }
}

/// Somebody else may have put a file there since the sink was built.
fn require_trust(path: &Path) -> io::Result<()> {
    files::check(path, Purpose::Written).map_err(|untrusted| match untrusted {
        Untrusted::Io { source, .. } => source,
        other => io::Error::new(io::ErrorKind::PermissionDenied, other.to_string()),
    })
}

fn open(path: &Path) -> io::Result<fs::File> {
    require_trust(path)?;
    let mut file = files::open_or_create(path, fs::OpenOptions::new().append(true), MODE)?;
    if file.metadata()?.is_file() {
        repair_last_line(path, &mut file)?;
        // The directory entry of a new file must survive a power cut too.
        fs::File::open(files::folder(path))?.sync_all()?;
    }
    Ok(file)
}

/// Removes a partial line of this sink, left by a crash or a full disk: its event is delivered again. Terminates any
/// other last line that has no line end.
fn repair_last_line(path: &Path, file: &mut fs::File) -> io::Result<()> {
    let last = last_line(path)?;
    if last.is_empty() {
        return Ok(());
    }
    let is_ours = last.starts_with(BEGINNING) || BEGINNING.starts_with(&last);
    if is_ours && serde_json::from_slice::<serde::de::IgnoredAny>(&last).is_err() {
        let length = file.metadata()?.len();
        return file.set_len(length.saturating_sub(last.len() as u64));
    }
    file.write_all(b"\n")
}

/// The bytes after the last line end.
fn last_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut back = TAIL;
    loop {
        file.seek(SeekFrom::Start(length.saturating_sub(back)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        match tail.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => return Ok(tail.split_off(end + 1)),
            None if back >= length => return Ok(tail),
            None => back = back.saturating_mul(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::testing::due;
    use super::*;

    async fn deliver(sink: &File, payloads: &[&str]) -> AttemptOutcome {
        let events: Vec<Due> = payloads
            .iter()
            .map(|payload| due(1, "r", payload))
            .collect();
        let mut outcomes = sink.deliver(&events).await;
        assert!(
            outcomes.len() == events.len()
                && outcomes.iter().all(|outcome| *outcome == outcomes[0])
        );
        outcomes.remove(0)
    }

    #[test]
    fn a_check_requires_the_folder_and_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(&dir.path().join("new.jsonl")).is_ok());
        assert!(!dir.path().join("new.jsonl").exists());
        let missing = check(&dir.path().join("no/new.jsonl")).unwrap_err();
        assert!(missing.contains("no folder"), "{missing}");
    }

    #[tokio::test]
    async fn lines_are_appended_also_after_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let sink = File::new(path.clone());
        assert_eq!(
            deliver(&sink, &["{\"a\":1}", "{\"a\":2}"]).await,
            AttemptOutcome::Delivered
        );
        fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
        assert_eq!(
            deliver(&sink, &["{\"a\":3}"]).await,
            AttemptOutcome::Delivered
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":3}\n");
        assert_eq!(
            fs::read_to_string(dir.path().join("events.jsonl.1")).unwrap(),
            "{\"a\":1}\n{\"a\":2}\n"
        );
        // Rotation that creates a new file at the path, and rotation that truncates the old one.
        fs::rename(&path, dir.path().join("events.jsonl.2")).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(
            deliver(&sink, &["{\"b\":1}"]).await,
            AttemptOutcome::Delivered
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"b\":1}\n");
        fs::write(&path, "").unwrap();
        assert_eq!(
            deliver(&sink, &["{\"a\":4}"]).await,
            AttemptOutcome::Delivered
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"a\":4}\n",
            "truncated in place"
        );
    }

    #[tokio::test]
    async fn a_partial_own_line_is_removed_and_anything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let whole = "{\"id\":\"evt_a_1\"}\n";
        for (before, after) in [
            ("", ""),
            (whole, whole),
            ("{\"id\":\"evt_a", ""),
            ("{\"i", ""),
            ("{\"id\":\"evt_a_1\"}\n{\"id\":\"evt_b_1\",\"se", whole),
            ("somebody's notes", "somebody's notes\n"),
            ("{\"id\":\"evt_a_1\"}", whole),
            (
                "{\"id\":\"evt_a_1\"}\n{\"id\":7}",
                "{\"id\":\"evt_a_1\"}\n{\"id\":7}\n",
            ),
        ] {
            fs::write(&path, before).unwrap();
            assert_eq!(
                deliver(&File::new(path.clone()), &["{\"new\":1}"]).await,
                AttemptOutcome::Delivered
            );
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("{after}{{\"new\":1}}\n"),
                "{before:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_long_partial_line_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        fs::write(
            &path,
            format!(
                "{{\"id\":\"evt_a_1\"}}\n{{\"id\":\"evt_b_1\",\"{}",
                "x".repeat(3 << 20)
            ),
        )
        .unwrap();
        assert_eq!(
            deliver(&File::new(path.clone()), &["{}"]).await,
            AttemptOutcome::Delivered
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"id\":\"evt_a_1\"}\n{}\n"
        );
    }

    #[tokio::test]
    async fn a_device_is_written_without_sync() {
        assert_eq!(
            deliver(&File::new("/dev/null".into()), &["{}"]).await,
            AttemptOutcome::Delivered
        );
    }

    #[tokio::test]
    async fn a_missing_folder_is_named_and_may_appear_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/events.jsonl");
        let sink = File::new(path.clone());
        let AttemptOutcome::Failed { error, .. } = deliver(&sink, &["{}"]).await else {
            panic!()
        };
        assert!(error.contains("logs/events.jsonl"), "{error}");
        fs::create_dir(dir.path().join("logs")).unwrap();
        assert_eq!(deliver(&sink, &["{}"]).await, AttemptOutcome::Delivered);
    }
}
