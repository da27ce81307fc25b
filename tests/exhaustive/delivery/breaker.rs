//! The least that is to be expected of the circuit breaker.

use std::collections::BTreeSet;
use std::sync::Arc;

use apify_mirror::delivery::{AttemptId, MAX_OPEN, MIN_WAIT};
use apify_mirror::model::{AttemptOutcome, Due, Order, SinkLimits};

/// So many different runs must fail in a row where runs are independent.
const RUNS: usize = 8;

/// When a sink may be attempted, by what it has answered.
#[derive(Clone, Debug)]
pub struct Breaker {
    threshold: usize,
    /// The runs that failed since the last success, and how many others.
    failed: BTreeSet<String>,
    others: usize,
    /// Since the threshold was reached: no attempt before this, by the wall clock.
    until: Option<i64>,
    /// The last attempt since then, and when it began.
    probe: Option<(AttemptId, i64)>,
}

impl Breaker {
    pub fn new(limits: SinkLimits) -> Self {
        let threshold = match limits.order {
            Order::Stream => 1,
            Order::Run => limits.concurrency.max(RUNS),
        };
        Self {
            threshold,
            failed: BTreeSet::new(),
            others: 0,
            until: None,
            probe: None,
        }
    }

    /// So many other runs have failed in a row.
    pub fn tire(&mut self, runs: usize) {
        self.others = runs;
    }

    /// Whether the sink accepted nothing when it was last attempted.
    pub fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// An attempt begins.
    ///
    /// # Errors
    /// When the sink has to be given a rest.
    pub fn attempt(&mut self, id: AttemptId, now: i64) -> Result<(), String> {
        let Some(until) = self.until else {
            return Ok(());
        };
        let hangs = |began: i64| now >= began + MAX_OPEN.as_millis() as i64;
        if now < until {
            return Err("an attempt begins although the sink accepts nothing".to_owned());
        }
        if self.probe.is_some_and(|(_, began)| !hangs(began)) {
            return Err("a second attempt begins before a first has tested the sink".to_owned());
        }
        self.probe = Some((id, now));
        Ok(())
    }

    /// An attempt ended; the events without an outcome have failed.
    pub fn ended(
        &mut self,
        id: AttemptId,
        events: &Arc<[Due]>,
        outcomes: &[AttemptOutcome],
        now: i64,
    ) {
        let answered = |outcome: &AttemptOutcome| {
            !matches!(
                outcome,
                AttemptOutcome::Failed { .. } | AttemptOutcome::Rejected { .. }
            )
        };
        let failed: Vec<&Due> = events
            .iter()
            .enumerate()
            .filter(|(nth, _)| !outcomes.get(*nth).is_some_and(answered))
            .map(|(_, due)| due)
            .collect();
        if failed.len() < events.len() {
            (self.until, self.probe) = (None, None);
            self.failed.clear();
            self.others = 0;
        }
        if failed.is_empty() {
            return;
        }
        self.failed
            .extend(failed.iter().map(|due| due.run_id.clone()));
        let is_probe = self.probe.is_some_and(|(probe, _)| probe == id);
        if self.failed.len() + self.others >= self.threshold && (self.until.is_none() || is_probe) {
            (self.until, self.probe) = (Some(now + MIN_WAIT.as_millis() as i64), None);
        }
    }

    /// Something was retried by hand, which is tried at once.
    pub fn retried(&mut self) {
        self.until = self.until.map(|_| 0);
        self.probe = None;
    }

    /// Writes what its later answers depend on.
    pub fn write(&self, text: &mut String, now: i64, rank: impl Fn(AttemptId) -> i64) {
        use std::fmt::Write;
        let until = self.until.map(|until| (until - now).max(0));
        let probe = self
            .probe
            .map(|(id, began)| (rank(id), (now - began).min(MAX_OPEN.as_millis() as i64)));
        let _ = write!(text, "{until:?}{probe:?}{}{:?}", self.others, self.failed);
    }
}
