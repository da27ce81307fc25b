//! `[http]`: health and readiness, who may ask, and what a client may cost.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use apify_mirror::simulator::{Fault, Faults, TOKEN};

use crate::cases::Case;
use crate::site::{Site, serving};
use crate::support::{Daemon, Setup, TIMEOUT, stderr, wait_until};

const READ_TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn probes_say_yes_or_no_to_everybody() {
    let setup = Setup::with_runs(5);
    setup.server.set_faults(Faults::always(Fault::Status(500)));
    let daemon = Daemon::start(serving(&setup));
    let site = Site::of(&daemon);
    // The daemon lives, and has mirrored nothing yet.
    let alive = site.ask("GET /healthz", &["Host: evil.example"]);
    assert_eq!((alive.status, alive.body.as_str()), (200, "ok\n"));
    let ready = site.ask("GET /readyz", &[]);
    assert_eq!((ready.status, ready.body.as_str()), (503, "unavailable\n"));
    setup.server.set_faults(Faults::none());
    site.wait_until_ready();
    let ready = site.get("/readyz?token=x");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"));
    assert_eq!(ready.headers["cache-control"], "no-store");
    let head = site.ask("HEAD /healthz", &["Host: localhost"]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.headers["content-length"], "3");
}

#[test]
fn a_name_that_leads_to_no_task_is_not_ready() {
    let setup = Setup::with_runs(5);
    let mut command = serving(&setup);
    command.env("APIFY_MIRROR_TASKS", "janedoe~my-task,janedoe~other");
    let daemon = Daemon::start_synced(&setup, command);
    assert_eq!(Site::of(&daemon).get("/readyz").status, 503);
    let other = setup.server.world().add_task("janedoe", "other");
    drop(daemon);
    let mut command = serving(&setup);
    command.env("APIFY_MIRROR_TASKS", format!("janedoe~my-task,{other}"));
    Site::of(&Daemon::start(command)).wait_until_ready();
}

#[test]
fn a_database_that_was_replaced_is_not_healthy() {
    let setup = Setup::with_runs(5);
    let mut command = serving(&setup);
    // No poll is to find out first, which would end the daemon.
    command.env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "1h");
    let daemon = Daemon::start_synced(&setup, command);
    let site = Site::of(&daemon);
    assert_eq!(site.get("/healthz").status, 200);
    std::fs::remove_file(setup.database()).unwrap();
    wait_until("the database to be missed", || {
        site.get("/healthz").status == 503
    });
    daemon.log_line("/healthz: database");
    let metrics = site.metrics_with(TOKEN);
    assert_eq!(
        (metrics.status, metrics.error()),
        (503, "service-unavailable".to_owned())
    );
}

