//! What passes between a machine and whoever drives it, and where a poll can stand.

use std::time::Duration;

use super::audit::{Audit, Covered, Gap};
use super::cursor::Cursor;
use super::diff::{Judgement, Observed};
use super::page::{Page, Seen, Window};
use crate::model::{Seed, Timestamp};

/// How a feed is polled. Every field is validated with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Entries to ask for in a page, at least 2.
    pub page_size: u32,
    /// Entries re-read before the cursor at the beginning of every poll.
    pub overlap: u32,
    /// Nominal time between polls.
    pub poll_interval: Duration,
    /// Longest time between looks for activity behind the cursor.
    pub watch_interval: Duration,
    /// How long after its end a finished run is re-read.
    pub settle: Duration,
    /// Time between the end of one audit and the beginning of the next; `None` for no audits but those asked for.
    pub audit_interval: Option<Duration>,
    /// Pages to fetch at once in a long catch-up, at least 1.
    pub read_ahead: usize,
    /// Whether runs from before the first sync raise events too.
    pub history_events: bool,
    /// Sets this feed's waits apart from others'.
    pub seed: Seed,
}

/// The newest run's start when the first sync began; runs up to it are history. `None` inside: the list was empty, so
/// there is no history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline(pub Option<Timestamp>);

/// What is remembered of a feed across polls and restarts: one row of `cursors`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedState {
    /// How far forward reading has come.
    pub cursor: Cursor,
    /// What counts as history, once it is known.
    pub baseline: Option<Baseline>,
    /// Whether forward reading has reached the end of the list at least once.
    pub complete: bool,
    /// When the last complete look for activity behind the cursor began.
    pub watched_at: Option<Timestamp>,
    /// How many runs the server listed last.
    pub total: Option<u64>,
    /// The audit in progress.
    pub audit: Option<Audit>,
    /// When the last complete audit ended.
    pub audited_at: Option<Timestamp>,
    /// When the next one is due.
    pub audit_due_at: Option<Timestamp>,
}

/// A run that every poll must re-read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// Its id.
    pub id: String,
    /// Whether it was active when last seen, rather than ended and not settled.
    pub active: bool,
}

/// The runs that this poll must re-read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenRuns {
    /// All of them.
    pub runs: Vec<OpenRun>,
    /// How far behind the cursor the farthest one lies that is within the asked distance, in entries; 0 if none is.
    pub reach: u64,
}

/// One atomic step of the mirror: rows, their events, their deliveries and the cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Runs as they were seen, in order. Of two with one id, the later counts.
    pub observed: Vec<Observed>,
    /// Runs that the account no longer knows.
    pub gone: Vec<String>,
    /// Where the runs observed are all that the list has: others are no longer listed.
    pub covered: Option<Covered>,
    /// The feed's state after this step.
    pub feed: FeedState,
    /// What observations are judged by.
    pub judgement: Judgement,
    /// Whether this step ends a poll that did all it had to.
    pub finished: bool,
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything there is has been seen.
    CaughtUp,
    /// The bound on reads in one poll was reached; the next poll goes on at once.
    Behind,
    /// The server says there is more than it shows.
    Stalled,
    /// A read failed.
    Failed,
    /// A part of an audit is done; the next follows.
    Auditing,
    /// An audit is complete.
    Audited,
}

/// What kind of failure a read ended in, as far as it matters when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The next attempt may well succeed.
    Temporary,
    /// There is no such task, or the token may not see it: somebody must do something about it.
    Lost,
}

