//! Whether a sink can be reached, without delivering anything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;
use tokio::net::TcpStream;

use super::exit::ExitCode;
use crate::config::{Environment, SinkSettings, Target};

/// The longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Says what was found of a sink, or what is in its way and whether that may mend itself.
pub async fn probe(
    sink: &SinkSettings,
    environment: &Environment,
) -> Result<String, (String, ExitCode)> {
    let to_be_mended = |problem| (problem, ExitCode::Configuration);
    match &sink.target {
        Target::Stdout => Ok("is standard output".to_owned()),
        Target::File { path } => file(path).map_err(to_be_mended),
        Target::Webhook(webhook) => {
            let host = webhook.url.host_str().unwrap_or_default();
            let port = webhook.url.port_or_known_default().unwrap_or_default();
            connect(host, port)
                .await
                .map_err(|problem| (problem, ExitCode::Temporary))
        }
        Target::Exec(exec) => program(
            &exec.program,
            environment.get("PATH").map_or("", String::as_str),
        )
        .map_err(to_be_mended),
    }
}

fn file(path: &Path) -> Result<String, String> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(format!("there is no folder {}; make it", folder.display()));
    }
    if rustix::fs::access(folder, Access::WRITE_OK).is_err() {
        return Err(format!("folder {} cannot be written to", folder.display()));
    }
    // Opening what is no file, such as a pipe, could wait for somebody at the other end.
    if path.is_file() {
        let opened = std::fs::OpenOptions::new().append(true).open(path);
        opened.map_err(|error| format!("cannot append to {}: {error}", path.display()))?;
    }
    Ok(format!("appends to {}", path.display()))
}

async fn connect(host: &str, port: u16) -> Result<String, String> {
    // Addresses of version 6 stand in brackets in an address, but not here.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect((bare, port))).await {
        Ok(Ok(_)) => Ok(format!("{host}:{port} can be reached")),
        Ok(Err(error)) => Err(format!("cannot connect to {host}:{port}: {error}")),
        Err(_) => Err(format!(
            "cannot connect to {host}:{port}: no answer in time"
        )),
    }
}

fn program(name: &str, path: &str) -> Result<String, String> {
    let runs = |file: &Path| {
        file.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let found = if name.contains('/') {
        Some(Path::new(name).to_owned())
    } else {
        path.split(':')
            .map(|folder| Path::new(folder).join(name))
            .find(|file| runs(file))
    };
    match found.filter(|file| runs(file)) {
        Some(file) => Ok(format!("runs {}", file.display())),
        None => Err(format!(
            "there is no program {name} that could be run; give its path, or set PATH"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_the_system_finds_them() {
        assert_eq!(
            program("sh", "/nonexistent:/bin"),
            Ok("runs /bin/sh".to_owned())
        );
        assert!(program("/bin/sh", "").is_ok());
        assert!(
            program("sh", "/nonexistent")
                .unwrap_err()
                .contains("no program sh")
        );
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert!(
            program(&plain.display().to_string(), "").is_err(),
            "not to be run"
        );
    }

    #[test]
    fn files_need_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(file(&dir.path().join("new.jsonl")).is_ok());
        assert!(!dir.path().join("new.jsonl").exists(), "nothing is made");
        assert!(
            file(&dir.path().join("no/new.jsonl"))
                .unwrap_err()
                .contains("no folder")
        );
    }
}
