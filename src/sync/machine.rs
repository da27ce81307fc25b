//! The state machine of one feed: `state × input × now → state, command`.

mod auditing;
#[cfg(test)]
mod auditing_tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::diff::{Judgement, Observed, Source};
use super::page::{Listing, Page, Seen, Window};
use super::protocol::{
    Baseline, Command, Commit, FeedState, Input, OpenRuns, Outcome, ReadFailure, Settings, State,
    Then,
};
use super::refresh;
use crate::model::Timestamp;

/// The most list reads in the forward phase of one poll; what is left goes on at the next, at once.
const MAX_FORWARD_READS: u32 = 1_000;
/// The most pages of active runs read in one poll.
const MAX_ACTIVE_READS: u32 = 100;
/// The most runs re-read singly in one poll.
const MAX_SINGLE_READS: usize = 500;
/// The longest wait between polls that keep failing.
const MAX_FAILURE_WAIT: Duration = Duration::from_secs(300);
/// How many times as long as between polls it takes until a task that is lost is looked for again, and the most.
const LOST_WAIT_FACTOR: u32 = 60;
/// The longest such wait.
const MAX_LOST_WAIT: Duration = Duration::from_secs(900);
/// From this many runs on it pays to find out where they lie, to read several in one request.
const WORTH_LOCATING: usize = 3;

/// One feed's state machine. See [the module](super) for its phases.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    feed: FeedState,
    state: State,
    /// The size of page that the server gives, as far as is known.
    page: u32,
    /// Runs that this poll must still see, and whether they were active.
    unseen: BTreeMap<String, bool>,
    /// How the forward phase of this poll ended.
    outcome: Outcome,
    /// Forward reads in this poll.
    reads: u32,
    /// Polls begun.
    polls: u64,
    /// Polls failed in a row.
    failures: u32,
    /// When the answer that is being judged was asked for.
    asked_at: Timestamp,
    /// Time left until the next poll, from the end of the present sleep on.
    rest: Duration,
    /// Whether an audit is wanted without delay.
    hurry: bool,
    /// Whether audits must wait for the next poll to succeed.
    audit_barred: bool,
    /// Pages read in the present audit.
    audit_reads: u32,
    /// The end of the last page that an audit accepted.
    audited: u64,
    /// The runs on it.
    audited_last: Vec<String>,
}

impl Machine {
    /// A machine that goes on from `feed`.
    pub fn new(settings: Settings, feed: FeedState) -> Self {
        let page = settings.page_size;
        let audited = feed.audit.as_ref().map_or(0, |audit| audit.cursor.offset);
        Self {
            settings,
            feed,
            state: State::Asleep,
            page,
            unseen: BTreeMap::new(),
            outcome: Outcome::CaughtUp,
            reads: 0,
            polls: 0,
            failures: 0,
            asked_at: Timestamp::default(),
            rest: Duration::ZERO,
            hurry: false,
            audit_barred: false,
            audit_reads: 0,
            audited,
            audited_last: Vec::new(),
        }
    }

    /// What has been committed of this feed.
    pub fn feed(&self) -> &FeedState {
        &self.feed
    }

