//! From the outbox to the sinks: at least once, in order.
//!
//! What a sink is owed is written with the events themselves, in the commit that raised them. A [`Courier`] reads what
//! is due in a short transaction, hands it over outside of any, and only then takes it off the books: a crash between
//! the two delivers again, under the same id and with the same bytes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::sinks::Sink;
use crate::store::{Due, Store, StoreError};

/// The most events handed to a sink at once.
const BATCH: usize = 500;

/// Which events a sink wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The sink's name, under which its deliveries are booked.
    pub sink: String,
    /// The types it wants; `None` for all.
    pub types: Option<Vec<String>>,
}

impl Subscription {
    /// Whether the sink wants events of the type `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == name))
    }
}

/// Brings one sink what it is owed.
pub struct Courier {
    name: String,
    sink: Arc<Mutex<dyn Sink>>,
}

impl Courier {
    /// A courier for the sink booked as `name`.
    pub fn new(name: String, sink: impl Sink + 'static) -> Self {
        Self { name, sink: Arc::new(Mutex::new(sink)) }
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Delivers everything due. `Ok(false)` when the sink would not take it: the rest stays due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(&mut self, store: &Store) -> Result<bool, StoreError> {
        loop {
            let name = self.name.clone();
            let due = store.call(move |db| db.due(&name, BATCH)).await?;
            let Some(last) = due.last().map(|event| event.seq) else { return Ok(true) };
            if let Err(error) = self.deliver(due).await {
                tracing::warn!(sink = self.name, %error, "could not deliver events; they stay due");
                return Ok(false);
            }
            let name = self.name.clone();
            store.call(move |db| db.delivered(&name, last)).await?;
        }
    }

    /// Hands `events` over on a thread where a sink may block: nobody may be reading our standard output.
    async fn deliver(&self, events: Vec<Due>) -> io::Result<()> {
        let sink = Arc::clone(&self.sink);
        let delivered =
            tokio::task::spawn_blocking(move || sink.lock().unwrap_or_else(PoisonError::into_inner).deliver(&events));
        delivered.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    }
}
