//! States as `status` shows them and the tables store them.

use std::fmt;

use serde::{Serialize, Serializer};

/// Declares an enum that is displayed, serialised and stored by one text for each variant.
macro_rules! states {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl $name {
            /// Every state.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The text of the state.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The state with this text.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

states! {
    /// The condition of a feed.
    Condition {
        /// Its last poll succeeded.
        Ok = "ok",
        /// The end of its list has not been reached yet.
        FirstSync = "first sync",
        /// Its last poll failed; the next may succeed.
        Failing = "failing",
        /// The API knows no such task.
        NotFound = "not found",
        /// The token may not see the task.
        Forbidden = "forbidden",
    }
}

states! {
    /// The state of a sink.
    SinkState {
        /// Its deliveries succeed, or it is owed nothing.
        Ok = "ok",
        /// Nothing has been delivered since an attempt failed.
        Failing = "failing",
        /// Events from before it was added are still being copied to the outbox.
        CatchingUp = "catching up",
        /// It is no longer configured, but is still owed events.
        Removed = "removed",
    }
}

states! {
    /// The state of a delivery.
    DeliveryState {
        /// It was set aside: no further attempts.
        Dead = "dead",
        /// It failed and will be retried.
        Retrying = "retrying",
        /// It has not been attempted yet.
        Waiting = "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_displayed_serialised_and_read_back() {
        let state = SinkState::CatchingUp;
        assert_eq!(format!("{state:>12}"), " catching up");
        assert_eq!(serde_json::to_value(state).unwrap(), "catching up");
        assert_eq!(SinkState::from_name("catching up"), Some(state));
        assert_eq!(
            Condition::from_name("forbidden"),
            Some(Condition::Forbidden)
        );
        assert_eq!(DeliveryState::from_name("alive"), None);
    }
}
