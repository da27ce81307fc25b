//! Where events go: small adapters behind one trait.
//!
//! A sink takes a batch of events in order and acknowledges it by returning. Remembering what it is owed, and trying
//! again, is [`crate::delivery`]'s business.

mod stdout;

pub use stdout::Stdout;

use std::io;

use crate::store::Due;

/// Somewhere events go.
pub trait Sink: Send {
    /// Hands over `events`, in order. Returning `Ok` acknowledges all of them.
    ///
    /// # Errors
    /// When any of them may not have arrived; all of them will be handed over again.
    fn deliver(&mut self, events: &[Due]) -> io::Result<()>;
}