#[test]
fn metrics_ask_for_a_token_and_nothing_else_is_there() {
    let setup = Setup::with_runs(5);
    let file = setup.write_secret("read-token", READ_TOKEN);
    let mut command = serving(&setup);
    command.env("APIFY_MIRROR_HTTP__READ_TOKEN_FILE", &file);
    let daemon = Daemon::start_synced(&setup, command);
    let site = Site::of(&daemon);
    for token in [TOKEN, READ_TOKEN] {
        assert_eq!(site.metrics_with(token).status, 200, "{token}");
    }
    // `me:` and the API token.
    let basic = "Authorization: Basic bWU6YXBpZnlfYXBpX3NpbXVsYXRlZA==";
    assert_eq!(
        site.ask("GET /metrics", &["Host: localhost", basic]).status,
        200
    );
    let wrong = site.metrics_with("wrong");
    assert_eq!(
        (wrong.status, wrong.error()),
        (401, "user-or-token-not-found".to_owned())
    );
    let none = site.get("/metrics");
    assert_eq!(
        (none.status, none.error()),
        (401, "token-not-provided".to_owned())
    );
    assert!(
        none.headers["www-authenticate"].contains("Basic realm=\"apify-mirror\""),
        "{none:?}"
    );
    let address = format!("GET /metrics?token={TOKEN}");
    let address = site.ask(
        &address,
        &["Host: localhost", &format!("Authorization: Bearer {TOKEN}")],
    );
    assert_eq!(
        (address.status, address.error()),
        (401, "token-in-address".to_owned())
    );

    for path in [
        "/",
        "/metrics/",
        "/v2/actor-runs",
        "/healthz/x",
        "//metrics",
    ] {
        let nothing = site.get(path);
        assert_eq!(
            (nothing.status, nothing.error()),
            (404, "page-not-found".to_owned()),
            "{path}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "XYZ"] {
        for path in ["/metrics", "/healthz", "/nothing"] {
            let refused = site.ask(&format!("{method} {path}"), &["Host: localhost"]);
            assert_eq!(
                (refused.status, refused.error()),
                (405, "method-not-allowed".to_owned())
            );
            assert_eq!(refused.headers["allow"], "GET, HEAD");
        }
    }

    // One that is replaced is used at once after a signal, or as soon as somebody has it.
    std::fs::write(&file, "f".repeat(32)).unwrap();
    daemon.signal("HUP");
    daemon.log_line("using the new read token");
    assert_eq!(site.metrics_with(READ_TOKEN).status, 401);
    assert_eq!(site.metrics_with(&"f".repeat(32)).status, 200);
    std::fs::write(&file, READ_TOKEN).unwrap();
    wait_until("the new token to be accepted", || {
        site.metrics_with(READ_TOKEN).status == 200
    });
    std::fs::write(&file, "").unwrap();
    daemon.signal("HUP");
    daemon.log_line("the previous read token stays in use");
    assert_eq!(site.metrics_with(READ_TOKEN).status, 200);
}

#[test]
fn requests_must_be_sent_to_one_of_our_hosts() {
    let setup = Setup::with_runs(5);
    let mut command = serving(&setup);
    command
        .env("APIFY_MIRROR_HTTP__OPEN_ON_LOOPBACK", "true")
        .env(
            "APIFY_MIRROR_HTTP__ALLOWED_HOSTS",
            "mirror.example, 10.0.0.1",
        );
    let daemon = Daemon::start(command);
    let site = Site::of(&daemon);
    for host in [
        "localhost",
        &site.0,
        "[::1]:80",
        "mirror.example:1",
        "10.0.0.1",
    ] {
        let answer = site.ask("GET /metrics", &[&format!("Host: {host}")]);
        assert_eq!(answer.status, 200, "{host}");
    }
    let refused = |headers: &[&str]| {
        let answer = site.ask("GET /metrics", headers);
        assert_eq!(
            (answer.status, answer.error()),
            (403, "host-not-allowed".to_owned()),
            "{headers:?}"
        );
    };
    refused(&["Host: evil.example"]);
    refused(&["Host: 10.0.0.2"]);
    refused(&["Host: localhost", "Host: localhost"]);
    refused(&[]);
    let elsewhere = site.ask("GET http://evil.example/metrics", &["Host: localhost"]);
    assert_eq!(elsewhere.status, 403);
    let token = site.get("/metrics?token=x");
    assert_eq!(
        (token.status, token.error()),
        (401, "token-in-address".to_owned())
    );
}

#[test]
fn what_cannot_be_served_ends_the_daemon_before_it_asks_for_anything() {
    let setup = Setup::with_runs(5);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = |listen: &str| Case::of(&["run"]).env("APIFY_MIRROR_HTTP__LISTEN", listen);
    run(&address)
        .code(75)
        .stderr(format!("cannot listen on {address} (`http.listen`)"))
        .stderr("stop the program that listens there, or choose another port")
        .check(&setup);
    let file = setup.write_secret("read-token", "short");
    run("127.0.0.1:0")
        .env("APIFY_MIRROR_HTTP__READ_TOKEN_FILE", file.to_str().unwrap())
        .code(78)
        .stderr("http.read_token_file: ")
        .stderr("has fewer than 16 characters")
        .check(&setup);
    run("0.0.0.0:0")
        .env("APIFY_MIRROR_HTTP__OPEN_ON_LOOPBACK", "true")
        .code(78)
        .stderr("http.open_on_loopback: is true, but `http.listen` is 0.0.0.0:0")
        .check(&setup);
    assert_eq!(setup.server.take_requests(), Vec::<String>::new());
    Case::of(&["check"])
        .env("APIFY_MIRROR_HTTP__LISTEN", "0.0.0.0:9464")
        .stdout("  http           0.0.0.0:9464, for the API token\n")
        .stderr("warning: http.listen is 0.0.0.0:9464, and `http.allowed_hosts` is empty")
        .check(&setup);
}

#[test]
fn the_server_ends_with_the_daemon_and_needs_a_restart() {
    let setup = Setup::with_runs(5);
    setup.configure("tasks = [\"janedoe~my-task\"]\n[http]\nlisten = \"127.0.0.1:0\"\n");
    let mut daemon = Daemon::start_synced(&setup, setup.bare(&["run"]));
    let site = Site::of(&daemon);
    let mut open = site.connect();
    setup.configure("tasks = [\"janedoe~my-task\"]\n[http]\nlisten = \"127.0.0.1:1\"\n");
    daemon.signal("HUP");
    daemon.log_line(
        "changes of [api], [database] and [http] take effect when the daemon is restarted",
    );
    assert_eq!(site.get("/healthz").status, 200);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(open.read(&mut [0; 1]).unwrap_or_default(), 0, "closed");
    let log = std::fs::metadata(setup.dir.path().join("runs.db-wal"));
    assert_eq!(log.unwrap().len(), 0, "the database was closed");
}

#[test]
fn a_large_request_is_refused() {
    let setup = Setup::with_runs(5);
    let daemon = Daemon::start(serving(&setup));
    let site = Site::of(&daemon);
    let address = format!("GET /{}", "x".repeat(20_000));
    assert_eq!(site.ask(&address, &["Host: localhost"]).status, 431);
    let header = format!("X-Long: {}", "x".repeat(20_000));
    assert_eq!(
        site.ask("GET /healthz", &["Host: localhost", &header])
            .status,
        431
    );
    let many: Vec<String> = (0..70).map(|n| format!("X-{n}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(site.ask("GET /healthz", &many).status, 431);
    assert_eq!(site.get("/healthz").status, 200);
}

#[test]
fn slow_clients_keep_nobody_out_and_are_not_waited_for() {
    let setup = Setup::with_runs(5);
    let daemon = Daemon::start(serving(&setup));
    let site = Site::of(&daemon);
    // More than there may be: the oldest of them give way. Some never send anything, some never end.
    let mut slow: Vec<TcpStream> = (0..100).map(|_| site.connect()).collect();
    for stream in slow.iter_mut().skip(50) {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: local")
            .unwrap();
    }
    for _ in 0..10 {
        assert_eq!(site.get("/healthz").status, 200);
    }
    // The newest were kept, and are closed when their time is over.
    let began = std::time::Instant::now();
    let mut rest = Vec::new();
    let newest = slow.last_mut().unwrap();
    newest.set_read_timeout(Some(TIMEOUT)).unwrap();
    newest.read_to_end(&mut rest).unwrap();
    assert!(began.elapsed() < TIMEOUT);
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[test]
fn nothing_is_served_unless_asked_for() {
    let setup = Setup::with_runs(5);
    let output = setup
        .command(&["sync"])
        .env("APIFY_MIRROR_HTTP__LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "only `run` serves: {}",
        stderr(&output)
    );
}
