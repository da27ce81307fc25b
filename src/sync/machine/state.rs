//! Which answer a machine is waiting for, and what it does after a commit.

use std::collections::BTreeSet;

use crate::model::Timestamp;
use crate::sync::cursor::Placed;
use crate::sync::page::Window;
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
    Forward,
    /// Waiting for a page of active runs.
    Active(ActiveRead),
    /// Waiting for the positions of open runs behind the cursor.
    Locating,
    /// Waiting for pages behind the cursor.
    Behind {
        /// The windows that are not answered yet.
        remaining: Vec<Window>,
        /// How many of them, the first, were requested.
        asked: usize,
    },
    /// Waiting for single runs.
    Singles {
        /// Runs still to request.
        remaining: Vec<String>,
    },
    /// Waiting for a page of an audit.
    Audit,
    /// Waiting for the runs that an accepted page of an audit leaves undecided.
    AuditUnseen(AuditedPage),
    /// Waiting for such runs, read singly.
    AuditSingles(AuditedPage),
    /// Waiting for runs whose state on an accepted page of an audit must be confirmed by single reads.
    AuditConfirm {
        /// Runs still to request.
        remaining: Vec<String>,
        /// How the page of the audit ended.
        outcome: Outcome,
    },
    /// Waiting for a commit.
    Committing {
        /// The feed's state once the commit is on disk.
        feed: FeedState,
        next: NextStep,
    },
}

/// A read of the active runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ActiveRead {
    pub offset: u64,
    /// The first entry of the previous page.
    pub first: Option<String>,
    /// The end of the previous page. A page that ends no later makes no progress.
    pub beyond: u64,
    /// Pages read before this one.
    pub pages: u32,
    /// When the first of them was requested.
    pub since: Timestamp,
}

/// An answer that an audit accepted, and the runs that it does not decide.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AuditedPage {
    /// The page; `None` where only the list's end was confirmed.
    pub page: Option<Placed>,
    /// Whether the list ends with it.
    pub ends: bool,
    /// Runs still to request.
    pub remaining: Vec<String>,
    /// Runs that single reads have shown.
    pub found: BTreeSet<String>,
}

/// What follows a commit.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NextStep {
    /// Read on from the cursor.
    Forward,
    /// Forward reading is done.
    AfterForward,
    /// Read the next page of active runs.
    Active(ActiveRead),
    /// Read the open runs behind the cursor that are not known to be active.
    AfterActive,
    /// Read these windows behind the cursor.
    Behind {
        remaining: Vec<Window>,
        /// How many of them, the first, were requested and not answered.
        begun: usize,
    },
    /// Read these runs singly.
    Singles { remaining: Vec<String> },
    /// End the poll.
    EndPoll(Outcome),
    /// Read singly what is left to decide of a page of an audit, then commit it.
    AuditSingles(Box<AuditedPage>),
    /// Read singly what must be confirmed, then sleep after a page of an audit.
    EndAuditPage(Outcome),
    /// Read these runs singly, then sleep after a page of an audit.
    AuditConfirm {
        remaining: Vec<String>,
        outcome: Outcome,
    },
}
