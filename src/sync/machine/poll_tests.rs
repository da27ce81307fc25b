//! Polls, command by command, against a list held in memory.

use std::cell::Cell;

use super::base::Machine;
use crate::sync::cursor::{Cursor, Watermark};
use crate::sync::diff::Baseline;
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::{
    Command, Commit, FeedState, Input, OpenRun, OpenRuns, Outcome, ReadFailure, Settings, Stall,
};
use crate::sync::testing::{self, List, at, drive, item, settings, stored};

pub(super) const COMMITTED: Input = Input::Committed {
    unconfirmed: Vec::new(),
};

/// When polls take place. The watch read was just made.
pub(super) const NOW: i64 = 100_000;

pub(super) fn caught_up(offset: u64, second: i64) -> FeedState {
    testing::caught_up(offset, second, NOW)
}

/// Polls once; returns the requests it takes, as text, and how the poll ended.
pub(super) fn poll(
    machine: &mut Machine,
    list: &List,
    open: OpenRuns,
    distances: &[u64],
    now: i64,
) -> (Vec<String>, Outcome) {
    let mut requests = Vec::new();
    let answer = |command: Command| {
        requests.extend(testing::requests(&command));
        match command {
            Command::LoadOpen { .. } => Input::Open(open.clone()),
            Command::Locate(_) => Input::Located(distances.to_vec()),
            Command::Read { windows, .. } => list.pages(&windows),
            Command::ReadRuns(ids) => list.runs(&ids),
            other => stored(other),
        }
    };
    let (_, outcome) = drive(machine, || now, answer);
    (requests, outcome)
}

pub(super) fn quiet_poll(feed: FeedState, list: &List) -> (Vec<String>, Outcome, FeedState) {
    let mut machine = Machine::new(settings(), feed);
    let (requests, outcome) = poll(&mut machine, list, OpenRuns::default(), &[], NOW);
    (requests, outcome, machine.feed().clone())
}

pub(super) fn open(active: bool, ids: &[&str], reach: u64) -> OpenRuns {
    OpenRuns {
        runs: ids
            .iter()
            .map(|id| OpenRun {
                id: (*id).to_owned(),
                active,
            })
            .collect(),
        reach,
    }
}

#[test]
fn the_first_poll_reads_the_baseline_then_from_offset_0() {
    let (requests, outcome, feed) = quiet_poll(FeedState::default(), &List::of(0..1_500));
    assert_eq!(requests, ["Newest 0", "All 0", "All 998", "Active 0"]);
    assert_eq!(outcome, Outcome::CaughtUp);
    assert_eq!(feed.baseline, Some(Baseline::UpTo(at(1_499))));
    assert_eq!(
        feed.cursor,
        Cursor {
            offset: 1_500,
            tail: 1,
            watermark: Some(Watermark {
                started: at(1_499),
                id: "r1499".into()
            })
        }
    );
    assert!(feed.complete);
}

#[test]
fn an_empty_list_has_no_history_and_no_watermark() {
    let (requests, _, feed) = quiet_poll(FeedState::default(), &List::of(0..0));
    assert_eq!(requests, ["Newest 0", "All 0", "Active 0"]);
    assert_eq!(
        (feed.baseline, feed.cursor),
        (Some(Baseline::Nothing), Cursor::default())
    );
}

#[test]
fn an_idle_poll_is_one_request() {
    let (requests, outcome, feed) = quiet_poll(caught_up(500, 499), &List::of(0..500));
    assert_eq!(requests, ["All 479"]);
    assert_eq!((outcome, feed), (Outcome::CaughtUp, caught_up(500, 499)));
}

#[test]
fn without_overlap_a_poll_begins_one_entry_before_the_watermark() {
    let mut machine = Machine::new(
        Settings {
            overlap: 0,
            ..settings()
        },
        caught_up(500, 499),
    );
    let (requests, _) = poll(
        &mut machine,
        &List::of(0..500),
        OpenRuns::default(),
        &[],
        NOW,
    );
    assert_eq!(requests, ["All 498"]);
}

