//! The families of metrics: their names, which other people's alerts and dashboards depend on, and what each shows.

use super::exposition::{Exposition, Kind, Labels};
use crate::api::RequestCounts;
use crate::daemon::Counters;
use crate::model::{RunStatus, Timestamp};
use crate::store::{Condition, FeedHealth, Health, SinkStatus};

/// The most feeds, and the most sinks, that have samples of their own.
const MAX_LABELLED: usize = 200;

/// What all runs in statuses that this version does not know are counted under.
const OTHER: &str = "other";

/// What is shown.
pub struct Scraped<'a> {
    /// The feeds that are polled.
    pub feeds: Vec<FeedHealth>,
    /// How the database is.
    pub health: &'a Health,
    /// How many runs there are in each status, if that is known.
    pub runs: Option<&'a [(RunStatus, u64)]>,
    /// What sinks are owed, if that is known.
    pub sinks: Option<&'a [SinkStatus]>,
    /// What has become of requests.
    pub requests: &'a RequestCounts,
    /// What the daemon has done.
    pub counters: &'a Counters,
}

/// Writes every family.
pub fn write(to: &mut Exposition, scraped: &Scraped<'_>) {
    build(to, scraped.health);
    requests(to, scraped.requests);
    feeds(to, &scraped.feeds);
    runs(to, scraped.runs);
    mirrored(to, scraped.counters);
    owed(to, scraped.sinks.unwrap_or_default());
    delivered(to, scraped.counters);
    database(to, scraped.health);
}

fn build(to: &mut Exposition, health: &Health) {
    let schema = health.schema_version.to_string();
    to.family(
        Kind::Gauge,
        "apify_mirror_build_info",
        "The version of the program and of the database's schema; always 1.",
    )
    .sample(
        &[("version", env!("CARGO_PKG_VERSION")), ("schema", &schema)],
        1,
    );
}

fn requests(to: &mut Exposition, counts: &RequestCounts) {
    let mut family = to.family(
        Kind::Counter,
        "apify_mirror_api_requests_total",
        "Attempts of requests to the API, by what was asked for and what came of it.",
    );
    for (endpoint, outcome, count) in counts.outcomes() {
        family.sample(
            &[("endpoint", endpoint.name()), ("outcome", outcome)],
            count,
        );
    }
    to.family(
        Kind::Histogram,
        "apify_mirror_api_request_duration_seconds",
        "How long attempts of requests to the API take, from connecting to the last byte.",
    )
    .histogram(&[], &counts.seconds.read());
}

fn feeds(to: &mut Exposition, feeds: &[FeedHealth]) {
    let mut family = to.family(
        Kind::Gauge,
        "apify_mirror_feeds",
        "Lists of runs that are polled, by their state.",
    );
    for state in Condition::ALL {
        let count = feeds.iter().filter(|feed| feed.state == *state).count();
        family.sample(&[("state", state.name())], count);
    }
    let mut family = to.family(
        Kind::Gauge,
        "apify_mirror_feed_last_success_timestamp_seconds",
        "When the feed was last polled with success; 0 if never. With more than 200 feeds, one sample: the least recent.",
    );
    let last = |feed: &FeedHealth| feed.last_success_at.unwrap_or_default();
    if feeds.len() > MAX_LABELLED {
        let oldest = feeds.iter().map(last).min().unwrap_or_default();
        return family.time(&[], oldest);
    }
    for feed in feeds {
        family.time(&[("feed", &feed.id), ("task", &feed.task)], last(feed));
    }
}

fn runs(to: &mut Exposition, counts: Option<&[(RunStatus, u64)]>) {
    let mut family = to.family(
        Kind::Gauge,
        "apify_mirror_runs",
        "Runs in the mirror that the account still lists, by status. Counted anew at most 2 % of the time.",
    );
    let Some(counts) = counts else { return };
    let count_of = |status: &RunStatus| {
        let counted = counts.iter().find(|(counted, _)| counted == status);
        counted.map_or(0, |(_, count)| *count)
    };
    for status in RunStatus::ACTIVE.iter().chain(&RunStatus::TERMINAL) {
        family.sample(&[("status", status.as_str())], count_of(status));
    }
    let others = counts
        .iter()
        .filter(|(status, _)| matches!(status, RunStatus::Other(_)));
    let others: u64 = others.map(|(_, count)| count).sum();
    family.sample(&[("status", OTHER)], others);
}

fn mirrored(to: &mut Exposition, counters: &Counters) {
    let mut family = to.family(
        Kind::Counter,
        "apify_mirror_run_changes_total",
        "Runs that were stored because they changed, by what changed.",
    );
    for (change, count) in counters.changes() {
        family.sample(&[("change", change)], count);
    }
    let mut family = to.family(
        Kind::Counter,
        "apify_mirror_events_total",
        "Events raised, by type.",
    );
    for (kind, count) in counters.events() {
        family.sample(&[("type", &kind)], count);
    }
    to.family(
        Kind::Histogram,
        "apify_mirror_commit_duration_seconds",
        "How long commits to the database take, from asking for one until it is on disk.",
    )
    .histogram(&[], &counters.commit_seconds.read());
    to.family(
        Kind::Counter,
        "apify_mirror_cursor_corrections_total",
        "How often a list was read further back than its cursor says, as after deletions.",
    )
    .sample(&[], counters.corrections.get());
}

