//! The pure core: which page to read next, whether a page may be accepted, and what an observation changes.
//!
//! Nothing here does I/O, reads a clock or draws a random number. Time and seeds are arguments. There is one
//! [`Machine`] for each feed. The daemon executes its [`Command`]s and passes the results back as [`Input`]s:
//!
//! ```text
//!            Wake            Open             Pages            Committed
//!   Asleep ───────▶ loading ───────▶ forward ───────▶ commit ───────────▶ … ───▶ Asleep
//!                                    │  ▲  step back
//!                                    └──┘
//! ```
//!
//! A poll runs through these phases and skips those it does not need:
//!
//! 1. *baseline* (first poll only): the newest run's start separates history from news;
//! 2. *forward*: pages from the cursor to the end of the list, each checked by [`Cursor::joins`];
//! 3. *active*: one status-filtered read. It serves as the watch read, and shows which open runs are still active;
//! 4. *behind*: runs that left the active statuses, read by page where they lie close together, otherwise by id;
//! 5. *finish*: the poll is recorded as a success.
//!
//! Between polls, at a low rate, an [`Audit`] compares the whole list with the mirror when one is due.
//!
//! Only forward reads move the cursor. Runs found in any other way never do.

mod audit;
mod cursor;
mod diff;
#[cfg(test)]
mod diff_tests;
mod machine;
mod page;
mod protocol;
mod refresh;
#[cfg(test)]
mod testing;
mod walk;

pub use audit::{Audit, Covered, Gap};
pub use cursor::{Cursor, Placed, Watermark};
pub use diff::{
    Baseline, Change, Difference, Judgement, Observed, Source, Stored, Transition, leads_back,
    observe,
};
pub use machine::Machine;
pub use page::{Entry, Listing, Page, Seen, Unreadable, Window};
pub use protocol::{
    Command, Commit, FeedState, Input, MAX_OPEN, MAX_SETTLE, OpenRun, OpenRuns, Outcome,
    ReadFailure, Settings, Single, Stall,
};
