//! Instants, to the millisecond.

use std::fmt;
use std::time::Duration;

/// An instant in milliseconds since the Unix epoch, the precision of the API's times.
///
/// `Display` writes the API's format, `2019-11-30T07:34:24.202Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Parses an ISO 8601 time with an offset or `Z`; `None` if `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|at| Self(at.as_millisecond()))
    }

    /// Reads the local clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The instant `wait` earlier, saturating.
    pub fn minus(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The instant `wait` later, saturating.
    pub fn plus(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// The current time, by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The local clock, for times that are stored or compared with stored ones. It can be set at any time.
    pub wall: Timestamp,
    /// Monotonic time since a fixed instant in this process, for waits and deadlines.
    pub uptime: Duration,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            // Outside the years that ISO 8601 can express. Only saturated arithmetic results in such a value.
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apis_format_survives_a_round_trip() {
        let text = "2019-11-30T07:34:24.202Z";
        let at = Timestamp::parse(text).unwrap();
        assert_eq!(at.to_string(), text);
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn offsets_are_parsed_and_other_text_is_not() {
        assert_eq!(
            Timestamp::parse("2019-11-30T09:34:24.202+02:00"),
            Timestamp::parse("2019-11-30T07:34:24.202Z")
        );
        for nonsense in ["", "yesterday", "2019-13-01T00:00:00Z", "2019-11-30"] {
            assert_eq!(Timestamp::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let early = Timestamp::from_millis(1_000);
        let late = Timestamp::from_millis(3_500);
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(
            early.plus(Duration::from_secs(2)),
            Timestamp::from_millis(3_000)
        );
        assert_eq!(early.plus(Duration::MAX), Timestamp::from_millis(i64::MAX));
        assert_eq!(
            late.minus(Duration::from_secs(2)),
            Timestamp::from_millis(1_500)
        );
    }
}