#[test]
fn a_poll_steps_back_after_deletions_before_the_cursor() {
    // Where a list of 0..2,500 begins and ends after deletions and additions, and the reads that follow.
    let cases: [(i64, i64, &[&str]); 5] = [
        (10, 2_510, &["All 2479"]),
        (300, 2_501, &["All 2479", "All 2181"]),
        (
            300,
            4_000,
            &[
                "All 2479", "All 2459", "All 2419", "All 2339", "All 2179", "All 3177",
            ],
        ),
        (
            2_400,
            2_600,
            &["All 2479", "All 180", "All 140", "All 60", "All 198"],
        ),
        (2_500, 2_503, &["All 2479", "All 0"]),
    ];
    for (from, to, expected) in cases {
        let list = List::of(from..to);
        let (requests, outcome, feed) = quiet_poll(caught_up(2_500, 2_499), &list);
        assert_eq!(requests, expected, "{from}..{to}");
        assert_eq!(outcome, Outcome::CaughtUp);
        assert_eq!(feed.cursor.offset, list.items.len() as u64);
        assert_eq!(feed.cursor.watermark.unwrap().started, at(to - 1));
    }
}

#[test]
fn an_emptied_list_keeps_the_watermark() {
    let (requests, outcome, feed) = quiet_poll(caught_up(2_500, 2_499), &List::of(0..0));
    assert_eq!(requests, ["All 2479", "All 0"]);
    assert_eq!(outcome, Outcome::CaughtUp);
    assert_eq!(
        (feed.cursor.offset, feed.cursor.watermark),
        (0, caught_up(0, 2_499).cursor.watermark)
    );
}

#[test]
fn a_server_with_small_pages_is_followed_page_by_page() {
    let mut list = List::of(0..450);
    list.cap = 100;
    let (requests, outcome, feed) = quiet_poll(FeedState::default(), &list);
    // A short page is not the end of the list, and its size decides where the next pages begin.
    assert_eq!(
        requests,
        [
            "Newest 0", "All 0", "All 98", "All 196", "All 294", "All 392", "Active 0"
        ]
    );
    assert_eq!((outcome, feed.cursor.offset), (Outcome::CaughtUp, 450));
}

#[test]
fn a_server_that_ignores_offsets_ends_the_poll() {
    let mut list = List::of(0..1_500);
    list.ignores_offset = true;
    let (_, outcome, feed) = quiet_poll(FeedState::default(), &list);
    assert_eq!(
        (outcome, feed.cursor.offset),
        (Outcome::Stalled(Stall::OffsetIgnored), 1_000)
    );
    list.items.truncate(700);
    assert_eq!(
        quiet_poll(FeedState::default(), &list).1,
        Outcome::CaughtUp,
        "one page that holds everything is complete"
    );
}

#[test]
fn open_runs_within_a_page_cost_nothing_extra() {
    let mut list = List::of(0..2_000);
    list.set("r1300", "RUNNING");
    let mut machine = Machine::new(settings(), caught_up(2_000, 1_999));
    let (requests, _) = poll(
        &mut machine,
        &list,
        open(true, &["r1300", "r1990"], 700),
        &[],
        NOW,
    );
    assert_eq!(requests, ["All 1299"]);
}

#[test]
fn one_filtered_read_shows_which_open_runs_are_active() {
    let mut list = List::of(0..5_000);
    list.set("r10", "RUNNING");
    let ids = ["r10", "r900", "r1900"];
    let mut machine = Machine::new(settings(), caught_up(5_000, 4_999));
    let (requests, _) = poll(&mut machine, &list, open(true, &ids, 0), &[], NOW);
    assert_eq!(requests, ["All 4979", "Active 0", "run r1900", "run r900"]);

    let mut machine = Machine::new(settings(), caught_up(5_000, 4_999));
    let (requests, _) = poll(&mut machine, &list, open(true, &["r900"], 0), &[], NOW);
    assert_eq!(
        requests,
        ["All 4979", "run r900"],
        "a single run is read by id"
    );
    let mut machine = Machine::new(settings(), caught_up(5_000, 4_999));
    let ended = open(false, &["r900", "r901"], 0);
    let (requests, _) = poll(&mut machine, &list, ended, &[], NOW);
    assert_eq!(
        requests,
        ["All 4979", "run r900", "run r901"],
        "runs that have ended are not looked for among the active"
    );
}

#[test]
fn the_watch_read_is_due_after_its_interval_or_when_the_clock_was_set_back() {
    let list = List::of(0..500);
    for (later, due) in [(0, false), (59, false), (60, true), (-1, true)] {
        let mut machine = Machine::new(settings(), caught_up(500, 499));
        let (requests, _) = poll(&mut machine, &list, OpenRuns::default(), &[], NOW + later);
        assert_eq!(
            requests.contains(&"Active 0".to_owned()),
            due,
            "{later} s after the last"
        );
        assert_eq!(
            machine.feed().watched_at,
            Some(at(if due { NOW + later } else { NOW }))
        );
    }
}

