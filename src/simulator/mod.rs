//! A simulated Apify account for `demo`, simulations and tests.
//!
//! [`World`] is the account: pure, seeded, and changed only by its methods, which take times as arguments. [`Server`]
//! serves it over the documented HTTP API on loopback, and can inject faults ([`Faults`]). [`Activity`] creates a
//! plausible history of runs. [`Receiver`] receives webhooks.

mod activity;
mod endpoints;
mod faults;
mod http;
mod items;
mod receiver;
mod reply;
mod rng;
mod server;
mod task;
mod world;

pub use activity::Activity;
pub use faults::{Fault, Faults};
pub use receiver::{Arrival, Reaction, Receiver};
pub use rng::Rng;
pub use server::{Server, TOKEN};
pub use task::{ListAnswer, SimRun, SimTask};
pub use world::World;
