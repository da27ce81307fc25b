//! All histories of a small account and of the mirror that polls it.
//!
//! The machine and its judgement of observations are real; the account and the store are models. Each history mixes runs
//! that are created, also late and with equal starts, that end, are resurrected and deleted, reads that are answered
//! with equal starts in any order, or fail, audits, and crashes, each between any two reads. Time stands still.
//!
//! What must hold:
//!
//! - after a poll that caught up, every run that was listed throughout it and that the cursor has passed is in the mirror,
//!   with the status that it has if that did not change meanwhile; one that the cursor has not passed is there after the
//!   next poll; if nothing changed, the mirror equals the account;
//! - no listed run is ever marked as removed; after an audit during which nothing changed, every other run is;
//! - a run raises CREATED, once, unless it started no later than those that existed when the mirror first looked;
//! - a poll, or a page of an audit, ends within a number of reads that the plan states;
//! - once nothing changes or fails, the mirror comes to equal the account within a number of
//!   steps that the plan states.
//!
//! One thing cannot be promised: a run that was registered late or resurrected, and ends before a poll has seen it
//! active, is found by an audit only. Such runs do not end before that here.

mod account;
mod checks;
mod feed;
mod mirror;
mod plans;

use std::fmt::Write;
use std::time::Duration;

use apify_mirror::model::{Details, Seed};
use apify_mirror::sync::{Baseline, FeedState, Outcome, Settings};

use account::{Account, NAMES, Run};
use feed::{Feed, Wait};
use mirror::{Mirror, Row};
use plans::Plan;

use crate::search::{self, Limits};

/// A set of runs, a bit for each.
type Runs = u8;

/// The world of a [`Plan`].
#[derive(Clone)]
struct World {
    plan: &'static Plan,
    account: Account,
    mirror: Mirror,
    feed: Feed,
    /// The runs that were listed ever since the machine was woken, and those of which nothing changed since.
    throughout: Runs,
    unchanged: Runs,
    /// The runs that were listed ever since it was woken before that, if that poll caught up.
    longer: Runs,
    /// Nothing has changed since the machine was woken, and since an audit was requested.
    quiet: bool,
    audit_quiet: bool,
    /// An audit was requested that has not ended.
    audit_wanted: bool,
    /// Runs registered late or resurrected that no poll has seen active since.
    unseen: Runs,
    /// The newest start when the mirror first looked.
    history: Option<i64>,
    /// Runs that only an audit must find.
    excused: Runs,
    /// Whether an entry has become unreadable.
    was_unreadable: bool,
    /// All that the first sync found counts as history: the newest run was also the oldest one.
    given_up: bool,
    /// Reads since the machine was woken.
    reads: u8,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create(usize),
    End(usize),
    Resurrect(usize),
    Delete(usize),
    /// The machine's sleep is over.
    Wake,
    /// The next read is answered, with equal starts in the order of this number.
    Answer(usize),
    /// The next read is answered with this run as it was before it last changed.
    Lag(usize),
    /// Lists show this run unreadable from now on.
    Blur(usize),
    /// They show it as it is again.
    Clear,
    /// The next read fails.
    Fail,
    /// The process dies and is started again.
    Crash,
    /// An audit is requested.
    Audit,
}

const fn bit(run: usize) -> Runs {
    1 << run
}

impl World {
    /// The world before the mirror has ever looked at it, or when it has caught up.
    fn new(plan: &'static Plan) -> Self {
        let settings = Settings {
            page_size: plan.page,
            overlap: plan.overlap,
            poll_interval: Duration::from_secs(15),
            watch_interval: if plan.watched {
                Duration::ZERO
            } else {
                Duration::from_secs(1_000)
            },
            settle: Duration::ZERO,
            audit_interval: None,
            read_ahead: plan.read_ahead,
            history_events: false,
            details: Details::None,
            seed: Seed(1),
        };
        let mut world = Self {
            plan,
            account: Account::new(plan.starts, plan.listed),
            mirror: Mirror::default(),
            feed: Feed::new(&settings, FeedState::default(), plan.manner),
            throughout: 0,
            unchanged: 0,
            longer: 0,
            quiet: false,
            audit_quiet: false,
            audit_wanted: false,
            unseen: 0,
            history: None,
            excused: 0,
            was_unreadable: false,
            given_up: false,
            reads: 0,
        };
        while let Some(step) = search::World::kind(&world).filter(|_| plan.synced) {
            search::World::take(&mut world, step).expect("a first sync keeps the rules");
        }
        world
    }

