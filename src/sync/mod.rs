//! The pure core: what to read next, whether a page may be accepted, and what an observation means.
//!
//! Nothing here does I/O, reads a clock or draws a random number; time and seeds come in as arguments. The daemon
//! carries out the [`Command`]s of a [`Machine`] and feeds the answers back as [`Input`]s, one machine for each feed:
//!
//! ```text
//!            Wake            Open             Pages            Committed
//!   Asleep ───────▶ loading ───────▶ forward ───────▶ commit ───────────▶ … ───▶ Asleep
//!                                    │  ▲  step back
//!                                    └──┘
//! ```
//!
//! A poll goes through these phases, leaving out what it has no need of:
//!
//! 1. *baseline* (first poll only): the newest run's start divides history from news;
//! 2. *forward*: pages from the cursor to the end of the list, under the rule of [`Cursor::joins`];
//! 3. *active*: one status-filtered read; the watch read, and a cheap way to see which open runs are still active;
//! 4. *behind*: runs that left the active statuses, read where they lie in the list or singly by id;
//! 5. *finish*: the poll is recorded as a success.
//!
//! Between polls, at a low rate, an [`Audit`] compares the whole list with the mirror when one is due.
//!
//! Only forward reads move the cursor. Runs learned in any other way never do.

mod audit;
mod cursor;
mod diff;
mod machine;
#[cfg(test)]
mod machine_tests;
mod page;
mod protocol;
mod refresh;
#[cfg(test)]
mod testing;

pub use audit::{Audit, Covered, Gap};
pub use cursor::{Cursor, Watermark};
pub use diff::{Change, Difference, Judgement, Observed, Source, Stored, Transition, observe};
pub use machine::Machine;
pub use page::{Listing, Page, Seen, Window};
pub use protocol::{
    Baseline, Command, Commit, FeedState, Input, OpenRun, OpenRuns, Outcome, ReadFailure, Settings,
    State, Then,
};
