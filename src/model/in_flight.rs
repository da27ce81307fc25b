//! How many requests may be in flight.

/// The most requests in flight, whatever is configured.
pub const MOST_IN_FLIGHT: usize = 64;

/// How many there are to begin with where the number is found.
pub const FIRST_IN_FLIGHT: usize = 8;

/// How many requests may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// As many as serve, up to [`MOST_IN_FLIGHT`].
    Auto,
    /// So many, from 1 to [`MOST_IN_FLIGHT`].
    Fixed(usize),
}

impl InFlight {
    /// The most there can be.
    pub fn most(self) -> usize {
        match self {
            Self::Auto => MOST_IN_FLIGHT,
            Self::Fixed(number) => number.clamp(1, MOST_IN_FLIGHT),
        }
    }

    /// How many there may be to begin with.
    pub fn first(self) -> usize {
        match self {
            Self::Auto => FIRST_IN_FLIGHT,
            Self::Fixed(_) => self.most(),
        }
    }
}
