//! Runs behind the cursor, command by command: read by page or singly.

use super::base::Machine;
use super::poll_tests::{COMMITTED, NOW, caught_up, commits, ids_of, open, poll};
use crate::sync::page::{Entry, Listing, Page, Unreadable, Window};
use crate::sync::protocol::{Command, Input, OpenRuns, Outcome, Settings, Single};
use crate::sync::testing::{self, List, drive, item, settings, stored};

#[test]
fn runs_behind_the_cursor_are_stored_or_reported_gone() {
    let mut list = List::of(0..5_000);
    list.items.retain(|seen| seen.run.id != "r900");
    let mut machine = Machine::new(settings(), caught_up(4_999, 4_999));
    let single = commits(&mut machine, &list, &open(false, &["r800", "r900"], 0), &[]);
    assert!(ids_of(&single).contains(&"r800"));
    assert_eq!(
        single
            .iter()
            .flat_map(|commit| &commit.gone)
            .collect::<Vec<_>>(),
        ["r900"]
    );
    let distances = [4_899, 4_898, 4_897];
    let by_page = commits(
        &mut machine,
        &list,
        &open(false, &["r100", "r101", "r102"], 0),
        &distances,
    );
    assert!(ids_of(&by_page).contains(&"r101"));
}

#[test]
fn pages_behind_the_cursor_lie_where_they_were_asked_for_whatever_they_say() {
    let mut list = List::of(0..5_000);
    list.items.retain(|seen| seen.run.id != "r101");
    let open = open(false, &["r100", "r101", "r102"], 0);
    let mut machine = Machine::new(settings(), caught_up(4_999, 4_999));
    let (mut places, mut asked) = (Vec::new(), Vec::new());
    let answer = |command| match command {
        Command::LoadOpen { .. } => Input::Open(open.clone()),
        Command::Locate(_) => Input::Located(vec![4_899, 4_898, 4_897]),
        Command::Read { windows, .. }
            if windows[0].offset < 1_000 && windows[0].listing == Listing::All =>
        {
            asked.push(windows[0].offset);
            let odd = Page {
                offset: Some(u64::MAX),
                entries: vec![testing::undated("a"), nameless(), nameless()],
                ..list.answer(&windows[0])
            };
            Input::Pages(vec![odd])
        }
        Command::Read { windows, .. } => list.pages(&windows),
        Command::ReadRuns(ids) => list.runs(&ids),
        Command::Commit(commit) => {
            places.extend(commit.unreadable.iter().map(|(place, _)| *place));
            COMMITTED
        }
        other => stored(other),
    };
    drive(&mut machine, || NOW, answer);
    assert_eq!(places, [asked[0] + 1, asked[0] + 2]);
}

/// An entry that is no run, and has no id.
fn nameless() -> Entry {
    Entry::Unreadable(Unreadable {
        id: None,
        reason: String::new(),
        body: "5".to_owned(),
    })
}

