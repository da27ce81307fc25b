//! Audits, command by command, against a list and a mirror held in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use super::base::Machine;
use crate::model::Timestamp;
use crate::sync::page::{Entry, Page, Unreadable};
use crate::sync::protocol::{
    Command, Commit, FeedState, Input, OpenRuns, Outcome, ReadFailure, Settings, Stall,
};
use crate::sync::testing::{self, List, at, caught_up, item, stored};

/// What the mirror holds: ids and starts of the runs not marked as removed.
type Rows = BTreeMap<String, Timestamp>;

const NOW: i64 = 1_000_000;
const HOUR: u64 = 3_600;

fn settings() -> Settings {
    Settings {
        page_size: 10,
        overlap: 2,
        audit_interval: Some(Duration::from_secs(HOUR)),
        ..testing::settings()
    }
}

fn rows(list: &List) -> Rows {
    list.items
        .iter()
        .map(|seen| (seen.run.id.clone(), seen.run.started().unwrap()))
        .collect()
}

/// A feed that has read all of `list` and whose next audit is due.
fn mirrored(list: &List) -> FeedState {
    let last = list.items.last().unwrap().run.started().unwrap();
    FeedState {
        audit_due_at: Some(at(NOW)),
        ..caught_up(list.items.len() as u64, last.as_millis() / 1_000, NOW)
    }
}

/// A machine, the mirror it writes to and the list it reads from.
struct Bench {
    machine: Machine,
    list: List,
    rows: Rows,
    requests: Vec<String>,
    removed: Vec<String>,
}