/// What the daemon is to do. Every command but [`Command::Sleep`] is answered by the named input or, where it reads
/// from the API, by [`Input::Failed`].
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Load the runs to re-read; answered by [`Input::Open`].
    LoadOpen {
        /// The distance behind the cursor that one page can cover, in entries.
        within: u64,
    },
    /// Read these windows, all at once if possible; answered by [`Input::Pages`].
    Read(Vec<Window>),
    /// Estimate how far behind the cursor these runs lie; answered by [`Input::Located`].
    Locate(Vec<String>),
    /// Read these runs singly; answered by [`Input::Runs`].
    ReadRuns(Vec<String>),
    /// Load the listed runs that started within any of `stretches` and are not among `except`; answered by
    /// [`Input::Unseen`].
    LoadUnseen {
        /// Where to look.
        stretches: Vec<Gap>,
        /// Runs that have been seen.
        except: Vec<String>,
    },
    /// Store this; answered by [`Input::Committed`].
    Commit(Box<Commit>),
    /// There is nothing to do for a time; then wake the machine.
    Sleep {
        /// How long. A length, not an instant: the clock may be set meanwhile.
        wait: Duration,
        /// How the poll, or the part of an audit, ended.
        outcome: Outcome,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Go on: the time to sleep is over.
    Wake,
    /// The runs to re-read.
    Open(OpenRuns),
    /// The pages of the windows asked for, in order. A window that failed is missing, with all those after it; there
    /// is at least one page.
    Pages(Vec<Page>),
    /// Distances behind the cursor, in entries, of the runs asked about; those not in the mirror are left out.
    Located(Vec<u64>),
    /// The runs asked for; `None` for one that the account no longer knows.
    Runs(Vec<(String, Option<Seen>)>),
    /// The runs that were not seen.
    Unseen(Vec<String>),
    /// The commit is on disk.
    Committed,
    /// A read failed, after all the retries it was worth.
    Failed(ReadFailure),
}

/// Where a poll stands: which answer is awaited, and what it is for.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Between polls.
    Asleep,
    /// Awaiting the list of open runs.
    LoadingOpen,
    /// Awaiting the newest run, on the first poll.
    Baseline,
    /// Awaiting pages from the cursor on.
    Forward {
        /// What was asked for.
        windows: Vec<Window>,
        /// How far to step back if the first page does not join.
        stride: u64,
        /// Whether the read follows on an accepted page of this poll, so that it must bring something new.
        follows: bool,
    },
    /// Awaiting a page of active runs.
    Active {
        /// The end of the page before, which this one must get beyond.
        beyond: u64,
        /// Pages read before this one.
        pages: u32,
        /// When the first of them was asked for.
        since: Timestamp,
    },
    /// Awaiting the whereabouts of open runs behind the cursor.
    Locating,
    /// Awaiting pages behind the cursor.
    Behind {
        /// Windows not asked for yet.
        rest: Vec<Window>,
    },
    /// Awaiting single runs.
    Singles {
        /// Runs not asked for yet.
        rest: Vec<String>,
    },
    /// Awaiting a page of an audit.
    Audit {
        /// What was asked for.
        window: Window,
        /// How far to step back if the page does not join.
        stride: u64,
        /// Whether the read follows on an accepted page, so that it must bring something new.
        follows: bool,
    },
    /// Awaiting the runs that an accepted page of an audit leaves in doubt.
    AuditUnseen {
        /// The page.
        page: Page,
    },
    /// Awaiting such runs, read singly.
    AuditSingles {
        /// The page.
        page: Page,
        /// Runs not asked for yet.
        rest: Vec<String>,
        /// What was found.
        found: Vec<Observed>,
        /// What was not.
        gone: Vec<String>,
    },
    /// Awaiting a commit.
    Committing {
        /// The feed's state once the commit is on disk.
        feed: FeedState,
        /// What comes then.
        then: Then,
    },
}

/// What follows on a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// Read on from the cursor; at the beginning of a poll far enough back to cover open runs within this reach.
    Forward {
        /// Whether an accepted page of this poll lies before the cursor.
        follows: bool,
        /// How far behind the cursor to begin at least, in entries.
        reach: u64,
    },
    /// Forward reading is done.
    AfterForward,
    /// Read on in the active runs, from this offset.
    Active {
        /// Where to read.
        offset: u64,
        /// See [`State::Active`].
        beyond: u64,
        /// See [`State::Active`].
        pages: u32,
        /// See [`State::Active`].
        since: Timestamp,
    },
    /// It is known which open runs are still active.
    AfterActive,
    /// Read on behind the cursor.
    Behind {
        /// Windows to read.
        rest: Vec<Window>,
    },
    /// Read on singly.
    Singles {
        /// Runs to read.
        rest: Vec<String>,
    },
    /// Nothing; the poll is over.
    Sleep(Outcome),
    /// Nothing; a part of an audit is over.
    Rest(Outcome),
}
