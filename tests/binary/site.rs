//! A client of what the daemon serves over HTTP, which sends what it is told to and nothing else.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use apify_mirror::simulator::TOKEN;

use crate::support::{Daemon, Setup, TIMEOUT, wait_until};

/// Where a daemon serves.
pub struct Site(pub String);

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// By names in small letters; the values of several headers of one name are joined.
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// A daemon that polls often and serves on a free port.
pub fn serving(setup: &Setup) -> Command {
    let mut command = setup.quick_run();
    command.env("APIFY_MIRROR_HTTP__LISTEN", "127.0.0.1:0");
    command
}

impl Site {
    /// Where `daemon` serves, which says so in its log.
    pub fn of(daemon: &Daemon) -> Self {
        let line = daemon.log_line("serving /healthz");
        let (_, address) = line.rsplit_once("http://").unwrap();
        Self(address.trim().to_owned())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.0).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Sends `request` with these headers and `Connection: close`.
    pub fn ask(&self, request: &str, headers: &[&str]) -> Answer {
        let mut stream = self.connect();
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let text = format!("{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        // A request that is not read to its end makes the system reset the connection after the answer.
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(ended.is_ok() || !answer.is_empty(), "{ended:?}");
        Answer::read(&String::from_utf8_lossy(&answer))
    }

    /// Asks for `path` under the host's own name, without a token.
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &["Host: localhost"])
    }

    /// Asks for the metrics with `token`.
    pub fn metrics_with(&self, token: &str) -> Answer {
        let token = format!("Authorization: Bearer {token}");
        self.ask("GET /metrics", &["Host: localhost", &token])
    }

    /// The metrics, which must be given.
    pub fn metrics(&self) -> String {
        let answer = self.metrics_with(TOKEN);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Waits until every feed is fresh.
    pub fn wait_until_ready(&self) {
        wait_until("the feeds to be fresh", || {
            self.get("/readyz").status == 200
        });
    }
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let mut headers: HashMap<String, String> = HashMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let joined = headers.entry(name.to_lowercase()).or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(value);
        }
        Self {
            status: status.parse().unwrap(),
            headers,
            body: body.to_owned(),
        }
    }

    /// The type of the error that it is.
    pub fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert!(
            body["error"]["message"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{body}"
        );
        body["error"]["type"].as_str().unwrap().to_owned()
    }
}
