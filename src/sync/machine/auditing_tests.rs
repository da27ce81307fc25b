//! Audits, command by command, against a list and a mirror held in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::testing::{List, at, item};
use super::super::*;
use crate::model::{Seed, Timestamp};

/// What the mirror holds: run ids and their starts, of those not marked as removed.
type Rows = BTreeMap<String, Timestamp>;

const NOW: i64 = 1_000_000;
const HOUR: u64 = 3_600;

fn settings() -> Settings {
    Settings {
        page_size: 10,
        overlap: 2,
        poll_interval: Duration::from_secs(15),
        watch_interval: Duration::from_secs(60),
        settle: Duration::from_secs(60),
        audit_interval: Some(Duration::from_secs(HOUR)),
        read_ahead: 4,
        history_events: false,
        seed: Seed(1),
    }
}

fn rows(list: &List) -> Rows {
    list.items
        .iter()
        .map(|seen| (seen.run.id.clone(), seen.run.started().unwrap()))
        .collect()
}

/// A feed that has read all of `list`.
fn mirrored(list: &List) -> FeedState {
    let last = &list.items.last().unwrap().run;
    FeedState {
        cursor: Cursor {
            offset: list.items.len() as u64,
            watermark: Some(Watermark {
                started: last.started().unwrap(),
                id: last.id.clone(),
            }),
        },
        baseline: Some(Baseline(Some(at(0)))),
        complete: true,
        watched_at: Some(at(NOW)),
        total: Some(list.items.len() as u64),
        audit: None,
        audited_at: None,
        audit_due_at: Some(at(NOW)),
    }
}

