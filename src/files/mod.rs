//! Files on a machine that others use too: what is asked of a file before it is read or written, and how files are
//! created.

mod create;
mod fuse;
mod master;
mod names;
mod trust;
mod untrusted;
mod way;

pub use create::Readers;
pub(crate) use create::{create_new, open_or_create, publish, set_mode};
pub(crate) use master::{For, act_as_master, as_caller, hide_memory, master_of};
pub(crate) use names::{beside, folder};
pub(crate) use trust::{Purpose, check, check_folders, check_neighbours, read_to_string};
pub use untrusted::Untrusted;