fn owed(to: &mut Exposition, sinks: &[SinkStatus]) {
    let sinks = &sinks[..sinks.len().min(MAX_LABELLED)];
    let mut family = to.family(
        Kind::Gauge,
        "apify_mirror_deliveries",
        "Events that a sink is owed (pending), or that were set aside (dead).",
    );
    for sink in sinks {
        for (state, count) in [("pending", sink.pending), ("dead", sink.dead)] {
            family.sample(&[("sink", &sink.name), ("state", state)], count);
        }
    }
    let mut family = to.family(
        Kind::Gauge,
        "apify_mirror_oldest_pending_delivery_timestamp_seconds",
        "When the change was observed that the oldest event tells of which a sink is owed; absent where it is owed none.",
    );
    for sink in sinks {
        if let Some(oldest) = sink.oldest.as_deref().and_then(Timestamp::parse) {
            family.time(&[("sink", &sink.name)], oldest);
        }
    }
}

fn delivered(to: &mut Exposition, counters: &Counters) {
    let sinks = counters.sinks();
    let mut family = to.family(
        Kind::Counter,
        "apify_mirror_delivery_attempts_total",
        "Attempts to deliver an event, by sink and what came of it.",
    );
    for (sink, counters) in &sinks {
        for (outcome, count) in counters.attempts() {
            family.sample(&[("sink", sink), ("outcome", outcome)], count);
        }
    }
    let mut family = to.family(
        Kind::Histogram,
        "apify_mirror_event_delivery_delay_seconds",
        "How long after its change was observed an event was delivered, by sink.",
    );
    for (sink, counters) in &sinks {
        let labels: &Labels<'_> = &[("sink", sink)];
        family.histogram(labels, &counters.delay_seconds.read());
    }
}

fn database(to: &mut Exposition, health: &Health) {
    to.family(
        Kind::Gauge,
        "apify_mirror_unreadable_items",
        "Items of lists that could not be stored as runs; see the table unreadable_items.",
    )
    .sample(&[], health.unreadable_items);
    let mut family = to.family(
        Kind::Gauge,
        "apify_mirror_database_size_bytes",
        "Sizes of the files that the database is made of.",
    );
    for (file, size) in &health.files {
        family.sample(&[("file", file)], size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(n: i64, state: Condition, last: Option<i64>) -> FeedHealth {
        FeedHealth {
            id: format!("id{n}"),
            task: format!("janedoe~task{n}"),
            state,
            last_success_at: last.map(Timestamp::from_millis),
        }
    }

    #[test]
    fn feeds_are_shown_one_by_one_as_long_as_there_are_few() {
        let mut text = Exposition::default();
        let few = [
            feed(1, Condition::Ok, Some(1_500)),
            feed(2, Condition::NotFound, None),
        ];
        feeds(&mut text, &few);
        let text = text.finish();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"apify_mirror_feeds{state="ok"} 1"#,
                r#"apify_mirror_feeds{state="first sync"} 0"#,
                r#"apify_mirror_feeds{state="failing"} 0"#,
                r#"apify_mirror_feeds{state="not found"} 1"#,
                r#"apify_mirror_feeds{state="forbidden"} 0"#,
                r#"apify_mirror_feed_last_success_timestamp_seconds{feed="id1",task="janedoe~task1"} 1.5"#,
                r#"apify_mirror_feed_last_success_timestamp_seconds{feed="id2",task="janedoe~task2"} 0"#,
            ]
        );
    }

    #[test]
    fn of_many_feeds_the_least_recent_is_shown() {
        let many = |count: i64| {
            let mut text = Exposition::default();
            let many: Vec<_> = (1..=count)
                .map(|n| feed(n, Condition::Ok, Some(n * 1_000)))
                .collect();
            feeds(&mut text, &many);
            text.finish()
        };
        let all = many(200);
        assert_eq!(all.matches("feed=").count(), 200);
        let oldest = many(201);
        assert!(!oldest.contains("feed="), "{oldest}");
        assert!(oldest.ends_with("\napify_mirror_feed_last_success_timestamp_seconds 1\n"));
    }

    #[test]
    fn statuses_that_are_not_known_count_as_one() {
        let shown = |counts: Option<&[(RunStatus, u64)]>| {
            let mut text = Exposition::default();
            runs(&mut text, counts);
            text.finish()
        };
        let other = |name: &str| RunStatus::Other(name.to_owned());
        let counts = [(RunStatus::Ready, 3), (other("A"), 4), (other("B\"}"), 5)];
        let text = shown(Some(&counts));
        for sample in [
            r#"runs{status="READY"} 3"#,
            r#"runs{status="TIMED-OUT"} 0"#,
            r#"runs{status="other"} 9"#,
        ] {
            assert!(text.contains(sample), "{sample}: {text}");
        }
        assert_eq!(text.lines().count(), 2 + 9);
        assert_eq!(shown(None).lines().count(), 2, "not known is not none");
    }
}
