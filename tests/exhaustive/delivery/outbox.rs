//! A model of what one sink is owed, with the rules of `src/store/sqlite`: `outbox.rs`, `exchange.rs`, `deliveries.rs`
//! and `registrations.rs`. Times are in milliseconds of the wall clock.

use std::time::Duration;

use apify_mirror::model::{
    Due, Exchange, Exchanged, FetchLimits, Fetched, MAX_RETRY_WAIT, Order, Overdue, Settled,
    Timestamp, Verdict,
};

/// A delivery.
#[derive(Clone, Debug)]
pub struct Row {
    pub seq: i64,
    /// When it is due; `None` while an earlier event of the run is owed.
    pub due: Option<i64>,
    pub dead: bool,
    pub attempts: u32,
    pub waited: i64,
    wait: i64,
    last: Option<i64>,
    /// What `failed` was when it came to be owed.
    owed: i64,
}

/// A sink's rows in the tables `deliveries` and `sinks`. The number of an event is its place in the log, from 1.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// By number.
    pub rows: Vec<Row>,
    pub removed: bool,
    pub live: bool,
    pub position: i64,
    retries: u64,
    /// How long the sink has failed, in all and at the last delivery.
    failed: i64,
    failed_at_delivery: i64,
    last_failed: Option<i64>,
    pause: i64,
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis() as i64
}

impl Outbox {
    /// The outbox of a sink that is configured before anything has happened.
    pub fn new() -> Self {
        Self {
            live: true,
            ..Self::default()
        }
    }

    /// The row of an event, unless it is not owed or was set aside.
    pub fn pending(&self, seq: i64) -> Option<&Row> {
        self.rows.iter().find(|row| row.seq == seq && !row.dead)
    }

    /// Whether something can be delivered now.
    pub fn has_due(&self, order: Order, now: i64) -> bool {
        let is_due = |row: &Row| order == Order::Stream || row.due.is_some_and(|due| due <= now);
        self.rows.iter().any(|row| !row.dead && is_due(row))
    }

