//! Run statuses.

use std::fmt;

/// The longest status of a run, in characters. Apify's have at most 10.
pub const MAX_STATUS: usize = 50;

/// The status of a run.
///
/// An unknown status is kept as it is and counts as not terminal, so that polls keep reading such a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Created, not yet running.
    Ready,
    /// Running.
    Running,
    /// Ended successfully.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Being stopped because it reached its timeout.
    TimingOut,
    /// Stopped because it reached its timeout.
    TimedOut,
    /// Being stopped on request.
    Aborting,
    /// Stopped on request.
    Aborted,
    /// A status that this version does not know.
    Other(String),
}

impl RunStatus {
    /// The known statuses that are not terminal. The watch read filters by them.
    pub const ACTIVE: [RunStatus; 4] =
        [Self::Ready, Self::Running, Self::TimingOut, Self::Aborting];

    /// The known statuses in which a run has ended. They are not final: a run can be resurrected.
    pub const TERMINAL: [RunStatus; 4] =
        [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Aborted];

    /// The status that the API calls `name`.
    pub fn from_api(name: &str) -> Self {
        Self::ACTIVE
            .into_iter()
            .chain(Self::TERMINAL)
            .find(|status| status.as_str() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    /// The API's name for this status, e.g. `TIMING-OUT`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ready => "READY",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimingOut => "TIMING-OUT",
            Self::TimedOut => "TIMED-OUT",
            Self::Aborting => "ABORTING",
            Self::Aborted => "ABORTED",
            Self::Other(name) => name,
        }
    }

    /// Whether a run's life goes from this status to `next` or stays there. A resurrection does not count, and of a
    /// status that this version does not know nothing is said.
    pub fn leads_to(&self, next: &Self) -> bool {
        match (self.rank(), next.rank()) {
            (Some(before), Some(after)) => before <= after,
            _ => true,
        }
    }

    /// How far a run in this status has come.
    fn rank(&self) -> Option<u8> {
        match self {
            Self::Ready => Some(0),
            Self::Running => Some(1),
            Self::TimingOut => Some(2),
            Self::Aborting => Some(3),
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Aborted => Some(4),
            Self::Other(_) => None,
        }
    }

    /// Whether a run in this status has ended.
    pub fn is_terminal(&self) -> bool {
        Self::TERMINAL.contains(self)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_statuses_round_trip_and_unknown_ones_are_kept() {
        for status in RunStatus::ACTIVE.into_iter().chain(RunStatus::TERMINAL) {
            assert_eq!(RunStatus::from_api(status.as_str()), status);
        }
        let unknown = RunStatus::from_api("PAUSED");
        assert_eq!(unknown, RunStatus::Other("PAUSED".into()));
        assert_eq!(unknown.as_str(), "PAUSED");
        assert!(
            !unknown.is_terminal(),
            "an unknown status counts as not terminal"
        );
    }
}