#[test]
fn runs_close_together_are_read_by_page() {
    let list = List::of(0..5_000);
    let ids: Vec<String> = (100..130).map(|n| format!("r{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let distances: Vec<u64> = (100..130).map(|n| 5_000 - n).collect();
    let mut machine = Machine::new(settings(), caught_up(5_000, 4_999));
    let (requests, _) = poll(&mut machine, &list, open(true, &ids, 0), &distances, NOW);
    assert_eq!(requests, ["All 4979", "Active 0", "All 95"]);
}

#[test]
fn successive_polls_read_different_runs_singly_when_there_are_too_many() {
    let small = List::of(199_990..200_000);
    let ids: Vec<String> = (0..1_200).map(|n| format!("r{}", n * 100)).collect();
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let distances: Vec<u64> = (0..1_200).map(|n| 200_000 - n * 100).collect();
    let settings = Settings {
        page_size: 20,
        overlap: 2,
        read_ahead: 64,
        ..settings()
    };
    let mut machine = Machine::new(settings, caught_up(200_000, 199_999));
    let mut read = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut singles = Vec::new();
        drive(
            &mut machine,
            || NOW,
            |command| match command {
                Command::LoadOpen { .. } => Input::Open(open(false, &wanted, 0)),
                Command::Locate(_) => Input::Located(distances.clone()),
                Command::Read { windows, .. } => {
                    let shown = windows.iter().map(|window| {
                        let at = Window {
                            offset: window.offset - 199_990,
                            ..*window
                        };
                        Page {
                            offset: Some(window.offset),
                            total: Some(200_000),
                            ..small.answer(&at)
                        }
                    });
                    Input::Pages(shown.collect())
                }
                Command::ReadRuns(ids) => {
                    singles.extend(ids.iter().cloned());
                    Input::Runs(ids.into_iter().map(|id| (id, Single::Gone)).collect())
                }
                other => stored(other),
            },
        );
        assert_eq!(singles.len(), 500);
        read.extend(singles);
    }
    assert_eq!(read.len(), 1_200, "three polls reach them all");
}

/// Polls once with `answer` for single reads and the ids that the first commit leaves unconfirmed; returns the requests,
/// how the poll ended, and whether its last commit recorded a success.
fn poll_with(
    machine: &mut Machine,
    list: &List,
    open: &OpenRuns,
    unconfirmed: &[&str],
    answer: impl Fn(&str) -> Single,
) -> (Vec<String>, Outcome, bool) {
    let (mut requests, mut finished, mut commits) = (Vec::new(), false, 0);
    let (_, outcome) = drive(
        machine,
        || NOW,
        |command| {
            requests.extend(testing::requests(&command));
            match command {
                Command::LoadOpen { .. } => Input::Open(open.clone()),
                Command::Read { windows, .. } => list.pages(&windows),
                Command::ReadRuns(ids) => {
                    let read = |id: String| (id.clone(), answer(&id));
                    Input::Runs(ids.into_iter().map(read).collect())
                }
                Command::Commit(commit) => {
                    finished = commit.finished;
                    commits += 1;
                    let first = unconfirmed.iter().filter(|_| commits == 1);
                    Input::Committed {
                        unconfirmed: first.map(|id| (*id).to_owned()).collect(),
                    }
                }
                other => stored(other),
            }
        },
    );
    (requests, outcome, finished)
}

#[test]
fn a_run_that_cannot_be_read_singly_fails_no_poll() {
    let list = List::of(0..500);
    let mut machine = Machine::new(settings(), caught_up(500, 499));
    let gone = open(false, &["r10", "r20"], 0);
    let (requests, outcome, finished) =
        poll_with(&mut machine, &list, &gone, &[], |_| Single::Failed);
    assert_eq!(requests, ["All 479", "run r10", "run r20"]);
    assert_eq!((outcome, finished), (Outcome::CaughtUp, true));
}

#[test]
fn single_reads_that_fail_are_bounded_and_the_next_poll_goes_on_after_them() {
    let list = List::of(0..500);
    let mut machine = Machine::new(settings(), caught_up(500, 499));
    let ids: Vec<String> = (100..160).map(|n| format!("x{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut read = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let (requests, outcome) = {
            let mut requests = Vec::new();
            let (_, outcome) = drive(
                &mut machine,
                || NOW,
                |command| {
                    requests.extend(testing::requests(&command));
                    match command {
                        Command::LoadOpen { .. } => Input::Open(open(false, &ids, 0)),
                        Command::Locate(_) => Input::Located(Vec::new()),
                        Command::Read { windows, .. } => list.pages(&windows),
                        Command::ReadRuns(ids) => {
                            let failed = |id| (id, Single::Failed);
                            Input::Runs(ids.into_iter().map(failed).collect())
                        }
                        other => stored(other),
                    }
                },
            );
            (requests, outcome)
        };
        let singles = requests.iter().filter(|request| request.starts_with("run"));
        assert_eq!((singles.clone().count(), outcome), (20, Outcome::CaughtUp));
        read.extend(singles.cloned());
    }
    assert_eq!(read.len(), 60, "three polls reach them all");
}

#[test]
fn what_a_list_does_not_prove_is_read_singly_in_the_same_poll() {
    let list = List::of(0..500);
    let mut machine = Machine::new(settings(), caught_up(500, 499));
    let none = OpenRuns::default();
    let running = |id: &str| Single::Found(Box::new(item(id, 490, "RUNNING")));
    let (requests, outcome, _) = poll_with(&mut machine, &list, &none, &["r490"], running);
    assert_eq!(requests, ["All 479", "run r490"]);
    assert_eq!(outcome, Outcome::CaughtUp);
}

/// What becomes of an entry that the list shows unreadable, and single reads answer with `single`, in five polls: how often it
/// was read singly, how many of the commits that have it say that it can be read, and whether it was ever taken for gone.
fn polls_of_an_unreadable_entry(single: impl Fn() -> Single) -> (usize, Vec<bool>, bool) {
    let mut machine = Machine::new(settings(), caught_up(500, 499));
    let (mut singles, mut readable, mut gone) = (0, Vec::new(), false);
    for _ in 0..5 {
        drive(
            &mut machine,
            || NOW,
            |command| match command {
                Command::Read { windows, .. } => {
                    let mut page = List::of(0..500).answer(&windows[0]);
                    page.entries[3] = Entry::Unreadable(Unreadable {
                        id: Some("odd".to_owned()),
                        reason: "it is nested too deeply".to_owned(),
                        body: "{".to_owned(),
                    });
                    Input::Pages(vec![page])
                }
                Command::ReadRuns(ids) => {
                    singles += ids.len();
                    Input::Runs(ids.into_iter().map(|id| (id, single())).collect())
                }
                Command::Commit(commit) => {
                    gone |= !commit.gone.is_empty();
                    if !commit.unreadable.is_empty() {
                        readable.push(commit.readable.contains("odd"));
                    }
                    stored(Command::Commit(commit))
                }
                other => stored(other),
            },
        );
    }
    (singles, readable, gone)
}

#[test]
fn an_entry_that_a_list_shows_unreadable_is_read_singly_three_times_at_most() {
    let failed = polls_of_an_unreadable_entry(|| Single::Failed);
    assert_eq!(failed, (3, vec![false; 5], false));
    let shown = || Single::Found(Box::new(item("odd", 3, "SUCCEEDED")));
    let readable = vec![false, true, true, true, true];
    assert_eq!(polls_of_an_unreadable_entry(shown), (3, readable, false));
    // The list shows it.
    let gone = polls_of_an_unreadable_entry(|| Single::Gone);
    assert_eq!(gone, (3, vec![false; 5], false));
}