    /// A commit raised the last event of `log`.
    pub fn raised(&mut self, log: &[&'static str], now: i64) {
        if self.live {
            self.add(log.len() as i64, log, now);
        }
    }

    /// The sink leaves the configuration.
    pub fn end(&mut self, last: i64) {
        if self.live {
            self.position = last;
        }
        (self.removed, self.live) = (true, false);
    }

    /// The sink is configured.
    pub fn register(&mut self, last: i64) {
        if self.removed {
            (self.removed, self.live) = (false, self.position >= last);
            (self.last_failed, self.failed_at_delivery) = (None, self.failed);
        }
    }

    /// Everything that is dead or was attempted in vain is retried by hand; returns the numbers of these.
    pub fn retry(&mut self, log: &[&'static str], now: i64) -> Vec<i64> {
        let chosen: Vec<i64> = self
            .rows
            .iter()
            .filter(|row| row.dead || row.attempts > 0)
            .map(|row| row.seq)
            .collect();
        for seq in &chosen {
            for row in self.rows.iter_mut().filter(|row| row.seq == *seq) {
                (row.dead, row.attempts, row.last, row.waited, row.wait) = (false, 0, None, 0, 0);
            }
            self.retries += 1;
            (self.failed_at_delivery, self.last_failed) = (self.failed, None);
            let run = run_of(log, *seq);
            for row in self
                .rows
                .iter_mut()
                .filter(|row| !row.dead && run_of(log, row.seq) == run)
            {
                row.due = None;
            }
        }
        chosen
            .iter()
            .for_each(|seq| self.promote(run_of(log, *seq), log, now));
        chosen
    }

    /// The oldest delivery is dropped by hand; returns its number.
    pub fn drop_oldest(&mut self, log: &[&'static str], now: i64) -> i64 {
        let row = self.rows.remove(0);
        self.promote(run_of(log, row.seq), log, now);
        row.seq
    }

    /// What `src/store/sqlite/exchange.rs` does.
    pub fn exchange(&mut self, exchange: &Exchange, log: &[&'static str], now: i64) -> Exchanged {
        let mut exchanged = Exchanged::default();
        if exchange.backlog && !self.removed && !self.live {
            for seq in self.position + 1..=log.len() as i64 {
                self.add(seq, log, now);
            }
            (self.position, self.live) = (log.len() as i64, true);
        }
        self.record(&exchange.settled, log, now);
        self.update_health(&exchange.settled, exchange.pause, now);
        if let Some((which, _)) = &exchange.set_aside {
            exchanged.set_aside = self.set_aside(*which, &exchange.fetch, log, now);
        }
        exchanged.live = self.live || self.removed;
        exchanged.retries = self.retries;
        exchanged.fetched = self.fetch(&exchange.fetch, log, now);
        exchanged
    }

    fn add(&mut self, seq: i64, log: &[&'static str], now: i64) {
        if self.rows.iter().any(|row| row.seq == seq) {
            return;
        }
        let mut of_run = self
            .rows
            .iter()
            .filter(|row| !row.dead && run_of(log, row.seq) == run_of(log, seq));
        let row = Row {
            seq,
            due: of_run.next().is_none().then_some(now),
            dead: false,
            attempts: 0,
            waited: 0,
            wait: 0,
            last: None,
            owed: self.failed,
        };
        self.rows.push(row);
        self.rows.sort_by_key(|row| row.seq);
    }

    /// Makes the oldest event of a run due that is owed.
    fn promote(&mut self, run: &str, log: &[&'static str], now: i64) {
        let oldest = self
            .rows
            .iter_mut()
            .find(|row| !row.dead && run_of(log, row.seq) == run);
        if let Some(row) = oldest {
            row.due.get_or_insert(now);
        }
    }

    fn record(&mut self, settled: &[Settled], log: &[&'static str], now: i64) {
        for done in settled {
            if done.verdict == Verdict::Delivered {
                self.rows.retain(|row| row.seq != done.seq);
                continue;
            }
            let counts =
                |row: &&mut Row| row.seq == done.seq && !row.dead && row.attempts == done.attempts;
            let Some(row) = self.rows.iter_mut().find(counts) else {
                continue;
            };
            row.wait = 0;
            match done.verdict {
                Verdict::Retry { at } => {
                    row.due = row.due.map(|_| at.as_millis());
                    row.wait = millis(at.since(Timestamp::from_millis(now)).min(MAX_RETRY_WAIT));
                }
                _ => (row.due, row.dead) = (None, true),
            }
            (row.attempts, row.waited, row.last) =
                (row.attempts + 1, millis(done.waited), Some(now));
        }
        settled
            .iter()
            .for_each(|done| self.promote(&done.run_id, log, now));
    }

    fn update_health(&mut self, settled: &[Settled], pause: Duration, now: i64) {
        if settled
            .iter()
            .any(|done| done.verdict == Verdict::Delivered)
        {
            (self.failed_at_delivery, self.last_failed) = (self.failed, None);
        } else if !settled.is_empty() {
            self.failed += self
                .last_failed
                .map_or(0, |last| (now - last).min(self.pause));
            (self.last_failed, self.pause) = (Some(now), millis(pause));
        }
    }

    fn set_aside(
        &mut self,
        which: Overdue,
        fetch: &FetchLimits,
        log: &[&'static str],
        now: i64,
    ) -> usize {
        let until = match which {
            Overdue::All => i64::MAX,
            Overdue::OwedFor(long) if self.failed - millis(long) >= self.failed_at_delivery => {
                self.failed - millis(long)
            }
            Overdue::OwedFor(_) => return 0,
        };
        let mut runs = Vec::new();
        for row in &mut self.rows {
            if !row.dead && row.owed <= until && !fetch.except.contains(&row.seq) {
                (row.due, row.dead) = (None, true);
                runs.push(run_of(log, row.seq));
            }
        }
        runs.iter().for_each(|run| self.promote(run, log, now));
        runs.len()
    }

    fn fetch(&self, limits: &FetchLimits, log: &[&'static str], now: i64) -> Fetched {
        let limit = limits.events + limits.except.len();
        let mut due: Vec<&Row> = self.rows.iter().filter(|row| !row.dead).collect();
        if limits.order == Order::Run {
            due.retain(|row| row.due.is_some_and(|due| due <= now));
            due.sort_by_key(|row| (row.due, row.seq));
        }
        due.truncate(limit);
        let all = due.len() < limit;
        due.retain(|row| !limits.except.contains(&row.seq));
        let later = self
            .rows
            .iter()
            .filter_map(|row| row.due)
            .filter(|due| *due > now)
            .min();
        Fetched {
            events: due
                .into_iter()
                .take(limits.events)
                .map(|row| row.read(log, now))
                .collect(),
            next_due: later
                .filter(|_| all && limits.order == Order::Run)
                .map(Timestamp::from_millis),
        }
    }

    /// Writes what decides how it goes on, with times relative to now; how long something has failed only if it can be
    /// given up for that.
    pub fn write(&self, text: &mut String, now: i64, gives_up: bool) {
        use std::fmt::Write;
        let mut past: Vec<i64> = self
            .rows
            .iter()
            .filter_map(|row| row.due)
            .filter(|due| *due <= now)
            .collect();
        past.sort_unstable();
        past.dedup();
        // Of what is due, only the order counts.
        let due = |at: i64| {
            past.binary_search(&at)
                .map_or(at - now, |nth| -1 - nth as i64)
        };
        for row in &self.rows {
            let _ = write!(
                text,
                "{}{:?}{}{} ",
                row.seq,
                row.due.map(due),
                u8::from(row.dead),
                row.attempts
            );
            if gives_up {
                let gap = row.last.map_or(0, |last| (now - last).min(row.wait));
                let _ = write!(
                    text,
                    "w{},{},{} ",
                    row.waited + gap,
                    row.wait - gap,
                    self.failed - row.owed
                );
            }
        }
        let _ = write!(
            text,
            "|{}{}{},{}",
            u8::from(self.removed),
            u8::from(self.live),
            self.position,
            self.retries
        );
        if gives_up {
            let gap = self.last_failed.map(|last| (now - last).min(self.pause));
            let left = gap.map(|gap| self.pause - gap);
            let _ = write!(
                text,
                "f{},{gap:?},{left:?}",
                self.failed - self.failed_at_delivery
            );
        }
    }
}

impl Row {
    fn read(&self, log: &[&'static str], now: i64) -> Due {
        let gap = self.last.map_or(0, |last| (now - last).min(self.wait));
        Due {
            seq: self.seq,
            id: format!("e{}", self.seq),
            run_id: run_of(log, self.seq).to_owned(),
            payload: "{}".to_owned(),
            observed_at: Timestamp::default(),
            attempts: self.attempts,
            waited: Duration::from_millis((self.waited + gap) as u64),
        }
    }
}

/// The run that an event is about.
pub fn run_of(log: &[&'static str], seq: i64) -> &'static str {
    log[seq as usize - 1]
}
