//! Files on a machine that others use too: what is asked of a file before it is read or written, and how files are
//! created.

mod create;
mod master;
mod trust;

pub use create::Readers;
pub(crate) use create::{beside, create_new, folder, open_or_create, publish, set_mode};
pub(crate) use master::{For, act_as_master, as_caller};
pub use trust::Untrusted;
pub(crate) use trust::{Purpose, check, check_neighbours, read_to_string};
