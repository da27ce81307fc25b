//! Ways for a server to misbehave.

use std::time::Duration;

use super::rng::Rng;

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429, with this `Retry-After` if given.
    Throttle(Option<String>),
    /// This status, with a body as Apify's.
    Status(u16),
    /// The body ends in the middle.
    CutBody,
    /// The connection is dropped without an answer.
    Reset,
    /// 200 with something like JSON.
    BadJson,
    /// 200 with HTML.
    Html,
    /// No answer, ever.
    Hang,
    /// 200 with a body of this many MiB.
    Huge(usize),
    /// A redirect to this address.
    Redirect(String),
}

/// How a server misbehaves, by a seed.
#[derive(Clone, Debug)]
pub struct Faults {
    rng: Rng,
    /// How many answers of a hundred are faulty.
    pub percent: f64,
    /// The faults to choose from.
    pub kinds: Vec<Fault>,
    /// How long every answer takes.
    pub latency: Duration,
    /// What a request must contain to be answered with a fault.
    part: String,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::some(0, 0.0, Vec::new())
    }

    /// `percent` of all answers have one of `kinds`.
    pub fn some(seed: u64, percent: f64, kinds: Vec<Fault>) -> Self {
        Self {
            rng: Rng::new(seed),
            percent,
            kinds,
            latency: Duration::ZERO,
            part: String::new(),
        }
    }

    /// Every answer has this fault.
    pub fn always(fault: Fault) -> Self {
        Self::some(0, 100.0, vec![fault])
    }

    /// Every answer to a request whose path or query contains `part` has this fault.
    pub fn matching(part: &str, fault: Fault) -> Self {
        Self {
            part: part.to_owned(),
            ..Self::always(fault)
        }
    }

    /// What befalls a bad network and a busy server: everything that passes by itself.
    pub fn passing(seed: u64, percent: f64) -> Self {
        let kinds = vec![
            Fault::Throttle(None),
            Fault::Status(500),
            Fault::Status(503),
            Fault::CutBody,
            Fault::Reset,
            Fault::BadJson,
            Fault::Html,
        ];
        Self::some(seed, percent, kinds)
    }

    /// The same, with every answer taking this long.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// What befalls the answer to `request`, a path with its query.
    pub fn draw(&mut self, request: &str) -> Option<Fault> {
        if self.kinds.is_empty() || !request.contains(&self.part) || !self.rng.chance(self.percent)
        {
            return None;
        }
        let n = self.rng.below(self.kinds.len() as u64) as usize;
        self.kinds.get(n).cloned()
    }
}