#[test]
fn the_watch_read_never_moves_the_cursor() {
    let mut list = List::of(0..500);
    let mut machine = Machine::new(
        settings(),
        FeedState {
            watched_at: None,
            ..caught_up(500, 499)
        },
    );
    list.items.push(item("new", 600, "RUNNING"));
    let cursor = {
        let mut command = machine.step(Input::Wake, at(NOW));
        loop {
            command = match command {
                Command::LoadOpen { .. } => machine.step(Input::Open(OpenRuns::default()), at(NOW)),
                // The new run is registered between the forward read and the watch read.
                Command::Read { windows, .. } if windows[0].listing == Listing::All => machine
                    .step(
                        Input::Pages(vec![List::of(0..500).answer(&windows[0])]),
                        at(NOW),
                    ),
                Command::Read { windows, .. } => {
                    machine.step(Input::Pages(vec![list.answer(&windows[0])]), at(NOW))
                }
                Command::Commit(commit)
                    if commit.observed.iter().any(|o| o.seen.run.id == "new") =>
                {
                    break commit.feed.cursor;
                }
                Command::Commit(_) => machine.step(COMMITTED, at(NOW)),
                other => panic!("{other:?}"),
            };
        }
    };
    assert_eq!(cursor, caught_up(500, 499).cursor);
}

#[test]
fn a_server_that_ignores_the_filter_gets_one_filtered_read() {
    let list = List::of(0..5_000);
    let mut machine = Machine::new(
        settings(),
        FeedState {
            watched_at: None,
            ..caught_up(5_000, 4_999)
        },
    );
    let mut active_reads = 0;
    drive(
        &mut machine,
        || NOW,
        |command| match command {
            Command::Read { windows, .. } => {
                active_reads += usize::from(windows[0].listing == Listing::Active);
                list.pages(&[Window {
                    listing: Listing::All,
                    ..windows[0]
                }])
            }
            other => stored(other),
        },
    );
    assert_eq!(active_reads, 1);
}

#[test]
fn failed_polls_back_off_and_change_nothing() {
    let feed = caught_up(500, 499);
    let mut machine = Machine::new(settings(), feed.clone());
    let mut waits = Vec::new();
    for _ in 0..8 {
        machine.step(Input::Wake, at(NOW));
        machine.step(Input::Open(OpenRuns::default()), at(NOW));
        let Command::Sleep {
            wait,
            outcome: Outcome::Failed,
        } = machine.step(Input::Failed(ReadFailure::Temporary), at(NOW))
        else {
            panic!()
        };
        waits.push(wait.as_secs());
        assert_eq!(machine.feed(), &feed);
    }
    for (wait, nominal) in waits.iter().zip([15, 30, 60, 120, 240, 300, 300, 300]) {
        assert!(
            (nominal * 9 / 10..=nominal * 11 / 10).contains(wait),
            "{waits:?}"
        );
    }
    let (_, outcome) = poll(
        &mut machine,
        &List::of(0..500),
        OpenRuns::default(),
        &[],
        NOW,
    );
    assert_eq!(outcome, Outcome::CaughtUp, "and the next poll succeeds");
}

#[test]
fn only_the_last_commit_of_a_poll_records_a_success() {
    let list = List::of(0..500);
    let mut machine = Machine::new(settings(), caught_up(500, 499));
    let finished: Vec<bool> = commits(&mut machine, &list, &OpenRuns::default(), &[])
        .iter()
        .map(|commit| commit.finished)
        .collect();
    assert_eq!(finished, [false, true]);
}

/// Polls once, with every answer taking two seconds; returns the commits.
pub(super) fn commits(
    machine: &mut Machine,
    list: &List,
    open: &OpenRuns,
    distances: &[u64],
) -> Vec<Commit> {
    let mut commits = Vec::new();
    let now = Cell::new(NOW);
    let answer = |command| {
        if !testing::requests(&command).is_empty() {
            now.set(now.get() + 2);
        }
        match command {
            Command::LoadOpen { .. } => Input::Open(open.clone()),
            Command::Locate(_) => Input::Located(distances.to_vec()),
            Command::Commit(commit) => {
                commits.push(*commit);
                COMMITTED
            }
            Command::Read { windows, .. } => list.pages(&windows),
            Command::ReadRuns(ids) => list.runs(&ids),
            other => stored(other),
        }
    };
    drive(machine, || now.get(), answer);
    commits
}

