//! Simulated receivers: they take events, fail, reject, hang, lose acknowledgements and go away.

use std::time::Duration;

use apify_mirror::model::{AttemptOutcome, Due, Order, Timestamp};
use apify_mirror::simulator::Rng;

use super::ledger::Ledger;

/// How a receiver answers for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes everything.
    Accepting,
    /// Takes a part of what it is handed.
    Flaky,
    /// Takes nothing.
    Failing,
    /// Takes nothing, and asks to wait.
    Throttling,
    /// Takes everything, but its answer is lost.
    Mute,
    /// Gives no answer before the attempt's time is up; it may have taken the events all the same.
    Hanging,
    /// Accepts nothing, for now.
    Rejecting,
    /// Will never accept some events.
    Refusing,
    /// Will never accept anything.
    Gone,
}

impl Mood {
    pub const BAD: [Self; 8] = [
        Self::Flaky,
        Self::Failing,
        Self::Throttling,
        Self::Mute,
        Self::Hanging,
        Self::Rejecting,
        Self::Refusing,
        Self::Gone,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepting => "receiver accepting",
            Self::Flaky => "receiver flaky",
            Self::Failing => "receiver failing",
            Self::Throttling => "receiver throttling",
            Self::Mute => "receiver mute",
            Self::Hanging => "receiver hanging",
            Self::Rejecting => "receiver rejecting",
            Self::Refusing => "receiver refusing",
            Self::Gone => "receiver gone",
        }
    }
}

/// Has the receiver answer for a batch; what it takes goes into the ledger.
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
        let takes = match mood {
            Mood::Accepting | Mood::Mute => true,
            Mood::Flaky | Mood::Refusing => rng.chance(50.0),
            Mood::Hanging => rng.chance(30.0),
            Mood::Failing | Mood::Throttling | Mood::Rejecting | Mood::Gone => false,
        };
        // A stream ends where it fails.
        let takes = takes && !(broken && order == Order::Stream);
        broken |= !takes;
        if takes {
            ledger.received(event);
        }
        outcomes.push(match mood {
            Mood::Accepting => AttemptOutcome::Delivered,
            Mood::Flaky if takes => AttemptOutcome::Delivered,
            Mood::Refusing if takes => AttemptOutcome::Delivered,
            Mood::Refusing if order == Order::Run => AttemptOutcome::Refused { error: error() },
            Mood::Flaky | Mood::Failing | Mood::Mute | Mood::Hanging | Mood::Refusing => failed(),
            Mood::Throttling => AttemptOutcome::Failed {
                error: error(),
                retry_after: Some(Duration::from_secs(rng.below(120))),
            },
            Mood::Rejecting => AttemptOutcome::Rejected { error: error() },
            Mood::Gone => AttemptOutcome::Gone { error: error() },
        });
    }
    // A sink that answers for fewer events than it was handed.
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
