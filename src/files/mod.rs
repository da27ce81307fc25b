//! Files on a machine that others use too: what is asked of a file before it is read or written, and how files are
//! created.

mod create;
mod master;
mod names;
mod trust;

pub use create::Readers;
pub(crate) use create::{create_new, open_or_create, publish, set_mode};
pub(crate) use master::{For, act_as_master, as_caller, hide_memory};
pub(crate) use names::{beside, folder};
pub use trust::Untrusted;
pub(crate) use trust::{
    Purpose, check, check_folders, check_neighbours, master_of, read_to_string,
};