pub(super) fn ids_of(commits: &[Commit]) -> Vec<&str> {
    commits
        .iter()
        .flat_map(|commit| &commit.observed)
        .map(|observed| observed.seen.run.id.as_str())
        .collect()
}

#[test]
fn observations_are_judged_by_when_they_were_requested() {
    let mut machine = Machine::new(settings(), caught_up(500, 499));
    let seen = commits(&mut machine, &List::of(0..500), &OpenRuns::default(), &[]);
    assert_eq!(
        (seen[0].judgement.asked_at, seen[0].judgement.now),
        (at(NOW), at(NOW + 2))
    );
}

#[test]
fn history_raises_no_events_unless_configured() {
    for (history_events, expected) in [(false, Baseline::UpTo(at(0))), (true, Baseline::Nothing)] {
        let mut machine = Machine::new(
            Settings {
                history_events,
                ..settings()
            },
            caught_up(500, 499),
        );
        let seen = commits(&mut machine, &List::of(0..500), &OpenRuns::default(), &[]);
        assert_eq!(seen[0].judgement.history, expected);
    }
}

#[test]
fn many_active_runs_are_read_page_by_page_with_an_overlap() {
    let mut list = List::of(0..0);
    list.items = (0..25)
        .map(|n| item(&format!("r{n}"), n, "RUNNING"))
        .collect();
    for (overlap, expected) in [
        (2, ["Active 0", "Active 8", "Active 16"].as_slice()),
        (
            20,
            [
                "Active 0",
                "Active 5",
                "Active 10",
                "Active 15",
                "Active 20",
            ]
            .as_slice(),
        ),
    ] {
        let settings = Settings {
            page_size: 10,
            overlap,
            ..settings()
        };
        let mut machine = Machine::new(
            settings,
            FeedState {
                watched_at: None,
                ..caught_up(25, 24)
            },
        );
        let (requests, outcome) = poll(&mut machine, &list, OpenRuns::default(), &[], NOW);
        let active: Vec<_> = requests
            .iter()
            .map(String::as_str)
            .filter(|request| request.starts_with("Active"))
            .collect();
        assert_eq!((active.as_slice(), outcome), (expected, Outcome::CaughtUp));
    }
}

#[test]
fn active_runs_are_read_within_bounds() {
    let settings = Settings {
        page_size: 10,
        overlap: 2,
        ..settings()
    };
    for (stuck, expected) in [(true, 2), (false, 100)] {
        let mut list = List::of(0..0);
        list.items = (0..2_000)
            .map(|n| item(&format!("r{n}"), n, "RUNNING"))
            .collect();
        let mut machine = Machine::new(
            settings.clone(),
            FeedState {
                watched_at: None,
                ..caught_up(2_000, 1_999)
            },
        );
        let mut reads = 0;
        drive(
            &mut machine,
            || NOW,
            |command| match command {
                Command::Read { windows, .. } => {
                    let active = windows[0].listing == Listing::Active;
                    reads += usize::from(active);
                    list.ignores_offset = active && stuck;
                    list.pages(&windows)
                }
                other => stored(other),
            },
        );
        assert_eq!(reads, expected);
    }
}

#[test]
fn small_pages_overlap_by_half_at_most() {
    let settings = Settings {
        page_size: 6,
        ..settings()
    };
    let mut machine = Machine::new(settings, caught_up(50, 49));
    let (requests, _) = poll(
        &mut machine,
        &List::of(0..50),
        OpenRuns::default(),
        &[],
        NOW,
    );
    assert_eq!(requests, ["All 46"]);
}

#[test]
fn a_limit_of_zero_is_ignored() {
    let mut machine = Machine::new(settings(), caught_up(50, 49));
    for _ in 0..2 {
        let Command::LoadOpen { within: 750, .. } = machine.step(Input::Wake, at(NOW)) else {
            panic!()
        };
        let Command::Read { windows, .. } = machine.step(Input::Open(OpenRuns::default()), at(NOW))
        else {
            panic!()
        };
        let page = Page {
            limit: Some(0),
            ..List::of(0..50).answer(&windows[0])
        };
        let mut command = machine.step(Input::Pages(vec![page]), at(NOW));
        while let Command::Commit(_) = command {
            command = machine.step(COMMITTED, at(NOW));
        }
        assert!(matches!(command, Command::Sleep { .. }), "{command:?}");
    }
}