/// A feed, its mirror and its list, as a daemon would bring them together.
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

    /// Wakes the machine once; gives how long it would sleep then and why.
    fn wake(&mut self, now: i64) -> (Duration, Outcome) {
        let mut command = self.machine.step(Input::Wake, at(now));
        loop {
            let input = match command {
                Command::Sleep { wait, outcome } => return (wait, outcome),
                Command::LoadOpen { .. } => Input::Open(OpenRuns::default()),
                Command::Locate(_) => panic!("nothing is open"),
                Command::LoadUnseen { stretches, except } => {
                    let within = |at: Timestamp| {
                        stretches.iter().any(|doubt| {
                            doubt.from.is_none_or(|from| from <= at)
                                && doubt.to.is_none_or(|to| at <= to)
                        })
                    };
                    let unseen = self
                        .rows
                        .iter()
                        .filter(|(id, at)| within(**at) && !except.contains(id));
                    Input::Unseen(unseen.map(|(id, _)| id.clone()).collect())
                }
                Command::Read(windows) => {
                    self.requests.extend(
                        windows
                            .iter()
                            .map(|window| format!("{:?} {}", window.listing, window.offset)),
                    );
                    Input::Pages(
                        windows
                            .iter()
                            .map(|window| self.list.answer(window))
                            .collect(),
                    )
                }
                Command::ReadRuns(ids) => {
                    self.requests
                        .extend(ids.iter().map(|id| format!("run {id}")));
                    let find = |id: &String| {
                        self.list
                            .items
                            .iter()
                            .find(|seen| seen.run.id == *id)
                            .cloned()
                    };
                    Input::Runs(ids.iter().map(|id| (id.clone(), find(id))).collect())
                }
                Command::Commit(commit) => {
                    self.store(&commit);
                    Input::Committed
                }
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

    /// Wakes the machine until the audit is over; gives the requests it took.
    fn audit(&mut self) -> (Vec<String>, Outcome) {
        self.machine.hurry_audit();
        self.wake(NOW);
        self.requests.clear();
        for _ in 0..1_000 {
            let (_, outcome) = self.wake(NOW);
            if outcome != Outcome::Auditing {
                return (std::mem::take(&mut self.requests), outcome);
            }
        }
        panic!("an audit that does not end");
    }
}

#[test]
fn an_audit_reads_the_whole_list_from_the_beginning() {
    let mut bench = Bench::new(List::of(0..35));
    let (requests, outcome) = bench.audit();
    assert_eq!(requests, ["All 0", "All 9", "All 18", "All 27"]);
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
fn an_emptied_list_is_believed_run_by_run() {
    let mut bench = Bench::new(List::of(0..3));
    bench.list.items.clear();
    let (requests, outcome) = bench.audit();
    assert_eq!(requests, ["All 0", "run r0", "run r1", "run r2"]);
    assert_eq!((outcome, bench.removed.len()), (Outcome::Audited, 3));
}

#[test]
fn ties_at_the_edges_of_pages_are_not_taken_for_removed() {
    let mut list = List::of(0..20);
    // Twelve runs with one start, more than a page holds, of which the list's order is not to be relied on.
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
fn deletions_while_the_audit_runs_are_stepped_back_from() {
    let mut bench = Bench::new(List::of(0..100));
    bench.machine.hurry_audit();
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
        ["All 18", "All 17", "All 15", "All 11"].map(String::from),
        "{:?}",
        bench.requests
    );
    let kept = rows(&bench.list);
    assert!(
        kept.keys().all(|id| bench.rows.contains_key(id)),
        "nothing listed was marked"
    );
    bench.audit();
    assert_eq!(bench.rows, kept);
}

#[test]
fn an_audit_goes_on_where_it_was_interrupted() {
    let mut bench = Bench::new(List::of(0..35));
    bench.machine.hurry_audit();
    bench.wake(NOW);
    bench.wake(NOW);
    let saved = bench.machine.feed().clone();
    assert_eq!(saved.audit.as_ref().unwrap().cursor.offset, 10);
    bench.machine = Machine::new(settings(), saved);
    let (requests, outcome) = bench.audit();
    assert_eq!(
        (requests.as_slice(), outcome),
        (
            ["All 9", "All 18", "All 27"].map(String::from).as_slice(),
            Outcome::Audited
        )
    );
}

#[test]
fn a_due_audit_goes_on_beside_polling_at_a_low_rate() {
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
    assert_eq!(outcomes.len(), 5, "a poll and four pages: {outcomes:?}");
    // What the audit left of the time between polls is slept then, and a poll follows.
    let nominal = Duration::from_secs(15);
    assert!(
        slept >= nominal * 9 / 10 && slept <= nominal * 11 / 10,
        "{slept:?}"
    );
    bench.requests.clear();
    assert_eq!(bench.wake(NOW).1, Outcome::CaughtUp);
    assert_eq!(bench.requests, ["All 33"], "no audit is due");
}

#[test]
fn audits_come_due_by_the_clock_and_clocks_may_jump() {
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
        "none are wanted"
    );
}

#[test]
fn even_frequent_polls_leave_time_for_an_audit() {
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
fn a_list_that_is_no_list_ends_the_audit_and_removes_nothing() {
    let mut list = List::of(0..35);
    list.ignores_offset = true;
    let mut bench = Bench::new(List::of(0..35));
    // It shows what it showed when the feed was read, and then only ever the first page.
    bench.machine.hurry_audit();
    bench.wake(NOW);
    bench.list = list;
    let outcomes: Vec<Outcome> = (0..2).map(|_| bench.wake(NOW).1).collect();
    assert_eq!(outcomes, [Outcome::Auditing, Outcome::Stalled]);
    assert_eq!(bench.removed, [""; 0]);
    let feed = bench.machine.feed();
    assert_eq!(
        (&feed.audit, feed.audited_at),
        (&None, None),
        "nothing is claimed"
    );
    assert!(
        feed.audit_due_at > Some(at(NOW)),
        "and it is tried again later"
    );
}

#[test]
fn a_failing_read_leaves_the_audit_for_after_the_next_poll() {
    let mut bench = Bench::new(List::of(0..35));
    bench.wake(NOW);
    bench.wake(NOW);
    let before = bench.machine.feed().clone();
    let Command::Read(_) = bench.machine.step(Input::Wake, at(NOW)) else {
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
fn a_lost_task_is_looked_for_rarely() {
    let mut bench = Bench::new(List::of(0..5));
    for _ in 0..3 {
        bench.machine.step(Input::Wake, at(NOW));
        bench
            .machine
            .step(Input::Open(OpenRuns::default()), at(NOW));
        let command = bench
            .machine
            .step(Input::Failed(ReadFailure::Lost), at(NOW));
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
        "and resumes when it is back"
    );
}

#[test]
fn the_first_audit_is_due_within_the_interval_not_at_once() {
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
fn a_page_of_an_audit_is_judged_by_when_it_was_asked_for() {
    let mut bench = Bench::new(List::of(0..35));
    bench.machine.hurry_audit();
    bench.wake(NOW);
    bench.wake(NOW);
    // The second page leaves the edge between the two in doubt, which the mirror is asked about.
    let Command::Read(windows) = bench.machine.step(Input::Wake, at(NOW + 10)) else {
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
        let Command::Read(_) = bench.machine.step(Input::Wake, at(NOW)) else {
            panic!()
        };
        bench
            .machine
            .step(Input::Failed(ReadFailure::Temporary), at(NOW));
    }
    let outcomes = [bench.audit().1, bench.audit().1, bench.audit().1];
    assert_eq!(outcomes, [Outcome::Audited; 3]);
}
