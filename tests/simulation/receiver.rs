//! Simulated receivers: they accept events, fail, reject, hang, lose acknowledgements and go away.

use std::time::Duration;

use apify_mirror::model::{AttemptOutcome, Due, Order, Timestamp};
use apify_mirror::simulator::Rng;

use super::ledger::Ledger;

/// The current behaviour of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Accepts everything.
    Accepting,
    /// Accepts some events.
    Flaky,
    /// Accepts nothing.
    Failing,
    /// Accepts nothing, and asks to wait.
    Throttling,
    /// Accepts everything, but its answer is lost.
    Mute,
    /// Does not answer in time; may have accepted the events nevertheless.
    Hanging,
    /// Hangs for the events of some runs, and accepts some of the others.
    Stuck,
    /// Rejects everything, but allows retries.
    Rejecting,
    /// Will never accept some events.
    Refusing,
    /// Will never accept anything.
    Gone,
}

impl Mood {
    pub const BAD: [Self; 9] = [
        Self::Flaky,
        Self::Failing,
        Self::Throttling,
        Self::Mute,
        Self::Hanging,
        Self::Stuck,
        Self::Rejecting,
        Self::Refusing,
        Self::Gone,
    ];

    /// Whether an attempt at `events` is not answered in time.
    pub fn hangs(self, events: &[Due]) -> bool {
        match self {
            Self::Hanging => true,
            Self::Stuck => events
                .iter()
                .any(|due| due.run_id.bytes().map(u32::from).sum::<u32>() % 4 == 0),
            _ => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepting => "receiver accepting",
            Self::Flaky => "receiver flaky",
            Self::Failing => "receiver failing",
            Self::Throttling => "receiver throttling",
            Self::Mute => "receiver mute",
            Self::Hanging => "receiver hanging",
            Self::Stuck => "receiver stuck",
            Self::Rejecting => "receiver rejecting",
            Self::Refusing => "receiver refusing",
            Self::Gone => "receiver gone",
        }
    }
}

/// The receiver's answer for a batch; notes accepted events in the ledger.
pub fn answer(
    mood: Mood,
    order: Order,
    events: &[Due],
    ledger: &mut Ledger,
    rng: &mut Rng,
    now: Timestamp,
) -> Vec<AttemptOutcome> {
    let failed = || AttemptOutcome::Failed {
        error: "simulated failure".into(),
        retry_after: None,
    };
    let error = || "simulated".to_owned();
    let mut broken = false;
    let mut outcomes = Vec::new();
    for event in events {
        let accepts = match mood {
            Mood::Accepting | Mood::Mute => true,
            Mood::Flaky | Mood::Refusing => rng.chance(50.0),
            Mood::Stuck => !mood.hangs(std::slice::from_ref(event)) && rng.chance(50.0),
            Mood::Hanging => rng.chance(30.0),
            Mood::Failing | Mood::Throttling | Mood::Rejecting | Mood::Gone => false,
        };
        // A stream accepts nothing after a failure.
        let accepts = accepts && !(broken && order == Order::Stream);
        broken |= !accepts;
        if accepts {
            ledger.received(event);
        }
        outcomes.push(match mood {
            Mood::Accepting => AttemptOutcome::Delivered,
            Mood::Flaky | Mood::Stuck if accepts => AttemptOutcome::Delivered,
            Mood::Refusing if accepts => AttemptOutcome::Delivered,
            Mood::Refusing if order == Order::Run => AttemptOutcome::Refused { error: error() },
            Mood::Flaky
            | Mood::Failing
            | Mood::Mute
            | Mood::Hanging
            | Mood::Stuck
            | Mood::Refusing => failed(),
            Mood::Throttling => AttemptOutcome::Failed {
                error: error(),
                retry_after: Some(Duration::from_secs(rng.below(120))),
            },
            Mood::Rejecting => AttemptOutcome::Rejected { error: error() },
            Mood::Gone => AttemptOutcome::Gone { error: error() },
        });
    }
    // Sometimes answer for fewer events than the batch has.
    if mood == Mood::Flaky && rng.chance(5.0) {
        let answered = outcomes
            .iter()
            .take_while(|outcome| **outcome == AttemptOutcome::Delivered)
            .count();
        outcomes.truncate(answered);
    }
    let unanswered = failed();
    for (n, event) in events.iter().enumerate() {
        ledger.answered(event.seq, outcomes.get(n).unwrap_or(&unanswered), now);
    }
    outcomes
}
