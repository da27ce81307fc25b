//! What a machine and its driver exchange: settings, commands, inputs, and the state of a feed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::audit::{Audit, Covered, Gap};
use super::cursor::Cursor;
use super::diff::{Baseline, Judgement, Observed};
use super::page::{Page, Seen, Unreadable, Window};
use crate::model::{Details, Seed, Timestamp};

/// The longest time for which a run is read again after its end.
pub const MAX_SETTLE: Duration = Duration::from_secs(24 * 3_600);

/// The most open runs that one poll loads; few in tests, which so get there sooner.
pub const MAX_OPEN: usize = if cfg!(test) { 1_000 } else { 20_000 };

/// How a feed is polled. The configuration validates every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Entries to request in a page, at least 2.
    pub page_size: u32,
    /// Entries before the cursor that every poll reads again.
    pub overlap: u32,
    /// Nominal time between polls.
    pub poll_interval: Duration,
    /// Longest time between two reads that look for activity behind the cursor.
    pub watch_interval: Duration,
    /// How long a finished run is read again after its end.
    pub settle: Duration,
    /// Time between the end of one audit and the start of the next; `None` for audits on request only.
    pub audit_interval: Option<Duration>,
    /// Requests to make at once, at least 1.
    pub read_ahead: usize,
    /// Whether runs from before the first sync raise events too.
    pub history_events: bool,
    /// Of which runs that have ended the details are read.
    pub details: Details,
    /// This feed's seed for jitter.
    pub seed: Seed,
}

/// What survives of a feed between polls and restarts: one row of `feeds`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedState {
    /// The position of forward reading.
    pub cursor: Cursor,
    /// What counts as history, once known.
    pub baseline: Option<Baseline>,
    /// Whether forward reading has reached the end of the list at least once.
    pub complete: bool,
    /// When the last complete watch read began.
    pub watched_at: Option<Timestamp>,
    /// The `total` that the server reported last.
    pub total: Option<u64>,
    /// The audit in progress.
    pub audit: Option<Audit>,
    /// When the last complete audit ended.
    pub audited_at: Option<Timestamp>,
    /// When the next audit is due.
    pub audit_due_at: Option<Timestamp>,
}

/// A run that every poll must read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// Its id.
    pub id: String,
    /// Whether it was active when last seen. If not, it has ended and its figures are not final yet.
    pub active: bool,
}

/// The runs that a poll must read again, at most [`MAX_OPEN`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenRuns {
    /// All of them.
    pub runs: Vec<OpenRun>,
    /// The distance behind the cursor, in entries, of the farthest one within the requested distance; 0 if there is
    /// none.
    pub reach: u64,
}

/// One transaction of the mirror: rows, their events, their deliveries and the cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Runs as they were seen, in order. If an id occurs twice, the later one counts.
    pub observed: Vec<Observed>,
    /// Runs that no longer exist in the account.
    pub gone: Vec<String>,
    /// Entries that cannot be stored as runs, with their offsets.
    pub unreadable: Vec<(u64, Unreadable)>,
    /// Ids among `unreadable` that single reads have shown: they cannot be read in the list alone.
    pub readable: BTreeSet<String>,
    /// Where `observed` is everything the list has: other runs there are no longer listed.
    pub covered: Option<Covered>,
    /// The feed's state after this commit.
    pub feed: FeedState,
    /// The context in which to judge the observations.
    pub judgement: Judgement,
    /// Whether this commit ends a successful poll.
    pub finished: bool,
}

/// How a poll, or a page of an audit, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The poll has seen everything.
    CaughtUp,
    /// The poll reached its limit of reads. The next one continues at once.
    Behind,
    /// The server's answers show no way on.
    Stalled(Stall),
    /// A read failed.
    Failed,
    /// A page of an audit is done, and more follow.
    Auditing,
    /// The audit is complete.
    Audited,
}

/// Why the answers of a server show no way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// It gives the same page whatever offset is asked for, and reports more entries than that.
    OffsetIgnored,
    /// Asked for the beginning of the list, it says that it gives another part.
    OtherPage,
    /// It shows nothing beyond what was read, in many reads, but reports more.
    NothingBeyond,
    /// A great many reads have shown nothing new.
    NoProgress,
    /// Of a great many runs in a row, an audit can decide nothing: they have equal starts, or are out of order.
    Undecided,
}

/// Why a read failed, as far as it decides when to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// A retry may succeed.
    Temporary,
    /// The task does not exist, or the token may not read it. A retry succeeds only after the account or the token changes.
    Unavailable,
}

/// The answer to a single read.
#[derive(Clone, Debug, PartialEq)]
pub enum Single {
    /// The run.
    Found(Box<Seen>),
    /// It no longer exists.
    Gone,
    /// It could not be read. That delays no other run.
    Failed,
}

/// What the daemon must do. Each command but [`Command::Sleep`] is answered by the named input, or, where it reads
/// from the API, by [`Input::Failed`].
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Load the runs to read again; answered by [`Input::Open`].
    LoadOpen {
        /// The distance behind the cursor that one page covers, in entries.
        within: u64,
        /// Where there are more than [`MAX_OPEN`], those after this run come first, by id.
        after: Option<String>,
    },
    /// Read windows, at once if possible; answered by [`Input::Pages`], for the first of them or more.
    Read {
        /// All of them, in order.
        windows: Vec<Window>,
        /// How many of them, the first, are those that the command before also had, and that were not answered: reads that
        /// were begun for them may go on. All others are to be dropped.
        begun: usize,
    },
    /// Estimate how far behind the cursor these runs lie; answered by [`Input::Located`].
    Locate(Vec<String>),
    /// Read these runs singly; answered by [`Input::Runs`].
    ReadRuns(Vec<String>),
    /// Load the listed runs that started within any of `gaps` and are not in `except`; answered by [`Input::Unseen`].
    LoadUnseen {
        /// When they started.
        gaps: Vec<Gap>,
        /// Runs that the audit has seen.
        except: Vec<String>,
    },
    /// Store this; answered by [`Input::Committed`].
    Commit(Box<Commit>),
    /// Wait, then answer with [`Input::Wake`].
    Sleep {
        /// How long. A duration, not an instant, because the clock may be set meanwhile.
        wait: Duration,
        /// How the poll, or the page of an audit, ended.
        outcome: Outcome,
    },
}

impl Command {
    /// Reads windows that no command had before.
    pub(crate) fn read(windows: Vec<Window>) -> Self {
        Self::Read { windows, begun: 0 }
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The wait is over.
    Wake,
    /// The runs to read again.
    Open(OpenRuns),
    /// The pages of the first of the requested windows, in order, none of which failed; at least one page.
    Pages(Vec<Page>),
    /// The distances behind the cursor of the requested runs, in entries. Runs that are not in the mirror are left out.
    Located(Vec<u64>),
    /// The requested runs.
    Runs(Vec<(String, Single)>),
    /// The requested runs, by id.
    Unseen(Vec<String>),
    /// The commit is on disk.
    Committed {
        /// Runs whose observations were not stored: by a list they are in a state from before the one that is known, and
        /// lists can lag. A single read decides.
        unconfirmed: Vec<String>,
    },
    /// A read failed, and so did its retries.
    Failed(ReadFailure),
}
