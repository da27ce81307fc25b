//! Event types.

use std::borrow::Cow;

use super::status::RunStatus;

/// The type of an event. Where Apify's webhooks have a name for it, that name is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A run not known before.
    Created,
    /// A run that had ended became active again.
    Resurrected,
    /// The run entered this status in any other way.
    Entered(RunStatus),
}

impl EventType {
    /// All types of events but those of statuses that this version does not know.
    pub fn known() -> impl Iterator<Item = Self> {
        let entered = RunStatus::ACTIVE.into_iter().chain(RunStatus::TERMINAL);
        let entered = entered.map(Self::Entered);
        [Self::Created, Self::Resurrected]
            .into_iter()
            .chain(entered)
    }

    /// The event's name, e.g. `ACTOR.RUN.TIMED_OUT`.
    pub fn name(&self) -> String {
        let suffix = match self {
            Self::Created => Cow::Borrowed("CREATED"),
            Self::Resurrected => Cow::Borrowed("RESURRECTED"),
            Self::Entered(status) => Cow::Owned(status.as_str().replace('-', "_")),
        };
        format!("ACTOR.RUN.{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_apifys_webhooks() {
        assert_eq!(EventType::Created.name(), "ACTOR.RUN.CREATED");
        assert_eq!(EventType::Resurrected.name(), "ACTOR.RUN.RESURRECTED");
        assert_eq!(
            EventType::Entered(RunStatus::TimedOut).name(),
            "ACTOR.RUN.TIMED_OUT"
        );
        assert_eq!(
            EventType::Entered(RunStatus::Other("ON-HOLD".into())).name(),
            "ACTOR.RUN.ON_HOLD"
        );
    }
}