impl Bench {
    fn new(list: List) -> Self {
        let machine = Machine::new(settings(), mirrored(&list));
        let rows = rows(&list);
        Self {
            machine,
            list,
            rows,
            requests: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Wakes the machine once; returns how long it sleeps then, and why.
    fn wake(&mut self, now: i64) -> (Duration, Outcome) {
        let mut command = self.machine.step(Input::Wake, at(now));
        loop {
            self.requests.extend(testing::requests(&command));
            let input = match command {
                Command::Sleep { wait, outcome } => return (wait, outcome),
                Command::LoadUnseen { gaps, except } => {
                    let within = |at: Timestamp| {
                        gaps.iter().any(|gap| {
                            gap.from.is_none_or(|from| from <= at)
                                && gap.to.is_none_or(|to| at <= to)
                        })
                    };
                    let unseen = self
                        .rows
                        .iter()
                        .filter(|(id, at)| within(**at) && !except.contains(id));
                    Input::Unseen(unseen.map(|(id, _)| id.clone()).collect())
                }
                Command::Read { windows, .. } => self.list.pages(&windows),
                Command::ReadRuns(ids) => self.list.runs(&ids),
                Command::Commit(commit) => {
                    self.store(&commit);
                    Input::Committed {
                        unconfirmed: Vec::new(),
                    }
                }
                other => stored(other),
            };
            command = self.machine.step(input, at(now));
        }
    }

    fn store(&mut self, commit: &Commit) {
        for observed in &commit.observed {
            self.rows.insert(
                observed.seen.run.id.clone(),
                observed.seen.run.started().unwrap(),
            );
        }
        let seen = |id: &String| {
            commit
                .observed
                .iter()
                .any(|observed| observed.seen.run.id == *id)
        };
        let absent = |at| {
            commit
                .covered
                .is_some_and(|covered| covered.proves_absent(at))
        };
        let mut removed: Vec<String> = self
            .rows
            .iter()
            .filter(|(id, at)| !seen(id) && absent(**at))
            .map(|(id, _)| id.clone())
            .collect();
        removed.extend(commit.gone.iter().cloned());
        self.rows.retain(|id, _| !removed.contains(id));
        self.removed.extend(removed);
    }

    /// Wakes the machine until the audit is over; returns the requests it took.
    fn audit(&mut self) -> (Vec<String>, Outcome) {
        self.machine.request_audit();
        self.wake(NOW);
        self.requests.clear();
        for _ in 0..1_000 {
            let (_, outcome) = self.wake(NOW);
            if outcome != Outcome::Auditing {
                return (std::mem::take(&mut self.requests), outcome);
            }
        }
        panic!("the audit does not end");
    }
}

#[test]
fn an_audit_reads_the_whole_list_from_the_beginning() {
    let mut bench = Bench::new(List::of(0..35));
    let (requests, outcome) = bench.audit();
    assert_eq!(requests, ["All 0", "All 8", "All 16", "All 24", "All 32"]);
    assert_eq!(outcome, Outcome::Audited);
    let feed = bench.machine.feed();
    assert_eq!(
        (&feed.audit, feed.audited_at, bench.machine.audited()),
        (&None, Some(at(NOW)), 35)
    );
    assert_eq!(bench.removed, [""; 0]);
    let due = feed.audit_due_at.unwrap().since(at(NOW)).as_secs();
    assert!(
        (HOUR * 9 / 10..=HOUR * 11 / 10).contains(&due),
        "the next one is due in {due} s"
    );
}

#[test]
fn removed_runs_are_found_wherever_they_were() {
    for gone in [
        vec![0],
        vec![34],
        vec![9],
        vec![9, 10],
        (0..34).collect(),
        vec![8, 9, 10, 17, 18, 19],
        (1..35).collect(),
    ] {
        let mut bench = Bench::new(List::of(0..35));
        bench
            .list
            .items
            .retain(|seen| !gone.iter().any(|n| seen.run.id == format!("r{n}")));
        let (_, outcome) = bench.audit();
        assert_eq!(outcome, Outcome::Audited, "{gone:?}");
        assert_eq!(bench.rows, rows(&bench.list), "without {gone:?}");
    }
}

#[test]
fn runs_of_an_emptied_list_are_checked_singly() {
    let mut bench = Bench::new(List::of(0..3));
    bench.list.items.clear();
    let (requests, outcome) = bench.audit();
    assert_eq!(requests, ["All 0", "run r0", "run r1", "run r2"]);
    assert_eq!((outcome, bench.removed.len()), (Outcome::Audited, 3));
}

#[test]
fn ties_at_page_edges_are_not_marked_as_removed() {
    let mut list = List::of(0..20);
    // Twelve runs with one start, more than a page holds. Their order in the list may change.
    list.items.splice(
        8..8,
        (0..12).map(|n| item(&format!("tie{n}"), 8, "SUCCEEDED")),
    );
    let mut bench = Bench::new(list);
    let (_, outcome) = bench.audit();
    assert_eq!((outcome, bench.removed.len()), (Outcome::Audited, 0));

    bench
        .list
        .items
        .retain(|seen| seen.run.id != "tie5" && seen.run.id != "tie11");
    bench.audit();
    assert_eq!(bench.removed, ["tie11", "tie5"]);
}

#[test]
fn an_audit_steps_back_after_deletions() {
    let mut bench = Bench::new(List::of(0..100));
    bench.machine.request_audit();
    bench.wake(NOW);
    assert_eq!(
        (bench.wake(NOW).1, bench.wake(NOW).1),
        (Outcome::Auditing, Outcome::Auditing)
    );
    bench.list.items.drain(..15);
    bench.requests.clear();
    while bench.wake(NOW).1 == Outcome::Auditing {}
    assert_eq!(
        bench.requests[..4],
        ["All 16", "All 15", "All 13", "All 9"].map(String::from),
        "{:?}",
        bench.requests
    );
    let kept = rows(&bench.list);
    assert!(
        kept.keys().all(|id| bench.rows.contains_key(id)),
        "no listed run was marked"
    );
    bench.audit();
    assert_eq!(bench.rows, kept);
}

#[test]
fn an_audit_continues_where_it_was_interrupted() {
    let mut bench = Bench::new(List::of(0..35));
    bench.machine.request_audit();
    bench.wake(NOW);
    bench.wake(NOW);
    let saved = bench.machine.feed().clone();
    assert_eq!(saved.audit.as_ref().unwrap().cursor.offset, 10);
    bench.machine = Machine::new(settings(), saved);
    bench.requests.clear();
    while bench.wake(NOW).1 != Outcome::Audited {}
    let audit: Vec<&String> = bench
        .requests
        .iter()
        .filter(|request| ["All 8", "All 16", "All 24", "All 32"].contains(&request.as_str()))
        .collect();
    assert_eq!(
        audit,
        ["All 32", "All 8", "All 16", "All 24", "All 32"],
        "a poll, then the audit"
    );
    assert!(!bench.requests.contains(&"All 0".to_owned()));
}

#[test]
fn an_audit_on_request_begins_anew() {
    let mut bench = Bench::new(List::of(0..35));
    bench.machine.request_audit();
    bench.wake(NOW);
    bench.wake(NOW);
    let saved = bench.machine.feed().clone();
    assert_eq!(saved.audit.as_ref().unwrap().cursor.offset, 10);
    // Deleted where the audit in progress has been.
    bench.list.items.remove(3);
    bench.machine = Machine::new(settings(), saved);
    let (requests, outcome) = bench.audit();
    assert_eq!(requests[0], "All 0");
    assert_eq!(outcome, Outcome::Audited);
    assert_eq!(
        (bench.removed, bench.machine.audited()),
        (vec!["r3".to_owned()], 34)
    );
}

#[test]
fn an_audit_that_is_due_runs_between_polls_at_a_low_rate() {
    let mut bench = Bench::new(List::of(0..35));
    let mut slept = Duration::ZERO;
    let mut outcomes = Vec::new();
    while outcomes.last() != Some(&Outcome::Audited) {
        let (wait, outcome) = bench.wake(NOW);
        assert!(
            wait <= Duration::from_secs(2) || outcome == Outcome::Audited,
            "{wait:?} {outcome:?}"
        );
        slept += wait;
        outcomes.push(outcome);
    }
    assert_eq!(outcomes[..2], [Outcome::CaughtUp, Outcome::Auditing]);
    assert_eq!(outcomes.len(), 6, "a poll and five pages: {outcomes:?}");
    // The machine sleeps for the rest of the poll interval, then polls.
    let nominal = Duration::from_secs(15);
    assert!(
        slept >= nominal * 9 / 10 && slept <= nominal * 11 / 10,
        "{slept:?}"
    );
    bench.requests.clear();
    assert_eq!(bench.wake(NOW).1, Outcome::CaughtUp);
    assert_eq!(bench.requests, ["All 32"], "no audit is due");
}

#[test]
fn audits_are_due_by_the_clock_even_if_it_was_set_back() {
    for (due_in, expected) in [
        (-1, true),
        (0, true),
        (1, false),
        (HOUR as i64 * 2, false),
        (HOUR as i64 * 2 + 1, true),
    ] {
        let mut bench = Bench::new(List::of(0..5));
        let feed = FeedState {
            audit_due_at: Some(at(NOW + due_in)),
            ..mirrored(&bench.list)
        };
        bench.machine = Machine::new(settings(), feed);
        let (wait, _) = bench.wake(NOW);
        assert_eq!(
            wait <= Duration::from_secs(2),
            expected,
            "due in {due_in} s"
        );
    }
    let mut bench = Bench::new(List::of(0..5));
    bench.machine = Machine::new(
        Settings {
            audit_interval: None,
            ..settings()
        },
        mirrored(&bench.list),
    );
    assert!(
        bench.wake(NOW).0 > Duration::from_secs(2),
        "audits are disabled"
    );
}

#[test]
fn frequent_polls_leave_time_for_an_audit() {
    let mut bench = Bench::new(List::of(0..35));
    let quick = Settings {
        poll_interval: Duration::from_millis(100),
        ..settings()
    };
    bench.machine = Machine::new(quick, mirrored(&bench.list));
    let outcomes: Vec<Outcome> = (0..12).map(|_| bench.wake(NOW).1).collect();
    assert!(outcomes.contains(&Outcome::Audited), "{outcomes:?}");
    assert!(outcomes.contains(&Outcome::CaughtUp), "{outcomes:?}");
}

#[test]
fn a_server_that_ignores_offsets_ends_the_audit_and_nothing_is_removed() {
    let mut list = List::of(0..35);
    list.ignores_offset = true;
    let mut bench = Bench::new(List::of(0..35));
    // After the poll, the server returns the first page whatever the offset.
    bench.machine.request_audit();
    bench.wake(NOW);
    bench.list = list;
    let outcomes: Vec<Outcome> = (0..2).map(|_| bench.wake(NOW).1).collect();
    assert_eq!(
        outcomes,
        [Outcome::Auditing, Outcome::Stalled(Stall::OffsetIgnored)]
    );
    assert_eq!(bench.removed, [""; 0]);
    let feed = bench.machine.feed();
    assert_eq!(
        (&feed.audit, feed.audited_at),
        (&None, None),
        "no audit is recorded"
    );
    assert!(
        feed.audit_due_at > Some(at(NOW)),
        "and the next audit is scheduled"
    );
}

#[test]
fn after_a_failed_read_the_audit_waits_for_the_next_poll() {
    let mut bench = Bench::new(List::of(0..35));
    bench.wake(NOW);
    bench.wake(NOW);
    let before = bench.machine.feed().clone();
    let Command::Read { .. } = bench.machine.step(Input::Wake, at(NOW)) else {
        panic!()
    };
    let command = bench
        .machine
        .step(Input::Failed(ReadFailure::Temporary), at(NOW));
    let Command::Sleep {
        wait,
        outcome: Outcome::Failed,
    } = command
    else {
        panic!("{command:?}")
    };
    assert!(
        wait > Duration::from_secs(5),
        "it waits for the poll: {wait:?}"
    );
    assert_eq!(bench.machine.feed(), &before);
    assert_eq!(
        (bench.wake(NOW).1, bench.wake(NOW).1),
        (Outcome::CaughtUp, Outcome::Auditing)
    );
}

#[test]
fn an_unavailable_task_is_polled_rarely() {
    let mut bench = Bench::new(List::of(0..5));
    for _ in 0..3 {
        bench.machine.step(Input::Wake, at(NOW));
        bench
            .machine
            .step(Input::Open(OpenRuns::default()), at(NOW));
        let command = bench
            .machine
            .step(Input::Failed(ReadFailure::Unavailable), at(NOW));
        let Command::Sleep {
            wait,
            outcome: Outcome::Failed,
        } = command
        else {
            panic!("{command:?}")
        };
        assert!((810..=990).contains(&wait.as_secs()), "{wait:?}");
    }
    assert_eq!(
        bench.wake(NOW).1,
        Outcome::CaughtUp,
        "and polling resumes when it is back"
    );
}

#[test]
fn the_first_audit_is_due_within_the_interval() {
    let list = List::of(0..35);
    let mut bench = Bench::new(List::of(0..35));
    bench.machine = Machine::new(
        settings(),
        FeedState {
            audit_due_at: None,
            ..mirrored(&list)
        },
    );
    bench.wake(NOW);
    let due = bench.machine.feed().audit_due_at.unwrap();
    assert!(
        due >= at(NOW) && due.since(at(NOW)) < Duration::from_secs(HOUR),
        "{due}"
    );
}

#[test]
fn a_page_of_an_audit_is_judged_by_when_it_was_requested() {
    let mut bench = Bench::new(List::of(0..15));
    bench.machine.request_audit();
    bench.wake(NOW);
    bench.wake(NOW);
    // What lies after the last page is a gap, so the machine loads the runs that started there.
    let Command::Read { windows, .. } = bench.machine.step(Input::Wake, at(NOW + 10)) else {
        panic!()
    };
    let page = Input::Pages(vec![bench.list.answer(&windows[0])]);
    let Command::LoadUnseen { .. } = bench.machine.step(page, at(NOW + 20)) else {
        panic!()
    };
    let Command::Commit(commit) = bench.machine.step(Input::Unseen(Vec::new()), at(NOW + 30))
    else {
        panic!()
    };
    assert_eq!(
        (commit.judgement.asked_at, commit.judgement.now),
        (at(NOW + 10), at(NOW + 30))
    );
}

#[test]
fn failed_reads_do_not_count_against_an_audit() {
    let mut bench = Bench::new(List::of(0..35));
    for _ in 0..100_001 {
        bench.wake(NOW);
        let Command::Read { .. } = bench.machine.step(Input::Wake, at(NOW)) else {
            panic!()
        };
        bench
            .machine
            .step(Input::Failed(ReadFailure::Temporary), at(NOW));
    }
    let outcomes = [bench.audit().1, bench.audit().1, bench.audit().1];
    assert_eq!(outcomes, [Outcome::Audited; 3]);
}

#[test]
fn entries_out_of_order_are_no_proof() {
    let mut list = List::of(0..65);
    // Listed first, though others started before it.
    let moved = list.items.remove(33);
    list.items.insert(0, moved);
    let mut bench = Bench::new(list);
    bench.list.items.retain(|seen| seen.run.id != "r50");
    let (requests, outcome) = bench.audit();
    assert_eq!(
        (outcome, bench.removed),
        (Outcome::Audited, vec!["r50".to_owned()])
    );
    let singles = requests.iter().filter(|request| request.starts_with("run"));
    assert_eq!(singles.collect::<Vec<_>>(), ["run r50"]);
}

#[test]
fn what_single_reads_show_is_committed_in_batches_before_their_page() {
    let list = List::of(0..100);
    let hidden = |entry: Entry| match entry {
        Entry::Run(seen) if (at(40)..at(60)).contains(&seen.started.unwrap()) => {
            Entry::Unreadable(Unreadable {
                id: Some(seen.run.id),
                reason: String::new(),
                body: String::new(),
            })
        }
        other => other,
    };
    let settings = Settings {
        page_size: 1_000,
        ..settings()
    };
    let batch = settings.read_ahead;
    let mut machine = Machine::new(settings, mirrored(&list));
    machine.request_audit();
    let poll = |command| match command {
        Command::Read { windows, .. } => list.pages(&windows),
        other => stored(other),
    };
    testing::drive(&mut machine, || NOW, poll);
    let mut commits = Vec::new();
    let mut command = machine.step(Input::Wake, at(NOW));
    while !matches!(command, Command::Sleep { .. }) {
        let input = match command {
            Command::Read { windows, .. } => {
                let mut page = list.answer(&windows[0]);
                page.entries = page.entries.into_iter().map(hidden).collect();
                Input::Pages(vec![page])
            }
            Command::LoadUnseen { .. } => Input::Unseen(Vec::new()),
            Command::ReadRuns(ids) => list.runs(&ids),
            Command::Commit(commit) => {
                let audit = commit.feed.audit.as_ref();
                let moves = audit.is_some_and(|audit| audit.cursor.offset > 0);
                commits.push((commit.observed.len(), moves, machine.keeps_page()));
                let singly = if moves { 20 } else { 0 };
                assert_eq!(
                    (commit.unreadable.len(), commit.readable.len()),
                    (singly, singly)
                );
                stored(Command::Commit(commit))
            }
            other => stored(other),
        };
        command = machine.step(input, at(NOW));
    }
    let (page, singles) = commits.split_last().unwrap();
    assert_eq!(*page, (80, true, false), "{commits:?}");
    assert_eq!(singles, vec![(batch, false, true); 20 / batch]);
}

#[test]
fn an_audit_of_equal_starts_without_end_is_given_up() {
    let same = |from: u64| {
        let run = |n| item(&format!("r{n}"), 5, "SUCCEEDED");
        (from..from + 1_000).map(run).map(Entry::Run).collect()
    };
    let mut machine = Machine::new(settings(), mirrored(&List::of(0..1)));
    machine.request_audit();
    let poll = |command| match command {
        Command::Read { windows, .. } => List::of(0..1).pages(&windows),
        other => stored(other),
    };
    testing::drive(&mut machine, || NOW, poll);
    let mut pages = 0;
    loop {
        let answer = |command| match command {
            Command::Read { windows, .. } => {
                pages += 1;
                Input::Pages(vec![Page {
                    offset: Some(windows[0].offset),
                    limit: Some(1_000),
                    total: None,
                    desc: Some(false),
                    entries: same(windows[0].offset),
                }])
            }
            Command::LoadUnseen { .. } => Input::Unseen(Vec::new()),
            other => stored(other),
        };
        let (_, outcome) = testing::drive(&mut machine, || NOW, answer);
        if outcome != Outcome::Auditing {
            assert_eq!(outcome, Outcome::Stalled(Stall::Undecided));
            break;
        }
    }
    assert!((10..20).contains(&pages), "{pages}");

    // What it saw does not count in the next one, which goes through where the list can be audited again.
    let list = List::of(0..30);
    let mut later = NOW;
    loop {
        later += 2 * HOUR as i64;
        let answer = |command| match command {
            Command::Read { windows, .. } => list.pages(&windows),
            Command::ReadRuns(ids) => list.runs(&ids),
            Command::LoadUnseen { except, .. } => {
                assert!(except.len() <= 20, "{}", except.len());
                Input::Unseen(Vec::new())
            }
            other => stored(other),
        };
        match testing::drive(&mut machine, || later, answer).1 {
            Outcome::CaughtUp | Outcome::Auditing => {}
            outcome => {
                assert_eq!(outcome, Outcome::Audited);
                break;
            }
        }
    }
}
