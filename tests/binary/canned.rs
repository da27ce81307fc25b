//! The sample answer of Apify's documentation, served verbatim.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::cases::Case;
use crate::support::{Setup, stderr};

const SAMPLE: &str = include_str!("../fixtures/documented-sample.json");

/// Serves the sample as every run list, and a task for every task.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut reader = BufReader::new(&stream);
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = if path.contains("/runs") {
                SAMPLE
            } else {
                r#"{"data": {"id": "KJHSKHausidyaJKHs"}}"#
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn the_documented_sample_is_mirrored_without_warnings() {
    let setup = Setup::with_runs(0);
    let url = serve();
    for _ in 0..2 {
        let output = Case::of(&["sync"])
            .env("APIFY_MIRROR_API__BASE_URL", &url)
            .check(&setup);
        assert!(!stderr(&output).contains("WARN"), "{}", stderr(&output));
    }
    let rows = setup.column(
        "SELECT id || ' ' || status || ' ' || started_at || ' ' || usage_total_usd FROM runs",
    );
    assert_eq!(
        rows,
        ["HG7ML7M8z78YcAPEB FAILED 2019-12-12T07:34:14.202Z 0.6"],
        "the last of two entries counts"
    );
    assert_eq!(
        setup
            .column("SELECT id FROM runs WHERE user_id IS NULL AND build_number_int IS NULL")
            .len(),
        1
    );
    assert_eq!(setup.column("SELECT id FROM events"), [""; 0]);
}
