//! Faults that a server can inject.

use std::time::Duration;

use super::rng::Rng;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429, with this `Retry-After` if there is one.
    Throttle(Option<String>),
    /// This status, with an error body like Apify's.
    Status(u16),
    /// A truncated body.
    CutBody,
    /// The connection is dropped without an answer.
    Reset,
    /// 200 with invalid JSON.
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

/// Which faults a server injects, and how often. A seed determines the choice.
#[derive(Clone, Debug)]
pub struct Faults {
    rng: Rng,
    /// The percentage of faulty answers.
    pub percent: f64,
    /// The faults to choose from.
    pub kinds: Vec<Fault>,
    /// The latency of every answer.
    pub latency: Duration,
    /// Only requests that contain this are answered with a fault.
    part: String,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::some(0, 0.0, Vec::new())
    }

    /// `percent` of the answers have one of `kinds`.
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

    /// `percent` of the answers have a temporary fault, as on a bad network or from a busy server.
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

    /// These faults, with this latency of every answer.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// The fault, if any, of the answer to `request`, a path with its query.
    pub(super) fn draw(&mut self, request: &str) -> Option<Fault> {
        if self.kinds.is_empty() || !request.contains(&self.part) || !self.rng.chance(self.percent)
        {
            return None;
        }
        let n = self.rng.below(self.kinds.len() as u64) as usize;
        self.kinds.get(n).cloned()
    }
}