    fn runs(&self) -> impl Iterator<Item = (usize, Run)> {
        self.account.runs.iter().copied().enumerate()
    }

    fn listed(&self) -> Runs {
        self.runs()
            .filter(|(_, run)| run.is_listed())
            .fold(0, |runs, (nth, _)| runs | bit(nth))
    }

    /// In how many orders the next answer can list the runs.
    fn orders(&self) -> usize {
        match self.plan.stable {
            true => 1,
            false => self.account.orders(),
        }
    }

    fn row(&self, run: usize) -> Option<&Row> {
        self.mirror.rows.get(NAMES[run])
    }

    /// Whether the mirror has a run as the account lists it.
    fn is_mirrored(&self, run: usize) -> bool {
        match (self.account.show(run), self.row(run)) {
            (Some(seen), Some(Row { stored, .. })) => {
                !stored.removed
                    && (&stored.run.status, &stored.run.finished_at)
                        == (&seen.run.status, &seen.run.finished_at)
            }
            _ => false,
        }
    }

    fn equals(&self) -> bool {
        self.equals_but(0)
    }

    fn equals_but(&self, excused: Runs) -> bool {
        self.runs()
            .all(|(nth, run)| !run.is_listed() || self.is_mirrored(nth) || excused & bit(nth) != 0)
    }

    /// Changes a run of the account.
    fn change(&mut self, step: Step) {
        let (Step::Create(run) | Step::End(run) | Step::Resurrect(run) | Step::Delete(run)) = step
        else {
            return;
        };
        let active = self
            .row(run)
            .is_some_and(|row| !row.stored.run.status.is_terminal());
        match (step, self.account.runs[run]) {
            (Step::Create(_), _) => {
                if self.account.create(run) {
                    self.unseen |= bit(run);
                }
            }
            (Step::Delete(_), _) => {
                self.account.change(run, Run::Deleted);
                self.throughout &= !bit(run);
                self.longer &= !bit(run);
                self.unseen &= !bit(run);
            }
            (_, Run::Running(life)) => self.account.change(run, Run::Ended(life)),
            (_, Run::Ended(life)) => {
                self.account.change(run, Run::Running(life + 1));
                if !active {
                    self.unseen |= bit(run);
                }
            }
            (step, run) => panic!("{step:?} cannot happen to {run:?}"),
        }
        self.unchanged &= !bit(run);
        (self.quiet, self.audit_quiet) = (false, false);
    }

    fn wake(&mut self) -> Option<Outcome> {
        self.longer = match self.feed.slept() {
            Some(Outcome::CaughtUp) => self.throughout,
            _ => 0,
        };
        self.throughout = self.listed();
        (self.unchanged, self.quiet, self.reads) = (self.throughout, true, 0);
        self.feed.wake(&mut self.mirror)
    }

    /// Some runs are not shown as they are for a time, so that nothing is promised of this poll or audit.
    fn hidden(&mut self, runs: Runs) {
        self.throughout &= !runs;
        self.longer &= !runs;
        self.unchanged &= !runs;
        (self.quiet, self.audit_quiet) = (false, false);
    }

    /// Answers a read with a run as it was before it last changed.
    fn lag(&mut self, run: usize) -> Option<Outcome> {
        self.hidden(bit(run));
        self.account.lagging = Some(run);
        let slept = self.answer(0);
        self.account.lagging = None;
        self.account.before[run] = None;
        let is_active = |row: &Row| !row.stored.run.status.is_terminal();
        if matches!(self.account.runs[run], Run::Running(_))
            && !self.row(run).is_some_and(is_active)
        {
            self.unseen |= bit(run);
        }
        slept
    }

    /// Lists show a run unreadable from now on.
    fn blur(&mut self, run: usize) {
        let named = self.plan.may.unreadable == Some(true);
        self.account.unreadable = Some((run, named));
        self.was_unreadable = true;
        self.hidden(bit(run));
        if !named {
            self.excused |= bit(run);
        }
    }

    /// Notes which runs only an audit must find.
    fn excuse(&mut self) {
        if self.feed.take_went_past() {
            let starts = self.account.starts;
            let tied = |start: &i64| starts.iter().filter(|other| *other == start).count() > 1;
            let tied = (0..starts.len()).filter(|nth| tied(&starts[*nth]));
            self.excused |= tied.fold(0, |runs, nth| runs | bit(nth));
        }
        for nth in 0..self.account.runs.len() {
            let blurred = self.account.unreadable.is_some_and(|(run, _)| run == nth);
            if !blurred && (self.is_mirrored(nth) || !self.account.runs[nth].is_listed()) {
                self.excused &= !bit(nth);
            }
        }
    }

