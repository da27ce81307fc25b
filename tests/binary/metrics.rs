//! `/metrics`: what it says is what the database and the account say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Fault, Faults, Reaction};

use crate::site::{Site, serving};
use crate::support::{Daemon, Setup, wait_until};

/// Samples by their names with labels, as they are written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(site: &Site) -> Self {
        Self::read(&site.metrics())
    }

    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut read = BTreeMap::new();
        for sample in samples {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            let before = read.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "twice: {name}");
        }
        Self(read)
    }

    /// A value, without the prefix of its name.
    #[track_caller]
    fn get(&self, name: &str) -> f64 {
        let value = self.try_get(name);
        value.unwrap_or_else(|| panic!("{name} is not in {:#?}", self.0.keys()))
    }

    fn try_get(&self, name: &str) -> Option<f64> {
        self.0.get(&format!("apify_mirror_{name}")).copied()
    }

    /// The values of a family that are not 0, by the value of its label.
    fn family(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let begin = format!("apify_mirror_{name}{{{label}=\"");
        let value = |(sample, value): (&String, &f64)| {
            let label = sample.strip_prefix(&begin)?.strip_suffix("\"}")?;
            (*value != 0.0).then(|| (label.to_owned(), *value))
        };
        self.0.iter().filter_map(value).collect()
    }
}

