//! A simulated Apify account: for `demo`, for simulations and for tests.
//!
//! [`World`] is the account itself, pure and seeded: runs are created, change status, end, are resurrected, deleted and
//! retained away as its methods say, at the times they are told. [`Server`] gives it the documented HTTP face, on
//! loopback, and can be made to misbehave ([`Faults`]). [`Activity`] keeps a world busy in a plausible way.

mod activity;
mod endpoints;
mod faults;
mod http;
mod items;
mod receiver;
mod reply;
mod rng;
mod server;
mod world;

pub use activity::Activity;
pub use faults::{Fault, Faults};
pub use receiver::{Arrival, Reaction, Receiver};
pub use rng::Rng;
pub use server::{Server, TOKEN};
pub use world::{ListAnswer, SimRun, SimTask, World};
