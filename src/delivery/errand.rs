//! What a courier has done in the database in one go.

use crate::model::{
    EXCHANGE_CHUNK as CHUNK, FetchLimits, Fetched, Overdue, Settled, Subscription, Timestamp,
};
use crate::store::{Db, StoreError};

/// What is to be done in the database, in this order.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    /// For whom.
    pub sink: String,
    /// Book some of what happened before the sink was added.
    pub book: Option<Subscription>,
    /// Write down what became of these.
    pub settled: Vec<Settled>,
    /// Set some of these aside, for this reason.
    pub set_aside: Option<(Overdue, String)>,
    /// Read what is due.
    pub room: FetchLimits,
}

/// What an errand came to.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whether all that happened before the sink was added is booked.
    pub live: bool,
    /// Deliveries set aside; as many as fit into an errand, if there are more.
    pub set_aside: usize,
    /// What is due.
    pub fetched: Fetched,
}

impl Errand {
    /// Does it. May be done again when it fails: what was done is not done twice.
    pub fn run(&self, db: &mut Db) -> Result<Answer, StoreError> {
        let now = Timestamp::now();
        let live = match &self.book {
            Some(subscription) => db.book_backlog(subscription, CHUNK, now)?,
            None => true,
        };
        db.record(&self.sink, &self.settled, now)?;
        let set_aside = match &self.set_aside {
            Some((which, why)) => db.set_aside(&self.sink, *which, why, CHUNK, now)?,
            None => 0,
        };
        Ok(Answer {
            live,
            set_aside,
            fetched: db.due(&self.sink, &self.room, now)?,
        })
    }
}
