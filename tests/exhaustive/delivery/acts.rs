//! What can happen to one sink, and how it is told.

use apify_mirror::model::AttemptOutcome;

use super::sink::Sink;

/// What can happen to a sink and its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The machine's sleep is over.
    Wake,
    /// The worker is notified of events.
    Notify,
    /// The exchange takes place and is answered.
    Exchange,
    /// The exchange takes place; the answer comes later.
    Perform,
    /// The exchange that took place is answered.
    Answer,
    /// The exchange fails, before or after it took place.
    Fail,
    /// The sink takes the events of an attempt, and has not answered yet.
    Take(usize),
    /// An attempt ends.
    End(usize, Ending),
    /// The sink leaves the configuration, which its worker does not know yet.
    Leave,
    /// The worker of a sink that has left is stopped.
    Stop,
    /// The sink is configured again.
    Restore,
    /// Its settings change: another worker takes over when the first has stopped.
    Change,
    /// Another pass begins.
    Start,
    /// An operator retries what is dead or has failed.
    Retry,
    /// An operator drops the oldest delivery.
    Drop,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The sink accepts so many events, and fails at the next.
    Accepted(usize),
    /// The sink takes everything, but what arrives is a failure.
    Lost,
    /// The sink rejects the first event.
    Rejected,
    /// The sink will never take the first event.
    Refused,
    /// The sink is gone for good.
    Gone,
}

impl Ending {
    /// What is answered for each of `count` events.
    pub fn outcomes(self, count: usize) -> Vec<AttemptOutcome> {
        let error = || "x".to_owned();
        let failed = || AttemptOutcome::Failed {
            error: error(),
            retry_after: None,
        };
        let first = match self {
            Self::Accepted(accepted) => {
                return (0..count)
                    .map(|nth| {
                        if nth < accepted {
                            AttemptOutcome::Delivered
                        } else {
                            failed()
                        }
                    })
                    .collect();
            }
            Self::Lost => failed(),
            Self::Rejected => AttemptOutcome::Rejected { error: error() },
            Self::Refused => AttemptOutcome::Refused { error: error() },
            Self::Gone => AttemptOutcome::Gone { error: error() },
        };
        let rest = (1..count).map(|_| failed());
        std::iter::once(first).chain(rest).collect()
    }
}

impl Sink {
    /// Describes `act`, for people.
    pub fn tell(&self, act: Act) -> String {
        let events = |nth: usize| {
            let events = self.worker.as_ref().map(|worker| &worker.in_flight[nth].1);
            let seqs: Vec<i64> = events
                .iter()
                .flat_map(|events| events.iter().map(|due| due.seq))
                .collect();
            format!("{seqs:?}")
        };
        let exchange = || {
            let exchanging = self
                .worker
                .as_ref()
                .and_then(|worker| worker.exchanging.as_ref());
            exchanging.map_or_else(String::new, |exchanging| {
                let exchange = &exchanging.exchange;
                let settled: Vec<String> = exchange
                    .settled
                    .iter()
                    .map(|done| format!("{} {:?}", done.seq, done.verdict))
                    .collect();
                let fetched = exchanging
                    .answer
                    .as_ref()
                    .map(|answer| answer.fetched.events.len());
                format!(
                    " (records {settled:?}, reads up to {}, has read {fetched:?})",
                    exchange.fetch.events
                )
            })
        };
        match act {
            Act::Wake => "the machine is woken".to_owned(),
            Act::Notify => "the machine is notified".to_owned(),
            Act::Exchange => format!("the exchange takes place and is answered{}", exchange()),
            Act::Perform => format!("the exchange takes place{}", exchange()),
            Act::Answer => format!("the exchange is answered{}", exchange()),
            Act::Fail => format!("the exchange fails{}", exchange()),
            Act::Take(nth) => format!("the sink takes {}, and has not answered", events(nth)),
            Act::End(nth, ending) => format!("the attempt at {} ends: {ending:?}", events(nth)),
            Act::Leave => "leaves the configuration".to_owned(),
            Act::Stop => "the machine is stopped".to_owned(),
            Act::Restore => "is configured again".to_owned(),
            Act::Change => "its settings change; the machine is stopped".to_owned(),
            Act::Start => "a pass begins".to_owned(),
            Act::Retry => "what failed is retried by hand".to_owned(),
            Act::Drop => "the oldest delivery is dropped by hand".to_owned(),
        }
    }
}
