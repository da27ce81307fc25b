//! Webhook deliveries: failures on either side, set aside events, and secrets.

use std::collections::HashMap;

use apify_mirror::simulator::{Arrival, Reaction, Receiver, Rng, TOKEN};
use apify_mirror::sinks::SigningKeys;
use serde_json::Value;

use crate::support::{Daemon, QUICK, Setup, signal, stderr, stdout, wait_until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A configuration with the sink `hook`, which posts to `receiver`.
fn hook(receiver: &Receiver, more: &str) -> String {
    format!("{QUICK}{}", hook_section("hook", receiver, more))
}

/// The section of a webhook sink.
fn hook_section(name: &str, receiver: &Receiver, more: &str) -> String {
    format!(
        "[[sinks]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{}\"\n{more}\n",
        receiver.url()
    )
}

fn body(arrival: &Arrival) -> Value {
    serde_json::from_slice(&arrival.body).unwrap()
}

/// The number of pending deliveries.
fn pending(setup: &Setup) -> u64 {
    setup.sink("hook")["pending"].as_u64().unwrap()
}

/// Checks the signature of an arrival.
fn check_signature(arrival: &Arrival) {
    let keys = SigningKeys::parse(SECRET).unwrap();
    let (id, time) = (
        &arrival.headers["webhook-id"],
        &arrival.headers["webhook-timestamp"],
    );
    assert_eq!(
        Some(&arrival.headers["webhook-signature"]),
        keys.sign(id, time, &arrival.body).as_ref()
    );
    assert_eq!(body(arrival)["id"], **id);
}

/// Apify's documented webhook body.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApifyWebhook {
    user_id: String,
    created_at: String,
    event_type: String,
    event_data: ApifyEventData,
    resource: ApifyRun,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApifyEventData {
    actor_id: String,
    actor_task_id: String,
    actor_run_id: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApifyRun {
    id: String,
    act_id: String,
    status: String,
    started_at: String,
    finished_at: Option<String>,
    default_dataset_id: String,
}

#[test]
fn bodies_have_the_form_of_apifys_webhooks() {
    let mut setup = Setup::with_runs(5);
    let receiver = setup.receiver();
    setup.configure(&hook(&receiver, &format!("secret = \"{SECRET}\"")));
    setup.sync();
    let id = setup.add_runs(1).remove(0);
    let output = setup.sync();
    assert!(
        stdout(&output).contains("up to date"),
        "the summary goes to standard output"
    );
    let arrivals = receiver.arrivals();
    assert_eq!(arrivals.len(), 2);
    for arrival in &arrivals {
        assert_eq!(arrival.path, "/hook");
        assert_eq!(arrival.headers["content-type"], "application/json");
        check_signature(arrival);
        let webhook: ApifyWebhook = serde_json::from_slice(&arrival.body).unwrap();
        assert!(!webhook.user_id.is_empty() && !webhook.event_data.actor_id.is_empty());
        assert!(webhook.created_at.ends_with('Z'));
        assert_eq!(webhook.event_data.actor_task_id, setup.task);
        assert_eq!(
            (&webhook.event_data.actor_run_id, &webhook.resource.id),
            (&id, &id)
        );
        assert_eq!(webhook.resource.act_id, webhook.event_data.actor_id);
        assert!(webhook.resource.finished_at.unwrap() > webhook.resource.started_at);
        assert!(["SUCCEEDED", "FAILED"].contains(&webhook.resource.status.as_str()));
        assert!(!webhook.resource.default_dataset_id.is_empty());
        assert!(webhook.event_type.starts_with("ACTOR.RUN."));
    }
    let payloads = setup.column("SELECT payload FROM events ORDER BY seq");
    let bodies: Vec<String> = arrivals
        .into_iter()
        .map(|arrival| String::from_utf8(arrival.body).unwrap())
        .collect();
    assert_eq!(
        bodies, payloads,
        "the bodies delivered are those in the log"
    );
}

/// For a longer test, set the number of kills: `DELIVERY_KILLS=60 cargo test --test binary kill`.
#[test]
fn a_killed_daemon_and_a_failing_receiver_lose_and_reorder_no_event() {
    let kills: u64 = std::env::var("DELIVERY_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(6);
    let mut setup = Setup::with_runs(50);
    let mut receiver = setup.receiver();
    let mut rng = Rng::new(4);
    receiver.set_reaction(move |_| match rng.below(100) {
        0..10 => Reaction::Status(500),
        10..15 => Reaction::Drop,
        _ => Reaction::Status(200),
    });
    setup.configure(&hook(
        &receiver,
        &format!("secret = \"{SECRET}\"\nconcurrency = 8"),
    ));
    setup.sync();
    for kill in 0..kills {
        let mut daemon = Daemon::start(setup.command(&["run"]));
        setup.add_runs(60);
        let (before, enough) = (receiver.count(), 20 + 10 * kill as usize % 90);
        if kill == kills / 2 {
            setup.block_on(receiver.go_away());
            daemon.log_line("accepts nothing");
            daemon.signal("KILL");
            setup.block_on(receiver.come_back()).unwrap();
        } else {
            wait_until("some arrivals", || receiver.count() >= before + enough);
            daemon.signal("KILL");
        }
        daemon.wait();
    }
    let daemon = Daemon::start(setup.command(&["run"]));
    let raised = 2 * 60 * kills as usize;
    wait_until("every event", || {
        setup.column("SELECT id FROM events").len() == raised
    });
    wait_until("every delivery", || pending(&setup) == 0);
    drop(daemon);

    let payloads: HashMap<String, String> = setup
        .column("SELECT payload FROM events")
        .into_iter()
        .map(|text| (id_of(&text), text))
        .collect();
    let mut first: HashMap<String, Vec<i64>> = HashMap::new();
    let mut seen: HashMap<String, u32> = HashMap::new();
    for arrival in receiver.arrivals() {
        check_signature(&arrival);
        let event = body(&arrival);
        let id = arrival.headers["webhook-id"].clone();
        assert_eq!(
            payloads[&id].as_bytes(),
            arrival.body,
            "the same bytes on every attempt"
        );
        let times = seen.entry(id).or_default();
        *times += 1;
        if *times == 1 {
            let run = event["eventData"]["actorRunId"]
                .as_str()
                .unwrap()
                .to_owned();
            first
                .entry(run)
                .or_default()
                .push(event["sequence"].as_i64().unwrap());
        }
    }
    assert_eq!(seen.len(), payloads.len(), "every event arrived");
    assert!(
        first.values().all(|seqs| seqs.is_sorted()),
        "in order for each run"
    );
    assert!(
        seen.values().any(|times| *times > 1),
        "the receiver did fail"
    );
    assert_eq!(setup.sink("hook")["dead"], 0);
}

fn id_of(payload: &str) -> String {
    serde_json::from_str::<Value>(payload).unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_sync_with_a_dead_webhook_ends_and_reports_what_is_pending() {
    let mut setup = Setup::with_runs(5);
    let mut receiver = setup.receiver();
    setup.configure(&hook(&receiver, ""));
    setup.sync();
    setup.add_runs(40);
    setup.block_on(receiver.go_away());
    let output = setup.command(&["sync"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    let message = format!(
        "sink hook: 80 events to be delivered: {}: cannot connect",
        receiver.url().replace("/hook", "")
    );
    assert!(stdout(&output).contains(&message), "{}", stdout(&output));
    let sink = setup.sink("hook");
    assert_eq!(
        (&sink["state"], &sink["pending"], &sink["type"]),
        (&"failing".into(), &80.into(), &"webhook".into())
    );
    let text = stdout(&setup.bare(&["status"]).output().unwrap());
    assert!(text.contains("hook  webhook       80     0"), "{text}");

    setup.block_on(receiver.come_back()).unwrap();
    let all = setup
        .bare(&["deliveries", "retry", "--all"])
        .output()
        .unwrap();
    assert!(
        stdout(&all).contains("to be tried again"),
        "{}",
        stderr(&all)
    );
    setup.sync();
    assert_eq!(receiver.count(), 80);
    assert_eq!(setup.sink("hook")["state"], "ok");
}

#[test]
fn refused_events_are_set_aside_listed_retried_and_dropped() {
    let mut setup = Setup::with_runs(5);
    let receiver = setup.receiver();
    setup.configure(&hook(&receiver, "events = [\"ACTOR.RUN.CREATED\"]"));
    setup.sync();
    setup.add_runs(3);
    receiver.set_reaction(|_| Reaction::Status(422));
    let output = setup.sync();
    assert!(
        stdout(&output).contains("sink hook: 3 events set aside"),
        "{}",
        stdout(&output)
    );
    assert_eq!(receiver.count(), 3, "once each");

    setup.add_runs(50);
    receiver.set_reaction(|_| Reaction::Status(410));
    let output = setup.sync();
    assert!(
        stderr(&output).contains("ERROR") && stderr(&output).contains("gone for good"),
        "{}",
        stderr(&output)
    );
    assert_eq!(setup.sink("hook")["dead"], 53);
    assert!(receiver.count() < 30, "the rest was not tried");

    let list = |arguments: &[&str]| -> Vec<Value> {
        let output = setup
            .bare(&[&["deliveries", "list", "--json"], arguments].concat())
            .output()
            .unwrap();
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let dead = list(&[]);
    assert_eq!(dead.len(), 53);
    assert_eq!(
        (&dead[0]["state"], &dead[0]["seq"], &dead[0]["attempts"]),
        (&"dead".into(), &1.into(), &1.into())
    );
    assert!(
        dead[0]["last_error"]
            .as_str()
            .unwrap()
            .ends_with("422 Unprocessable Entity"),
        "{}",
        dead[0]
    );
    assert_eq!(list(&["--sink", "other"]).len(), 0);
    let table = stdout(&setup.bare(&["deliveries", "list"]).output().unwrap());
    assert_eq!(table.lines().count(), 54, "{table}");

    // A running daemon must notice the change.
    receiver.set_reaction(|_| Reaction::Status(204));
    let daemon = Daemon::start(setup.command(&["run"]));
    daemon.log_line("mirroring");
    let before = receiver.count();
    let output = setup
        .bare(&["deliveries", "retry", "1", "3"])
        .output()
        .unwrap();
    assert_eq!(
        stdout(&output),
        "2 deliveries to be tried again\n",
        "{}",
        stderr(&output)
    );
    wait_until("the retried events", || receiver.count() == before + 2);
    let output = setup
        .bare(&["deliveries", "drop", "--all", "--sink", "hook"])
        .output()
        .unwrap();
    assert_eq!(
        stdout(&output),
        "51 deliveries dropped\n",
        "{}",
        stderr(&output)
    );
    assert_eq!(
        (list(&[]).len(), setup.column("SELECT id FROM events").len()),
        (0, 106),
        "the events stay"
    );
    assert!(
        !setup
            .bare(&["deliveries", "drop"])
            .status()
            .unwrap()
            .success(),
        "drop what?"
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let mut setup = Setup::with_runs(1);
    let (receiver, elsewhere) = (setup.receiver(), setup.receiver());
    setup.configure(&hook(&receiver, &format!("secret = \"{SECRET}\"")));
    setup.sync();
    let target = elsewhere.url();
    receiver.set_reaction(move |_| Reaction::Redirect(target.clone()));
    setup.add_runs(1);
    let output = setup.command(&["sync"]).output().unwrap();
    assert!(
        stdout(&output).contains("307 Temporary Redirect; redirects are not followed"),
        "{}",
        stdout(&output)
    );
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn retry_after_is_honoured() {
    let mut setup = Setup::with_runs(1);
    let receiver = setup.receiver();
    setup.configure(&hook(&receiver, "events = [\"ACTOR.RUN.CREATED\"]"));
    setup.sync();
    receiver.set_reaction(|_| Reaction::RetryAfter(503, "1800".into()));
    setup.add_runs(1);
    setup.command(&["sync"]).output().unwrap();
    let wait = "SELECT CAST(round((julianday(due_at) - julianday(last_attempt_at)) * 86400) AS INTEGER) || '' FROM deliveries";
    assert_eq!(setup.column(wait), ["1800"]);
    setup.command(&["sync"]).output().unwrap();
    assert_eq!(receiver.count(), 1, "the wait survives a restart");
}

#[test]
fn a_dead_sink_delays_neither_polls_nor_other_sinks() {
    let mut setup = Setup::with_runs(5);
    let (dead, receiver) = (setup.receiver(), setup.receiver());
    dead.set_reaction(|_| Reaction::Hang);
    setup.configure(&(hook(&dead, "") + &hook_section("healthy", &receiver, "")));
    let mut daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    for round in 1..=5 {
        setup.add_runs(20);
        wait_until("the events at the healthy sink", || {
            receiver.count() == 40 * round
        });
    }
    wait_until("an attempt at the dead sink", || dead.count() > 0);
    let began = std::time::Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    // The attempts would hang for 30 s.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn a_full_pipe_on_standard_output_does_not_prevent_stopping() {
    for (command, code) in [("run", 0), ("sync", 75)] {
        let setup = Setup::with_runs(3_000);
        let mut command = setup.command(&[command]);
        command.env("APIFY_MIRROR_SYNC__HISTORY_EVENTS", "true");
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = command
            .stdout(writer)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // More than the capacity of a pipe.
        wait_until("events", || {
            setup
                .try_column("SELECT max(seq) || '' FROM events WHERE seq > 5000")
                .is_some()
        });
        signal(&child, "TERM");
        wait_until("its end", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        drop(reader);
    }
}

#[test]
fn secrets_appear_only_in_requests_to_the_receiver() {
    let mut setup = Setup::with_runs(5);
    let mut receiver = setup.receiver();
    // It answers with an error.
    receiver.set_reaction(|_| Reaction::Status(500));
    let path = setup.dir.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let url = format!("{}/T0KEN/path?key=hunter2", receiver.url());
    let config = |secret: &str| {
        format!(
            "[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}\"\n{secret}\nheaders = {{ authorization = \"Bearer hunter2\" }}\n\
             [[sinks]]\nname = \"env\"\ntype = \"exec\"\ncommand = [\"env\"]\n"
        )
    };
    let mut printed = String::new();
    for (secret, variable) in [
        (format!("secret = \"{SECRET}\""), ""),
        (format!("secret_file = \"{}\"", path.display()), ""),
        ("secret_env = \"HOOK_SECRET\"".to_owned(), SECRET),
    ] {
        setup.configure(&config(&secret));
        for command in [
            &["sync", "-vv"][..],
            &["check", "--online"],
            &["status"],
            &["status", "--json"],
            &["deliveries", "list"],
        ] {
            let output = setup
                .command(command)
                .env("HOOK_SECRET", variable)
                .output()
                .unwrap();
            printed += &(stdout(&output) + &stderr(&output));
        }
        setup.add_runs(12);
    }
    setup.block_on(receiver.go_away());
    printed += &stderr(
        &setup
            .command(&["sync", "-vv"])
            .env("HOOK_SECRET", SECRET)
            .output()
            .unwrap(),
    );
    // A syntax error in the line of the secret, and the secret in the wrong keys.
    for mistake in [
        format!("secret = \"{SECRET}"),
        format!("secret_env = \"{SECRET}\""),
        format!("secret_file = \"{SECRET}\""),
    ] {
        setup.configure(&config(&mistake));
        let output = setup.command(&["sync"]).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        printed += &stderr(&output);
    }
    assert!(
        printed.contains("500 Internal Server Error") && printed.contains("APIFY_EVENT_TYPE"),
        "{printed}"
    );
    let arrival = receiver.arrivals().remove(0);
    assert_eq!(arrival.headers["authorization"], "Bearer hunter2");
    check_signature(&arrival);
    let bodies: String = receiver
        .arrivals()
        .iter()
        .map(|arrival| String::from_utf8_lossy(&arrival.body).into_owned())
        .collect();
    let database = std::fs::read(setup.database()).unwrap();
    for secret in [TOKEN, SECRET, &SECRET[6..], "hunter2", "T0KEN"] {
        assert!(!printed.contains(secret), "{secret}:\n{printed}");
        assert!(!bodies.contains(secret), "{secret}");
        assert!(
            !database
                .windows(secret.len())
                .any(|bytes| bytes == secret.as_bytes()),
            "{secret}"
        );
    }
}
