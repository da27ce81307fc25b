//! The state machine of one feed: `state × input × now → state, command`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diff::{Judgement, Observed, Source};
use super::jitter::jittered;
use super::page::{Listing, Page, Seen, Window};
use super::protocol::{Baseline, Command, Commit, FeedState, Input, OpenRuns, Outcome, Settings, State, Then};
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
}

impl Machine {
    /// A machine that goes on from `feed`.
    pub fn new(settings: Settings, feed: FeedState) -> Self {
        let page = settings.page_size;
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
        match (std::mem::replace(&mut self.state, State::Asleep), input) {
            (State::Asleep, Input::Wake) => self.begin(),
            (State::LoadingOpen, Input::Open(open)) => self.opened(open, now),
            (State::Baseline, Input::Pages(pages)) => self.baseline(&pages, now),
            (State::Forward { windows, stride, follows }, Input::Pages(pages)) => {
                self.forward(&windows, pages, stride, follows, now)
            }
            (State::Active { beyond, pages, since }, Input::Pages(answer)) => {
                self.active(answer, beyond, pages, since, now)
            }
            (State::Locating, Input::Located(distances)) => self.located(&distances, now),
            (State::Behind { rest }, Input::Pages(pages)) => self.behind(pages, rest, now),
            (State::Singles { rest }, Input::Runs(runs)) => self.singles(runs, rest, now),
            (State::Committing { feed, then }, Input::Committed) => {
                self.feed = feed;
                self.follow(then, now)
            }
            (State::Asleep | State::LoadingOpen | State::Committing { .. }, Input::Failed) => {
                panic!("only reads from the API fail")
            }
            (_, Input::Failed) => self.sleep(Outcome::Failed, now),
            (state, input) => panic!("{input:?} does not answer {state:?}"),
        }
    }

    fn begin(&mut self) -> Command {
        self.polls += 1;
        self.reads = 0;
        self.outcome = Outcome::CaughtUp;
        self.state = State::LoadingOpen;
        Command::LoadOpen { within: u64::from(self.page) }
    }

    fn opened(&mut self, open: OpenRuns, now: Timestamp) -> Command {
        self.unseen = open.runs.into_iter().map(|run| (run.id, run.active)).collect();
        if self.feed.baseline.is_none() {
            self.state = State::Baseline;
            return Command::Read(vec![Window { listing: Listing::Newest, offset: 0, limit: 1 }]);
        }
        self.follow(Then::Forward { follows: false, reach: open.reach }, now)
    }

    fn baseline(&mut self, pages: &[Page], now: Timestamp) -> Command {
        // The maximum, in case the server ignored the order or the limit asked for.
        let newest = pages.iter().filter_map(Page::newest_start).max();
        let feed = FeedState { baseline: Some(Baseline(newest)), ..self.feed.clone() };
        self.commit(feed, Vec::new(), Then::Forward { follows: false, reach: 0 }, now)
    }

    fn follow(&mut self, then: Then, now: Timestamp) -> Command {
        match then {
            Then::Forward { follows, reach } => self.read_forward(follows, reach),
            Then::AfterForward => self.after_forward(now),
            Then::Active { offset, beyond, pages, since } => self.read_active(offset, beyond, pages, since),
            Then::AfterActive => self.after_active(now),
            Then::Behind { rest } => self.read_behind(rest, now),
            Then::Singles { rest } => self.read_singles(rest, now),
            Then::Sleep(outcome) => self.sleep(outcome, now),
        }
    }

    /// The first read of a poll begins `overlap` entries before the cursor, or as far back as open runs within one
    /// page need. Later reads repeat a single entry, the watermark: with a larger overlap, a list that grows faster
    /// than a small page less the overlap would never be caught up.
    fn read_forward(&mut self, follows: bool, reach: u64) -> Command {
        let offset = self.feed.cursor.offset;
        let back = if follows { 1 } else { u64::from(self.settings.overlap.min(self.page / 2)).max(reach) };
        let start = offset.saturating_sub(back);
        let ahead = match self.feed.total {
            Some(total) if follows => self.read_ahead(total.saturating_sub(start)),
            _ => 1,
        };
        let step = u64::from(self.page.saturating_sub(1).max(1));
        let windows = (0..ahead).map(|n| self.window(start.saturating_add(n * step))).collect();
        self.read_windows(windows, u64::from(self.settings.overlap.max(1)), follows)
    }

    /// How many pages to ask for at once when `left` entries are known to remain.
    fn read_ahead(&self, left: u64) -> u64 {
        let pages = left.div_ceil(u64::from(self.page.saturating_sub(1).max(1)));
        pages.clamp(1, self.settings.read_ahead.max(1) as u64)
    }

    fn window(&self, offset: u64) -> Window {
        Window { listing: Listing::All, offset, limit: self.settings.page_size }
    }

    fn read_windows(&mut self, windows: Vec<Window>, stride: u64, follows: bool) -> Command {
        self.reads = self.reads.saturating_add(u32::try_from(windows.len()).unwrap_or(u32::MAX));
        self.state = State::Forward { windows: windows.clone(), stride, follows };
        Command::Read(windows)
    }