    /// Where the poll stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes one input at the local time `now` and says what to do next.
    ///
    /// # Panics
    /// When `input` does not answer the last command: a mistake of the caller, never of the API.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Command {
        let command = self.transition(input, now);
        // A page of an audit is judged together with the runs that were read singly for it, later.
        if matches!(command, Command::Read(_) | Command::ReadRuns(_))
            && !matches!(self.state, State::AuditSingles { .. })
        {
            self.asked_at = now;
        }
        command
    }

    fn transition(&mut self, input: Input, now: Timestamp) -> Command {
        match (std::mem::replace(&mut self.state, State::Asleep), input) {
            (State::Asleep, Input::Wake) if self.rest.is_zero() => self.begin(),
            (State::Asleep, Input::Wake) => self.audit_on(now),
            (State::LoadingOpen, Input::Open(open)) => self.opened(open, now),
            (State::Baseline, Input::Pages(pages)) => self.baseline(&pages, now),
            (
                State::Forward {
                    windows,
                    stride,
                    follows,
                },
                Input::Pages(pages),
            ) => self.forward(&windows, pages, stride, follows, now),
            (
                State::Active {
                    beyond,
                    pages,
                    since,
                },
                Input::Pages(answer),
            ) => self.active(answer, beyond, pages, since, now),
            (State::Locating, Input::Located(distances)) => self.located(&distances, now),
            (State::Behind { rest }, Input::Pages(pages)) => self.behind(pages, rest, now),
            (State::Singles { rest }, Input::Runs(runs)) => self.singles(runs, rest, now),
            (State::Committing { feed, then }, Input::Committed) => {
                self.feed = feed;
                self.follow(then, now)
            }
            (
                State::Audit {
                    window,
                    stride,
                    follows,
                },
                Input::Pages(pages),
            ) => self.audit_page(pages, window, stride, follows, now),
            (State::AuditUnseen { page }, Input::Unseen(ids)) => {
                self.audit_singles(page, ids, Vec::new(), Vec::new(), now)
            }
            (
                State::AuditSingles {
                    page,
                    rest,
                    found,
                    gone,
                },
                Input::Runs(runs),
            ) => self.audit_runs(page, rest, found, gone, runs, now),
            (State::Audit { .. } | State::AuditSingles { .. }, Input::Failed(_)) => {
                self.doze(Outcome::Failed, now)
            }
            (
                State::Baseline
                | State::Forward { .. }
                | State::Active { .. }
                | State::Behind { .. }
                | State::Singles { .. },
                Input::Failed(trouble),
            ) => self.failed(trouble, now),
            (state, input) => panic!("{input:?} does not answer {state:?}"),
        }
    }

    fn begin(&mut self) -> Command {
        self.polls += 1;
        self.reads = 0;
        self.outcome = Outcome::CaughtUp;
        self.state = State::LoadingOpen;
        Command::LoadOpen {
            within: u64::from(self.page),
        }
    }

    fn opened(&mut self, open: OpenRuns, now: Timestamp) -> Command {
        self.unseen = open
            .runs
            .into_iter()
            .map(|run| (run.id, run.active))
            .collect();
        if self.feed.baseline.is_none() {
            self.state = State::Baseline;
            return Command::Read(vec![Window {
                listing: Listing::Newest,
                offset: 0,
                limit: 1,
            }]);
        }
        self.follow(
            Then::Forward {
                follows: false,
                reach: open.reach,
            },
            now,
        )
    }

    fn baseline(&mut self, pages: &[Page], now: Timestamp) -> Command {
        // The maximum, in case the server ignored the order or the limit asked for.
        let newest = pages.iter().filter_map(Page::newest_start).max();
        let feed = FeedState {
            baseline: Some(Baseline(newest)),
            ..self.feed.clone()
        };
        let commit = self.empty_commit(feed, now);
        self.commit(
            commit,
            Then::Forward {
                follows: false,
                reach: 0,
            },
        )
    }

    fn follow(&mut self, then: Then, now: Timestamp) -> Command {
        match then {
            Then::Forward { follows, reach } => self.read_forward(follows, reach),
            Then::AfterForward => self.after_forward(now),
            Then::Active {
                offset,
                beyond,
                pages,
                since,
            } => self.read_active(offset, beyond, pages, since),
            Then::AfterActive => self.after_active(now),
            Then::Behind { rest } => self.read_behind(rest, now),
            Then::Singles { rest } => self.read_singles(rest, now),
            Then::Sleep(outcome) => self.sleep(outcome, now),
            Then::Rest(outcome) => self.doze(outcome, now),
        }
    }

    /// The first read of a poll begins `overlap` entries before the cursor, or as far back as open runs within one
    /// page need. Later reads repeat a single entry, the watermark: with a larger overlap, a list that grows faster
    /// than a small page less the overlap would never be caught up.
    fn read_forward(&mut self, follows: bool, reach: u64) -> Command {
        let offset = self.feed.cursor.offset;
        // Where pages are small, a larger overlap would take several to come back from.
        let overlap = u64::from(self.settings.overlap.min(self.page / 2));
        let back = if follows { 1 } else { overlap.max(reach) };
        let start = offset.saturating_sub(back);
        let ahead = match self.feed.total {
            Some(total) if follows => self.read_ahead(total.saturating_sub(start)),
            _ => 1,
        };
        let step = u64::from(self.page.saturating_sub(1).max(1));
        let windows = (0..ahead)
            .map(|n| self.window(start.saturating_add(n * step)))
            .collect();
        self.read_windows(windows, overlap.max(1), follows)
    }

    /// How many pages to ask for at once when `left` entries are known to remain.
    fn read_ahead(&self, left: u64) -> u64 {
        let pages = left.div_ceil(u64::from(self.page.saturating_sub(1).max(1)));
        pages.clamp(1, self.settings.read_ahead.max(1) as u64)
    }

    fn window(&self, offset: u64) -> Window {
        Window {
            listing: Listing::All,
            offset,
            limit: self.settings.page_size,
        }
    }

    fn read_windows(&mut self, windows: Vec<Window>, stride: u64, follows: bool) -> Command {
        self.reads = self
            .reads
            .saturating_add(u32::try_from(windows.len()).unwrap_or(u32::MAX));
        self.state = State::Forward {
            windows: windows.clone(),
            stride,
            follows,
        };
        Command::Read(windows)
    }

    fn forward(
        &mut self,
        asked: &[Window],
        pages: Vec<Page>,
        stride: u64,
        follows: bool,
        now: Timestamp,
    ) -> Command {
        self.learn_page_size(&pages);
        let mut cursor = self.feed.cursor.clone();
        let mut total = self.feed.total;
        let mut observed = Vec::new();
        let mut accepted = 0;
        let (mut at_end, mut stalled) = (false, false);
        for page in &pages {
            if !cursor.joins(page) {
                break;
            }
            let next = cursor.after(page);
            at_end = page.reaches_end();
            stalled = !at_end && (follows || accepted > 0) && next.offset <= cursor.offset;
            cursor = next;
            total = page.total.or(total);
            accepted += 1;
            if at_end || stalled {
                break;
            }
        }
        if accepted == 0 {
            // What the page shows is dropped, and the read is made again further back.
            return match asked
                .first()
                .and_then(|asked| step_back(asked, pages.first(), stride))
            {
                Some(offset) => {
                    self.read_windows(vec![self.window(offset)], stride.saturating_mul(2), false)
                }
                None => {
                    self.outcome = Outcome::Stalled;
                    self.after_forward(now)
                }
            };
        }
        for page in pages.into_iter().take(accepted) {
            self.note(&page);
            observed.extend(listed(page));
        }
        let then = if at_end {
            Then::AfterForward
        } else if stalled {
            self.outcome = Outcome::Stalled;
            Then::AfterForward
        } else if self.reads >= MAX_FORWARD_READS {
            Then::Sleep(Outcome::Behind)
        } else {
            Then::Forward {
                follows: true,
                reach: 0,
            }
        };
        let mut feed = FeedState {
            cursor,
            total,
            complete: self.feed.complete || at_end,
            ..self.feed.clone()
        };
        if feed.complete && feed.audit_due_at.is_none() {
            feed.audit_due_at = self.first_audit_due(now);
        }
        let commit = Commit {
            observed,
            ..self.empty_commit(feed, now)
        };
        self.commit(commit, then)
    }

    /// A page that stops short of the list's end shows how much the server gives at once, whatever it says of that.
    fn learn_page_size(&mut self, pages: &[Page]) {
        let Some(page) = pages.first() else { return };
        let given = if page.reaches_end() {
            page.limit
        } else {
            Some(page.items.len() as u64)
        };
        if let Some(given) = given.filter(|given| *given > 0) {
            self.page = u32::try_from(given)
                .unwrap_or(u32::MAX)
                .min(self.settings.page_size);
        }
    }

    fn after_forward(&mut self, now: Timestamp) -> Command {
        let watch_due = self
            .feed
            .watched_at
            // A time in the future was written before the clock was set back.
            .is_none_or(|at| at > now || now.since(at) >= self.settings.watch_interval);
        let active = self.unseen.values().filter(|active| **active).count();
        // For a single run, reading it is as cheap as finding out whether it is still active.
        if watch_due || active > 1 {
            return self.read_active(0, 0, 0, now);
        }
        self.after_active(now)
    }

    fn read_active(&mut self, offset: u64, beyond: u64, pages: u32, since: Timestamp) -> Command {
        self.state = State::Active {
            beyond,
            pages,
            since,
        };
        Command::Read(vec![Window {
            listing: Listing::Active,
            offset,
            limit: self.settings.page_size,
        }])
    }

    fn active(
        &mut self,
        answer: Vec<Page>,
        beyond: u64,
        pages: u32,
        since: Timestamp,
        now: Timestamp,
    ) -> Command {
        let Some(page) = answer.into_iter().next() else {
            return self.failed(ReadFailure::Temporary, now);
        };
        self.note(&page);
        let end = page.end();
        // A server that ignores the filter would have us read the whole list, page by page, for nothing.
        let filtered = page.items.iter().all(|seen| !seen.run.status.is_terminal());
        let more = filtered && !page.reaches_end() && end > beyond && pages + 1 < MAX_ACTIVE_READS;
        let mut feed = self.feed.clone();
        let then = if more {
            // Runs leave this list all the time, which moves the others to the front: pages overlap.
            let overlap = u64::from(self.settings.overlap).min(page.items.len() as u64 / 2);
            Then::Active {
                offset: end - overlap,
                beyond: end,
                pages: pages + 1,
                since,
            }
        } else {
            feed.watched_at = Some(since);
            Then::AfterActive
        };
        let commit = Commit {
            observed: listed(page).collect(),
            ..self.empty_commit(feed, now)
        };
        self.commit(commit, then)
    }

    fn after_active(&mut self, now: Timestamp) -> Command {
        if self.unseen.len() >= WORTH_LOCATING {
            self.state = State::Locating;
            return Command::Locate(self.unseen.keys().cloned().collect());
        }
        self.read_behind(Vec::new(), now)
    }

    fn located(&mut self, distances: &[u64], now: Timestamp) -> Command {
        let rest = refresh::windows(distances, self.feed.cursor.offset, self.page);
        self.read_behind(rest, now)
    }

    fn read_behind(&mut self, mut rest: Vec<Window>, now: Timestamp) -> Command {
        if rest.is_empty() {
            let mut ids: Vec<String> = self.unseen.keys().cloned().collect();
            if ids.len() > MAX_SINGLE_READS {
                // Each poll begins elsewhere, so that every run has its turn.
                let turn = (self.polls as usize).wrapping_mul(MAX_SINGLE_READS) % ids.len();
                ids.rotate_left(turn);
                ids.truncate(MAX_SINGLE_READS);
            }
            return self.read_singles(ids, now);
        }
        let later = rest.split_off(rest.len().min(self.settings.read_ahead.max(1)));
        self.state = State::Behind { rest: later };
        Command::Read(rest)
    }

    fn behind(&mut self, pages: Vec<Page>, rest: Vec<Window>, now: Timestamp) -> Command {
        let mut observed = Vec::new();
        for page in pages {
            self.note(&page);
            observed.extend(listed(page));
        }
        let commit = Commit {
            observed,
            ..self.empty_commit(self.feed.clone(), now)
        };
        self.commit(commit, Then::Behind { rest })
    }

    fn read_singles(&mut self, mut rest: Vec<String>, now: Timestamp) -> Command {
        if rest.is_empty() {
            let finished = self.outcome == Outcome::CaughtUp;
            let commit = Commit {
                finished,
                ..self.empty_commit(self.feed.clone(), now)
            };
            return self.commit(commit, Then::Sleep(self.outcome));
        }
        let later = rest.split_off(rest.len().min(self.settings.read_ahead.max(1)));
        self.state = State::Singles { rest: later };
        Command::ReadRuns(rest)
    }

    fn singles(
        &mut self,
        runs: Vec<(String, Option<Seen>)>,
        rest: Vec<String>,
        now: Timestamp,
    ) -> Command {
        let (mut observed, mut gone) = (Vec::new(), Vec::new());
        for (id, run) in runs {
            self.unseen.remove(&id);
            match run {
                Some(seen) => observed.push(Observed {
                    seen,
                    source: Source::Detail,
                }),
                None => gone.push(id),
            }
        }
        let commit = Commit {
            observed,
            gone,
            ..self.empty_commit(self.feed.clone(), now)
        };
        self.commit(commit, Then::Singles { rest })
    }

    /// Crosses the runs of a page off the list of those still to be seen.
    fn note(&mut self, page: &Page) {
        for seen in &page.items {
            self.unseen.remove(&seen.run.id);
        }
    }

    /// A commit that moves the feed to `feed` and has nothing else to say.
    fn empty_commit(&self, feed: FeedState, now: Timestamp) -> Commit {
        let history_until = match feed.baseline {
            Some(Baseline(until)) if !self.settings.history_events => until,
            _ => None,
        };
        let judgement = Judgement {
            history_until,
            settle: self.settings.settle,
            now,
            asked_at: self.asked_at,
        };
        Commit {
            observed: Vec::new(),
            gone: Vec::new(),
            covered: None,
            feed,
            judgement,
            finished: false,
        }
    }

    fn commit(&mut self, commit: Commit, then: Then) -> Command {
        self.state = State::Committing {
            feed: commit.feed.clone(),
            then,
        };
        Command::Commit(Box::new(commit))
    }

    /// The end of a poll.
    fn sleep(&mut self, outcome: Outcome, now: Timestamp) -> Command {
        self.failures = 0;
        let nominal = if outcome == Outcome::Behind {
            Duration::ZERO
        } else {
            self.settings.poll_interval
        };
        self.rest_for(nominal);
        self.audit_barred = outcome != Outcome::CaughtUp;
        self.doze(outcome, now)
    }

    /// The end of a poll that failed.
    fn failed(&mut self, trouble: ReadFailure, now: Timestamp) -> Command {
        self.failures = self.failures.saturating_add(1);
        let usual = self.settings.poll_interval;
        let (factor, most) = match trouble {
            ReadFailure::Temporary => (1 << (self.failures - 1).min(15), MAX_FAILURE_WAIT),
            ReadFailure::Lost => (LOST_WAIT_FACTOR, MAX_LOST_WAIT),
        };
        self.rest_for(usual.saturating_mul(factor).min(most.max(usual)));
        self.audit_barred = true;
        self.doze(Outcome::Failed, now)
    }

    fn rest_for(&mut self, nominal: Duration) {
        self.unseen.clear();
        self.rest = self.settings.seed.jittered(nominal, self.polls);
    }

    /// Sleeps until the next poll, or until the next part of an audit is due.
    fn doze(&mut self, outcome: Outcome, now: Timestamp) -> Command {
        match outcome {
            Outcome::Audited => self.hurry = false,
            // Whatever keeps an audit from going on may be over after the next poll.
            Outcome::Failed | Outcome::Stalled => self.audit_barred = true,
            Outcome::CaughtUp | Outcome::Behind | Outcome::Auditing => {}
        }
        let wait = self
            .audit_wait(now)
            .map_or(self.rest, |wait| wait.min(self.rest));
        self.rest -= wait;
        self.state = State::Asleep;
        Command::Sleep { wait, outcome }
    }
}

/// Where to read again when a page does not join: something before the cursor was deleted. `stride` before the page
/// that was asked for, or before the end that the server tells of, if that has come to lie before the page. `None` when
/// the list's beginning was asked for and something else was given: there is nothing before it to try.
fn step_back(asked: &Window, shown: Option<&Page>, stride: u64) -> Option<u64> {
    let end = shown.map_or(asked.offset, |page| {
        page.offset.min(page.total.unwrap_or(page.offset))
    });
    (asked.offset > 0).then(|| asked.offset.min(end).saturating_sub(stride))
}

fn listed(page: Page) -> impl Iterator<Item = Observed> {
    page.items.into_iter().map(|seen| Observed {
        seen,
        source: Source::List,
    })
}
