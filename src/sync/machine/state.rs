//! Which answer a machine is waiting for, and what it does after a commit.

use crate::model::Timestamp;
use crate::sync::diff::Observed;
use crate::sync::page::{Page, Window};
use crate::sync::protocol::{FeedState, Outcome};

/// Which answer the machine is waiting for, and what for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Between polls.
    Asleep,
    /// Waiting for the open runs.
    LoadingOpen,
    /// Waiting for the newest run, on the first poll.
    Baseline,
    /// Waiting for pages from the cursor on.
    Forward(ForwardRead),
    /// Waiting for a page of active runs.
    Active(ActiveRead),
    /// Waiting for the positions of open runs behind the cursor.
    Locating,
    /// Waiting for pages behind the cursor.
    Behind {
        /// Windows still to request.
        remaining: Vec<Window>,
    },
    /// Waiting for single runs.
    Singles {
        /// Runs still to request.
        remaining: Vec<String>,
    },
    /// Waiting for a page of an audit.
    Audit(AuditRead),
    /// Waiting for the runs that an accepted page of an audit leaves undecided.
    AuditUnseen { page: Page },
    /// Waiting for such runs, read singly.
    AuditSingles(AuditedPage),
    /// Waiting for a commit.
    Committing {
        /// The feed's state once the commit is on disk.
        feed: FeedState,
        next: NextStep,
    },
}

/// A read of the list from the cursor on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ForwardRead {
    pub windows: Vec<Window>,
    /// How far to step back if the first page does not join, in entries.
    pub stride: u64,
    /// Whether this poll accepted a page before this read, so that the read must show something new.
    pub follows: bool,
}

/// A read of the active runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ActiveRead {
    pub offset: u64,
    /// The end of the previous page. A page that ends no later makes no progress.
    pub beyond: u64,
    /// Pages read before this one.
    pub pages: u32,
    /// When the first of them was requested.
    pub since: Timestamp,
}

/// A read of an audit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AuditRead {
    pub window: Window,
    /// How far to step back if the page does not join, in entries.
    pub stride: u64,
    /// Whether the audit accepted a page before this read, so that the read must show something new.
    pub follows: bool,
}

/// A page that an audit accepted, and what single reads decided about the runs it does not cover.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AuditedPage {
    pub page: Page,
    /// Runs still to request.
    pub remaining: Vec<String>,
    /// Runs that exist.
    pub found: Vec<Observed>,
    /// Runs that do not.
    pub gone: Vec<String>,
}

/// What follows a commit.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NextStep {
    /// Read on from the cursor.
    Forward {
        /// Whether this poll accepted a page before the cursor.
        follows: bool,
        /// How far behind the cursor a poll's first read must begin at least, in entries.
        reach: u64,
    },
    /// Forward reading is done.
    AfterForward,
    /// Read the next page of active runs.
    Active(ActiveRead),
    /// Read the open runs behind the cursor that are not known to be active.
    AfterActive,
    /// Read these windows behind the cursor.
    Behind { remaining: Vec<Window> },
    /// Read these runs singly.
    Singles { remaining: Vec<String> },
    /// End the poll.
    EndPoll(Outcome),
    /// Sleep after a page of an audit.
    EndAuditPage(Outcome),
}