/// The rows of a query: a text and a number.
fn counts(setup: &Setup, sql: &str) -> BTreeMap<String, f64> {
    let db = setup.db();
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_is_shown_is_what_the_database_says() {
    let setup = Setup::with_runs(50);
    let receiver = setup.receiver();
    // The events of every run's creation are refused, which sets them aside; of others, the receiver never says anything.
    receiver.set_reaction(|arrival| {
        let body = String::from_utf8_lossy(&arrival.body).into_owned();
        match body.contains("ACTOR.RUN.CREATED") {
            true => Reaction::Status(400),
            false => Reaction::Hang,
        }
    });
    setup.configure(&format!(
        "[sync]\npoll_interval = \"100ms\"\nwatch_interval = \"0s\"\n\
         [[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\n\
         [[sinks]]\nname = \"out\"\ntype = \"stdout\"\n",
        receiver.url()
    ));
    let daemon = Daemon::start_synced(&setup, serving(&setup));
    let site = Site::of(&daemon);
    site.wait_until_ready();
    let ids: Vec<String> = {
        let mut world = setup.server.world();
        let ids = (0..5)
            .map(|_| world.create(&setup.task, Timestamp::now()))
            .collect::<Vec<_>>();
        world.set_status(&ids[1], RunStatus::Running);
        world.finish(&ids[2], RunStatus::TimedOut, Timestamp::now());
        world.set_status(&ids[3], RunStatus::Other("ON-HOLD".to_owned()));
        ids
    };
    wait_until("all to be set aside", || setup.sink("hook")["dead"] == 5);
    setup.server.world().delete(&ids[4]);
    wait_until("the deletion to be seen", || {
        let removed = "SELECT id FROM runs WHERE removed_at IS NOT NULL";
        setup.try_column(removed).is_some_and(|id| id == ids[4])
    });
    wait_until("all to be written", || setup.sink("out")["pending"] == 0);

    let scrape = Scrape::of(&site);
    let mut runs = counts(
        &setup,
        "SELECT status, count(*) FROM runs WHERE removed_at IS NULL GROUP BY status",
    );
    let unknown = runs.remove("ON-HOLD").unwrap();
    runs.insert("other".to_owned(), unknown);
    assert_eq!(runs.len(), 6, "{runs:?}");
    assert_eq!(scrape.family("runs", "status"), runs);

    let mut events = counts(&setup, "SELECT type, count(*) FROM events GROUP BY type");
    if let Some(unknown) = events.remove("ACTOR.RUN.ON_HOLD") {
        events.insert("other".to_owned(), unknown);
    }
    assert!(events.contains_key("ACTOR.RUN.TIMED_OUT"), "{events:?}");
    assert_eq!(scrape.family("events_total", "type"), events);

    let changes = scrape.family("run_changes_total", "change");
    assert_eq!(
        (changes["new"], changes["removed"]),
        (55.0, 1.0),
        "{changes:?}"
    );

    let owed = |state: &str| {
        counts(
            &setup,
            &format!("SELECT 'n', count(*) FROM deliveries WHERE dead_at {state}"),
        )["n"]
    };
    assert_eq!(
        scrape.get("deliveries{sink=\"hook\",state=\"dead\"}"),
        owed("IS NOT NULL")
    );
    assert_eq!(
        scrape.get("deliveries{sink=\"hook\",state=\"pending\"}"),
        owed("IS NULL")
    );
    assert_eq!(
        scrape.get("deliveries{sink=\"out\",state=\"pending\"}"),
        0.0
    );
    let refused = "delivery_attempts_total{sink=\"hook\",outcome=\"refused\"}";
    assert_eq!(scrape.get(refused), owed("IS NOT NULL"));
    let raised: f64 = events.values().sum();
    let delivered = "delivery_attempts_total{sink=\"out\",outcome=\"delivered\"}";
    assert_eq!(scrape.get(delivered), raised);
    assert_eq!(
        scrape.get("event_delivery_delay_seconds_count{sink=\"out\"}"),
        raised
    );
    assert!(scrape.get("event_delivery_delay_seconds_bucket{sink=\"out\",le=\"60\"}") == raised);
    let oldest = setup.column(
        "SELECT min(observed_at) FROM events JOIN deliveries USING (seq) WHERE dead_at IS NULL",
    );
    let oldest = Timestamp::parse(&oldest[0]).unwrap().as_millis() as f64 / 1_000.0;
    assert_eq!(
        scrape.get("oldest_pending_delivery_timestamp_seconds{sink=\"hook\"}"),
        oldest
    );
    assert_eq!(
        scrape.try_get("oldest_pending_delivery_timestamp_seconds{sink=\"out\"}"),
        None
    );

    assert_eq!(
        scrape.family("feeds", "state"),
        BTreeMap::from([("ok".to_owned(), 1.0)])
    );
    let task = &setup.task;
    let now = Timestamp::now().as_millis() as f64 / 1_000.0;
    let last =
        format!("feed_last_success_timestamp_seconds{{feed=\"{task}\",task=\"janedoe~my-task\"}}");
    // To the moment, where the database has it to the minute.
    assert!((now - 30.0..=now).contains(&scrape.get(&last)), "{now}");
    let version = counts(&setup, "SELECT 'n', user_version FROM pragma_user_version")["n"];
    let build = format!(
        "build_info{{version=\"{}\",schema=\"{version}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(scrape.get(&build), 1.0);
    assert_eq!(scrape.get("unreadable_items"), 0.0);
    // Until the log is written back.
    wait_until("the size", || {
        let size = std::fs::metadata(setup.database()).unwrap().len() as f64;
        Scrape::of(&site).get("database_size_bytes{file=\"main\"}") == size
    });
    assert!(scrape.get("commit_duration_seconds_count") >= 3.0);
    if cfg!(target_os = "linux") {
        for name in [
            "resident_memory_bytes",
            "open_fds",
            "max_fds",
            "start_time_seconds",
            "cpu_seconds_total",
        ] {
            let value = scrape.0[&format!("process_{name}")];
            assert!(value > 0.0, "{name} is {value}");
        }
    }
}

#[test]
fn requests_are_counted_by_what_came_of_them() {
    let setup = Setup::with_runs(5);
    let daemon = Daemon::start_synced(&setup, serving(&setup));
    let site = Site::of(&daemon);
    let scrape = Scrape::of(&site);
    assert_eq!(
        scrape.get("api_requests_total{endpoint=\"task\",outcome=\"ok\"}"),
        1.0
    );
    assert!(scrape.get("api_requests_total{endpoint=\"runs\",outcome=\"ok\"}") >= 1.0);
    setup.server.set_faults(Faults::always(Fault::Status(400)));
    let failed = "api_requests_total{endpoint=\"runs\",outcome=\"other\"}";
    wait_until("failures", || Scrape::of(&site).get(failed) >= 2.0);
    let scrape = Scrape::of(&site);
    let all: f64 = scrape
        .0
        .iter()
        .filter(|(name, _)| name.contains("api_requests_total{"))
        .map(|(_, count)| count)
        .sum();
    assert!(scrape.get("api_request_duration_seconds_count") >= all - 1.0);
    wait_until("the feed to fail", || {
        Scrape::of(&site).family("feeds", "state") == BTreeMap::from([("failing".to_owned(), 1.0)])
    });
}

#[test]
fn reading_further_back_is_counted() {
    let setup = Setup::with_runs(500);
    let daemon = Daemon::start_synced(&setup, serving(&setup));
    let site = Site::of(&daemon);
    site.wait_until_ready();
    assert_eq!(Scrape::of(&site).get("cursor_corrections_total"), 0.0);
    setup.server.world().retain_newest(&setup.task, 100);
    wait_until("a correction", || {
        Scrape::of(&site).get("cursor_corrections_total") >= 1.0
    });
}

#[test]
fn names_of_tasks_cannot_forge_samples() {
    let setup = Setup::with_runs(5);
    let name = "a\"} 1\nforged{x=\"\\\u{1b}";
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.name = name.to_owned());
    let mut command = serving(&setup);
    command.env("APIFY_MIRROR_TASKS", &setup.task);
    let daemon = Daemon::start_synced(&setup, command);
    let site = Site::of(&daemon);
    site.wait_until_ready();
    let label = r#"task="janedoe~a\"} 1\\nforged{x=\"\\\\u{1b}""#;
    let text = site.metrics();
    assert!(text.contains(label), "{text}");
    assert!(!text.contains("\nforged"), "{text}");
}

#[test]
fn a_task_that_is_not_mirrored_any_more_is_not_shown_as_stale() {
    let setup = Setup::with_runs(5);
    let other = setup.server.world().add_task("janedoe", "other");
    let mut both = serving(&setup);
    both.env("APIFY_MIRROR_TASKS", format!("{},{other}", setup.task));
    let daemon = Daemon::start(both);
    let site = Site::of(&daemon);
    site.wait_until_ready();
    let feeds = |scrape: &Scrape| {
        let is_success = |name: &&String| name.contains("feed_last_success_timestamp_seconds{");
        scrape.0.keys().filter(is_success).count()
    };
    assert_eq!(feeds(&Scrape::of(&site)), 2);
    drop(daemon);
    let daemon = Daemon::start(serving(&setup));
    let site = Site::of(&daemon);
    site.wait_until_ready();
    let scrape = Scrape::of(&site);
    assert_eq!(
        (feeds(&scrape), scrape.get("feeds{state=\"ok\"}")),
        (1, 1.0)
    );
}

/// Alerts on names that do not exist would never fire.
#[test]
fn every_name_in_the_alert_rules_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml");
    let rules = std::fs::read_to_string(path).unwrap();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = rules.split(|c| !is_name(c));
    let names: BTreeSet<&str> = words
        .filter(|word| word.starts_with("apify_mirror_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > 5, "{names:?}");

    let mut setup = Setup::with_runs(5);
    let receiver = setup.receiver();
    receiver.set_reaction(|_| Reaction::Hang);
    setup.configure(&format!(
        "[sync]\npoll_interval = \"100ms\"\n[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url()
    ));
    let daemon = Daemon::start_synced(&setup, serving(&setup));
    let site = Site::of(&daemon);
    setup.add_runs(1);
    wait_until("an attempt", || receiver.count() > 0);
    let scrape = Scrape::of(&site);
    let known: BTreeSet<&str> = scrape
        .0
        .keys()
        .map(|sample| sample.split('{').next().unwrap())
        .collect();
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not among {known:#?}");

    // And the values of labels that they name.
    for (name, value) in [
        ("state", "dead"),
        ("state", "not found"),
        ("outcome", "token refused"),
        ("file", "wal"),
    ] {
        assert!(rules.contains(value), "{value}");
        let label = format!("{name}=\"{value}\"");
        assert!(
            scrape.0.keys().any(|sample| sample.contains(&label)),
            "{label}"
        );
    }
}