    fn fail(&mut self) -> Option<Outcome> {
        if let Wait::Runs(ids) = &self.feed.wait {
            // That these could not be read is logged; a later poll reads them again.
            let unread = ids.iter().map(|id| bit(self.account.place(id)));
            let unread = unread.fold(0, |runs, run| runs | run);
            (self.throughout, self.unchanged) =
                (self.throughout & !unread, self.unchanged & !unread);
            (self.quiet, self.audit_quiet) = (false, false);
        }
        self.feed.fail(&mut self.mirror)
    }

    fn answer(&mut self, order: usize) -> Option<Outcome> {
        if self.feed.reads_baseline() {
            self.history = self
                .runs()
                .filter(|(_, run)| run.is_listed())
                .map(|(nth, _)| self.account.starts[nth])
                .max();
        }
        self.reads += 1;
        let slept = self.feed.answer(&self.account, order, &mut self.mirror);
        let oldest = self.listed().trailing_zeros() as usize;
        let oldest = self.account.starts.get(oldest).copied();
        if self.mirror.feed.baseline == Some(Baseline::Everything) && oldest >= self.history {
            self.given_up = true;
        }
        slept
    }
}

impl search::World for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = match &self.feed.wait {
            Wait::Asleep(_) => vec![Step::Wake],
            Wait::Runs(_) => vec![Step::Answer(0)],
            Wait::Pages(..) => (0..self.orders()).map(Step::Answer).collect(),
        };
        let may = self.plan.may;
        if may.fail && !matches!(self.feed.wait, Wait::Asleep(_)) {
            steps.push(Step::Fail);
        }
        if may.crash {
            steps.push(Step::Crash);
        }
        if may.audit && !self.audit_wanted {
            steps.push(Step::Audit);
        }
        let unreadable = may.unreadable.is_some() && !self.was_unreadable;
        if self.account.unreadable.is_some() {
            steps.push(Step::Clear);
        }
        for (nth, run) in self.runs() {
            if may.lag
                && self.account.before[nth].is_some()
                && matches!(self.feed.wait, Wait::Pages(..))
            {
                steps.push(Step::Lag(nth));
            }
            if unreadable && run.is_listed() {
                steps.push(Step::Blur(nth));
            }
            let late = self.account.starts[nth] < self.account.newest;
            match run {
                Run::Unborn if may.late || !late => steps.push(Step::Create(nth)),
                Run::Running(_) if may.end && self.unseen & bit(nth) == 0 => {
                    steps.push(Step::End(nth))
                }
                Run::Ended(0) if may.resurrect => steps.push(Step::Resurrect(nth)),
                _ => {}
            }
            if may.delete && run.is_listed() {
                steps.push(Step::Delete(nth));
            }
        }
        steps
    }

    fn kind(&self) -> Option<Step> {
        match &self.feed.wait {
            Wait::Asleep(Outcome::CaughtUp | Outcome::Audited)
                if self.equals() && !self.audit_wanted =>
            {
                None
            }
            Wait::Asleep(_) if self.account.unreadable.is_some() => Some(Step::Clear),
            Wait::Asleep(Outcome::CaughtUp) if self.excused != 0 && !self.audit_wanted => {
                Some(Step::Audit)
            }
            Wait::Asleep(_) => Some(Step::Wake),
            // Equal starts come in another order each time.
            _ => Some(Step::Answer(usize::from(self.reads) % self.orders())),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        let slept = match step {
            Step::Wake => self.wake(),
            Step::Answer(order) => self.answer(order),
            Step::Fail => self.fail(),
            Step::Lag(run) => self.lag(run),
            Step::Blur(run) => {
                self.blur(run);
                None
            }
            Step::Clear => {
                self.account.unreadable = None;
                self.audit_quiet = false;
                None
            }
            Step::Crash => {
                self.feed.restart(&self.mirror);
                self.audit_wanted = false;
                None
            }
            Step::Audit => {
                self.feed.request_audit();
                (self.audit_wanted, self.audit_quiet) = (true, true);
                None
            }
            change => {
                self.change(change);
                None
            }
        };
        for nth in 0..self.account.runs.len() {
            if self
                .row(nth)
                .is_some_and(|row| !row.stored.removed && !row.stored.run.status.is_terminal())
            {
                self.unseen &= !bit(nth);
            }
        }
        self.excuse();
        self.check()?;
        match slept {
            Some(Outcome::CaughtUp) => self.check_poll(),
            Some(Outcome::Audited) => {
                self.audit_wanted = false;
                if self.audit_quiet {
                    self.check_audit()
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn write(&self, text: &mut String) {
        for (nth, run) in self.runs() {
            let row = self.row(nth).map(|row| {
                let stored = &row.stored;
                (
                    stored.run.status.is_terminal(),
                    stored.run.finished_at.as_ref(),
                    stored.removed,
                    row.events.len(),
                )
            });
            let _ = write!(text, "{run:?}{row:?}");
        }
        let sets = (
            self.throughout,
            self.longer,
            self.unchanged,
            self.unseen,
            self.history,
            self.reads,
        );
        let _ = write!(
            text,
            "{sets:?}{:?}{:?}{}{}{}{}{}{}",
            self.account.before,
            self.account.unreadable,
            self.was_unreadable,
            self.excused,
            self.given_up,
            self.quiet,
            self.audit_quiet,
            self.audit_wanted
        );
        let _ = write!(text, "{:?}{:?}", self.feed.slept(), self.mirror.feed.audit);
        self.feed.write(text);
    }

    fn tell(&self, step: Step) -> String {
        let run =
            |nth: usize| format!("{} (started at {} s)", NAMES[nth], self.account.starts[nth]);
        match step {
            Step::Create(nth) => format!("{} is created", run(nth)),
            Step::End(nth) => format!("{} ends", run(nth)),
            Step::Resurrect(nth) => format!("{} is resurrected", run(nth)),
            Step::Delete(nth) => format!("{} is deleted", run(nth)),
            Step::Wake => "the machine is woken".to_owned(),
            Step::Answer(order) => {
                let listed: String = self
                    .account
                    .listed(order)
                    .into_iter()
                    .map(|nth| NAMES[nth])
                    .collect();
                format!("read: {}; the list is {listed}", self.feed.tell())
            }
            Step::Lag(nth) => {
                format!("read: {}; {} as it was before", self.feed.tell(), run(nth))
            }
            Step::Blur(nth) => format!("lists show {} unreadable", run(nth)),
            Step::Clear => "lists show every run as it is".to_owned(),
            Step::Fail => format!("a read fails: {}", self.feed.tell()),
            Step::Crash => "the process dies and is started again".to_owned(),
            Step::Audit => "an audit is requested".to_owned(),
        }
    }
}

fn check(plan: &'static Plan) {
    let limits = Limits {
        depth: plan.depth,
        deepest: plan.deepest,
        kind: plan.within,
    };
    search::check(plan.name, &World::new(plan), limits);
}

#[test]
fn a_first_sync() {
    check(&plans::FIRST);
}

#[test]
fn a_first_sync_of_equal_starts() {
    check(&plans::FIRST_TIES);
}

#[test]
fn equal_starts_in_pages_of_two() {
    check(&plans::TIES_OF_TWO);
}

#[test]
fn equal_starts_in_pages_of_three() {
    check(&plans::TIES_OF_THREE);
}

#[test]
fn runs_that_are_deleted() {
    check(&plans::DELETED);
}

#[test]
fn runs_that_end_and_are_resurrected() {
    check(&plans::RESURRECTED);
}

#[test]
fn runs_registered_late() {
    check(&plans::LATE);
}

#[test]
fn pages_that_are_asked_for_at_once() {
    check(&plans::AT_ONCE);
}

#[test]
fn audits() {
    check(&plans::AUDITED);
}

#[test]
fn audits_of_equal_starts() {
    check(&plans::AUDITED_TIES);
}

#[test]
fn audits_in_few_reads() {
    check(&plans::AUDITED_SWIFTLY);
}

#[test]
fn runs_that_are_deleted_while_others_are_found() {
    check(&plans::DELETED_AT_ONCE);
}

#[test]
fn equal_starts_that_are_found_at_once() {
    check(&plans::TIES_AT_ONCE);
}

#[test]
fn answers_without_totals() {
    check(&plans::WITHOUT_TOTALS);
}

#[test]
fn pages_smaller_than_asked_for() {
    check(&plans::SMALL_PAGES);
}

#[test]
fn answers_with_untrue_totals() {
    check(&plans::UNTRUE_TOTALS);
}

#[test]
fn lists_that_lag() {
    check(&plans::LAGGING);
}

#[test]
fn unreadable_entries() {
    check(&plans::UNREADABLE);
}

#[test]
fn unreadable_entries_without_an_id() {
    check(&plans::NAMELESS);
}

#[test]
fn unreadable_entries_in_few_reads() {
    check(&plans::NAMELESS_SWIFTLY);
}