    fn forward(&mut self, asked: &[Window], pages: Vec<Page>, stride: u64, follows: bool, now: Timestamp) -> Command {
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
            return self.step_back(asked, &pages, stride, now);
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
            Then::Forward { follows: true, reach: 0 }
        };
        let complete = self.feed.complete || at_end;
        let feed = FeedState { cursor, total, complete, ..self.feed.clone() };
        self.commit(feed, observed, then, now)
    }

    /// The first page did not join: something before the cursor was deleted. What the page shows is dropped, and the
    /// read is made again further back; from the end that the server tells of, if that has come to lie before the
    /// page.
    fn step_back(&mut self, asked: &[Window], pages: &[Page], stride: u64, now: Timestamp) -> Command {
        let asked = asked.first().map_or(0, |window| window.offset);
        if asked == 0 {
            // The list's beginning was asked for and something else was given. There is nothing before it to try.
            self.outcome = Outcome::Stalled;
            return self.after_forward(now);
        }
        let shown = pages.first().map_or(asked, |page| page.offset.min(page.total.unwrap_or(page.offset)));
        let start = asked.min(shown).saturating_sub(stride);
        self.read_windows(vec![self.window(start)], stride.saturating_mul(2), false)
    }

    /// A page that stops short of the list's end shows how much the server gives at once, whatever it says of that.
    fn learn_page_size(&mut self, pages: &[Page]) {
        let Some(page) = pages.first() else { return };
        let given = if page.reaches_end() { page.limit } else { Some(page.items.len() as u64) };
        if let Some(given) = given.filter(|given| *given > 0) {
            self.page = u32::try_from(given).unwrap_or(u32::MAX).min(self.settings.page_size);
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
        self.state = State::Active { beyond, pages, since };
        Command::Read(vec![Window { listing: Listing::Active, offset, limit: self.settings.page_size }])
    }

    fn active(&mut self, answer: Vec<Page>, beyond: u64, pages: u32, since: Timestamp, now: Timestamp) -> Command {
        let Some(page) = answer.into_iter().next() else { return self.sleep(Outcome::Failed, now) };
        self.note(&page);
        let end = page.end();
        // A server that ignores the filter would have us read the whole list, page by page, for nothing.
        let filtered = page.items.iter().all(|seen| !seen.run.status.is_terminal());
        let more = filtered && !page.reaches_end() && end > beyond && pages + 1 < MAX_ACTIVE_READS;
        let mut feed = self.feed.clone();
        let then = if more {
            // Runs leave this list all the time, which moves the others to the front: pages overlap.
            let overlap = u64::from(self.settings.overlap).min(page.items.len() as u64 / 2);
            Then::Active { offset: end - overlap, beyond: end, pages: pages + 1, since }
        } else {
            feed.watched_at = Some(since);
            Then::AfterActive
        };
        self.commit(feed, listed(page).collect(), then, now)
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
        self.commit(self.feed.clone(), observed, Then::Behind { rest }, now)
    }

    fn read_singles(&mut self, mut rest: Vec<String>, now: Timestamp) -> Command {
        if rest.is_empty() {
            let outcome = self.outcome;
            let feed = self.feed.clone();
            return self.commit_as(
                feed,
                Vec::new(),
                Vec::new(),
                outcome == Outcome::CaughtUp,
                Then::Sleep(outcome),
                now,
            );
        }
        let later = rest.split_off(rest.len().min(self.settings.read_ahead.max(1)));
        self.state = State::Singles { rest: later };
        Command::ReadRuns(rest)
    }

    fn singles(&mut self, runs: Vec<(String, Option<Seen>)>, rest: Vec<String>, now: Timestamp) -> Command {
        let (mut observed, mut gone) = (Vec::new(), Vec::new());
        for (id, run) in runs {
            self.unseen.remove(&id);
            match run {
                Some(seen) => observed.push(Observed { seen, source: Source::Detail }),
                None => gone.push(id),
            }
        }
        self.commit_as(self.feed.clone(), observed, gone, false, Then::Singles { rest }, now)
    }

    /// Crosses the runs of a page off the list of those still to be seen.
    fn note(&mut self, page: &Page) {
        for seen in &page.items {
            self.unseen.remove(&seen.run.id);
        }
    }

    fn commit(&mut self, feed: FeedState, observed: Vec<Observed>, then: Then, now: Timestamp) -> Command {
        self.commit_as(feed, observed, Vec::new(), false, then, now)
    }

    fn commit_as(
        &mut self,
        feed: FeedState,
        observed: Vec<Observed>,
        gone: Vec<String>,
        finished: bool,
        then: Then,
        now: Timestamp,
    ) -> Command {
        let history_until = match feed.baseline {
            Some(Baseline(until)) if !self.settings.history_events => until,
            _ => None,
        };
        let judgement = Judgement { history_until, settle: self.settings.settle, now };
        self.state = State::Committing { feed: feed.clone(), then };
        Command::Commit(Box::new(Commit { observed, gone, feed, judgement, finished }))
    }

    fn sleep(&mut self, outcome: Outcome, now: Timestamp) -> Command {
        self.unseen.clear();
        self.failures = if outcome == Outcome::Failed { self.failures.saturating_add(1) } else { 0 };
        let nominal = match outcome {
            Outcome::Behind => Duration::ZERO,
            Outcome::CaughtUp | Outcome::Stalled => self.settings.poll_interval,
            Outcome::Failed => {
                let doubled =
                    self.settings.poll_interval.saturating_mul(1 << self.failures.clamp(1, 16).saturating_sub(1));
                doubled.min(MAX_FAILURE_WAIT.max(self.settings.poll_interval))
            }
        };
        let until = now.plus(jittered(nominal, self.settings.jitter_seed, self.polls));
        self.state = State::Asleep;
        Command::Sleep { until, outcome }
    }
}

fn listed(page: Page) -> impl Iterator<Item = Observed> {
    page.items.into_iter().map(|seen| Observed { seen, source: Source::List })
}
