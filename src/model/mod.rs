//! Plain data: what a run is, which statuses it passes through, and what an observed transition is called.
//!
//! Nothing here does I/O or decides anything; every other module speaks in these types.

mod event;
mod run;
mod status;
mod task;
mod time;

pub use event::EventType;
pub use run::{InvalidRun, Run};
pub use status::RunStatus;
pub use task::Task;
pub use time::Timestamp;