#[test]
fn a_page_reached_by_stepping_back_may_end_before_the_cursor() {
    let mut machine = Machine::new(
        Settings {
            page_size: 10,
            overlap: 2,
            read_ahead: 1,
            ..settings()
        },
        caught_up(100, 99),
    );
    let (requests, outcome) = poll(
        &mut machine,
        &List::of(30..200),
        OpenRuns::default(),
        &[],
        NOW,
    );
    assert_eq!(
        requests[..6],
        ["All 97", "All 95", "All 91", "All 83", "All 67", "All 75"].map(String::from)
    );
    assert_eq!(
        (outcome, machine.feed().cursor.offset),
        (Outcome::CaughtUp, 170)
    );
}

#[test]
fn a_server_that_never_shows_the_beginning_ends_the_poll() {
    let mut machine = Machine::new(
        settings(),
        FeedState {
            baseline: Some(Baseline::Nothing),
            watched_at: Some(at(NOW)),
            ..FeedState::default()
        },
    );
    machine.step(Input::Wake, at(NOW));
    let Command::Read { windows, .. } = machine.step(Input::Open(OpenRuns::default()), at(NOW))
    else {
        panic!()
    };
    assert_eq!(windows[0].offset, 0);
    let elsewhere = Page {
        offset: Some(5),
        total: Some(50),
        ..List::of(5..50).answer(&windows[0])
    };
    let Command::Commit(_) = machine.step(Input::Pages(vec![elsewhere]), at(NOW)) else {
        panic!("expected a commit")
    };
    let Command::Sleep {
        outcome: Outcome::Stalled(Stall::OtherPage),
        ..
    } = machine.step(COMMITTED, at(NOW))
    else {
        panic!()
    };
}

/// Polls an unknown list of 30 runs whose newest one is shown as `newest` says; returns the baseline with which the first
/// page is judged, and the one after the poll.
fn baselines(newest: impl Fn(Page) -> Page) -> (Option<Baseline>, Option<Baseline>) {
    let mut machine = Machine::new(settings(), FeedState::default());
    let mut first = None;
    drive(
        &mut machine,
        || NOW,
        |command| match command {
            Command::Read { windows, .. } if windows[0].listing == Listing::Newest => {
                Input::Pages(vec![newest(List::of(0..30).answer(&windows[0]))])
            }
            Command::Read { windows, .. } => List::of(0..30).pages(&windows),
            Command::Commit(commit) => {
                first.get_or_insert(commit.judgement.history);
                COMMITTED
            }
            other => stored(other),
        },
    );
    (first, machine.feed().baseline)
}

#[test]
fn where_the_newest_run_cannot_be_trusted_all_that_the_first_sync_finds_is_history() {
    let oldest = || {
        List::of(0..30).answer(&Window {
            listing: Listing::All,
            offset: 0,
            limit: 1,
        })
    };
    let until = Some(Baseline::UpTo(at(29)));
    assert_eq!(baselines(|page| page), (until, until));
    let ignored = |page: Page| Page {
        desc: page.desc,
        ..oldest()
    };
    let undated = |_| Page {
        entries: vec![testing::undated("r29")],
        ..oldest()
    };
    let told = |page: Page| Page {
        desc: Some(false),
        ..page
    };
    let disordered = |mut page: Page| {
        page.entries.swap(0, 5);
        page
    };
    // The pages of the first sync reach the end of this list at once, which ends the time in which all is history.
    for (name, (first, after)) in [
        ("the oldest instead", baselines(ignored)),
        ("not the newest of those shown", baselines(disordered)),
        ("without a start", baselines(undated)),
        ("by its own words in another order", baselines(told)),
    ] {
        assert_eq!(
            (first, after),
            (Some(Baseline::Everything), until),
            "{name}"
        );
    }
}

#[test]
fn a_first_sync_of_runs_without_starts_is_all_history() {
    let mut list = List::of(0..0);
    list.items = (0..5)
        .map(|n| testing::undated_run(&format!("u{n}")))
        .collect();
    let mut machine = Machine::new(settings(), FeedState::default());
    let seen = commits(&mut machine, &list, &OpenRuns::default(), &[]);
    let judged = seen.iter().filter(|commit| !commit.observed.is_empty());
    for commit in judged {
        assert_eq!(commit.judgement.history, Baseline::Everything);
    }
    assert!(machine.feed().complete);
    assert_eq!(
        machine.feed().baseline,
        Some(Baseline::Nothing),
        "what comes later is news"
    );
}
