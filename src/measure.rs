//! Counters and histograms, for `/metrics`. Each belongs to what it counts, has its whole size from the start, and is read
//! when somebody asks: none grows where nobody does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts from 0 on, since the process started.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts durations by their length, since the process started.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds of the buckets, in seconds, ascending.
    bounds: &'static [f64],
    /// One for each bound, and one for what is longer than the last.
    buckets: Box<[Counter]>,
    /// All durations together, in microseconds.
    micros: Counter,
}

/// What a [`Histogram`] has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Each bound in seconds, and how many durations were at most that long.
    pub at_most: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts in buckets with these upper bounds, in seconds, which must ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            micros: Counter::default(),
        }
    }

    /// Counts `duration`.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].add(1);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.add(micros);
    }

    /// What has been counted so far. The count is that of the buckets, also while others count.
    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let mut at_most = Vec::with_capacity(self.bounds.len());
        for (n, bucket) in self.buckets.iter().enumerate() {
            count += bucket.get();
            at_most.extend(self.bounds.get(n).map(|bound| (*bound, count)));
        }
        Distribution {
            at_most,
            count,
            sum: Duration::from_micros(self.micros.get()).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_they_do_not_exceed() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        for millis in [0, 500, 501, 1_000, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let expected = Distribution {
            at_most: vec![(0.5, 2), (1.0, 4)],
            count: 5,
            sum: 62.001,
        };
        assert_eq!(histogram.read(), expected);
    }
}
