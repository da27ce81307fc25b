//! A model of one sink's outbox, derived from the raised events without the store, and of what the sink received.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apify_mirror::delivery::{FRESH, MAX_REJECTIONS};
use apify_mirror::model::{
    AttemptOutcome, Due, MAX_RETRY_WAIT, Order, Overdue, Subscription, Timestamp,
};
use serde_json::Value;

/// The longest time that a sink is not attempted: what receivers ask for, which is longer than what the breaker takes.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// An event of the log.
#[derive(Clone, Debug)]
pub struct Raised {
    pub seq: i64,
    pub run: String,
    pub kind: String,
    pub payload: String,
}

/// Which events the sink is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The events of every commit.
    Live,
    /// The events after this one, once they are copied to the outbox and it becomes live.
    CatchingUp { from: i64 },
    /// None, as it is not configured; if it returns, the events after this one.
    Stopped { from: i64 },
}

pub struct Ledger {
    subscription: Subscription,
    order: Order,
    position: Position,
    /// Whether it was ever registered.
    known: bool,
    /// Whether its row was deleted by hand, ever and now.
    was_forgotten: bool,
    is_forgotten: bool,
    /// Events that were deleted by hand, or their deliveries: the sink may get them or not.
    lost: BTreeSet<i64>,
    /// Events that were pruned.
    pruned: BTreeSet<i64>,
    /// Every event, in order.
    log: Vec<Raised>,
    /// The bodies of events as the outbox first returned them.
    bodies: BTreeMap<i64, String>,
    /// Events that the outbox must hold until they are recorded.
    owed: BTreeSet<i64>,
    /// Events recorded as delivered.
    recorded: BTreeSet<i64>,
    /// Events that were ever set aside or dropped, so that later events of their runs may have arrived first.
    out_of_order: BTreeSet<i64>,
    /// Set aside, and not retried by hand since.
    dead: BTreeSet<i64>,
    /// Dropped by hand, and when, by the account's clock.
    dropped: BTreeMap<i64, Timestamp>,
    received: BTreeMap<i64, u32>,
    attempts: BTreeMap<i64, Attempts>,
    /// The failures that count, since an event was last retried by hand.
    failures: BTreeMap<i64, u32>,
    /// Time that may count towards giving up while no delivery is recorded, and what it was at the last delivery and when
    /// each event came to be owed.
    failing: Duration,
    failing_at_delivery: Duration,
    failing_when_owed: BTreeMap<i64, Duration>,
    /// When the last failure was recorded.
    last_failure: Option<Timestamp>,
    /// The receiver has said at some time that it will never accept anything.
    gone: bool,
}

/// What is known of the attempts at one event.
#[derive(Clone, Debug, Default)]
struct Attempts {
    /// When the last one ended, by the account's clock, and the longest wait that it can have been followed by.
    ended: Option<(Timestamp, Duration)>,
    /// How many ended.
    answered: u32,
    /// The most that it can have waited: the gaps, of each the longest scheduled wait.
    waited: Duration,
    /// Failed ones that were recorded; more than there were, where a record was repeated.
    recorded: u32,
    last: Option<AttemptOutcome>,
}

impl Ledger {
    /// Creates the ledger of a sink that was never configured.
    pub fn new(subscription: Subscription, order: Order) -> Self {
        Self {
            subscription,
            order,
            position: Position::Stopped { from: 0 },
            known: false,
            was_forgotten: false,
            is_forgotten: false,
            lost: BTreeSet::new(),
            pruned: BTreeSet::new(),
            log: Vec::new(),
            bodies: BTreeMap::new(),
            owed: BTreeSet::new(),
            recorded: BTreeSet::new(),
            out_of_order: BTreeSet::new(),
            dead: BTreeSet::new(),
            dropped: BTreeMap::new(),
            received: BTreeMap::new(),
            attempts: BTreeMap::new(),
            failures: BTreeMap::new(),
            failing: Duration::ZERO,
            failing_at_delivery: Duration::ZERO,
            failing_when_owed: BTreeMap::new(),
            last_failure: None,
            gone: false,
        }
    }

    /// Notes that the sink is registered.
    pub fn register(&mut self, from_beginning: bool) {
        if let Position::Stopped { from } = self.position {
            // One that returns goes on where it stopped, wherever a new one would start.
            let from = match self.known || from_beginning {
                true => from,
                false => self.last(),
            };
            self.position = match from == self.last() {
                true => Position::Live,
                false => Position::CatchingUp { from },
            };
        }
        self.known = true;
        self.is_forgotten = false;
    }

    /// Notes that the sink's row was deleted by hand.
    pub fn forgotten(&mut self) {
        self.was_forgotten |= self.known;
        self.is_forgotten |= self.known;
        self.known = false;
        self.position = Position::Stopped { from: 0 };
    }

    /// Whether the sink's row is deleted.
    pub fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }

    /// Whether the sink's row was ever deleted.
    pub fn was_forgotten(&self) -> bool {
        self.was_forgotten
    }

    /// Notes that an event or its delivery was deleted by hand.
    pub fn lost(&mut self, seq: i64) {
        self.lost.insert(seq);
    }

    /// Notes that an event was pruned; checks that the sink is not owed it.
    pub fn pruned(&mut self, seq: i64) {
        let done = [&self.recorded, &self.dead, &self.lost];
        let is_done =
            done.iter().any(|done| done.contains(&seq)) || self.dropped.contains_key(&seq);
        let is_copied = match self.position {
            Position::CatchingUp { from } => {
                seq <= from || !self.subscription.wants(&self.event(seq).kind)
            }
            Position::Live | Position::Stopped { .. } => true,
        };
        let sink = &self.subscription.sink;
        assert!(
            is_done || !self.owed.contains(&seq),
            "{seq} was pruned, and is owed to {sink}"
        );
        assert!(
            is_copied || self.lost.contains(&seq),
            "{seq} was pruned before {sink} got it"
        );
        self.pruned.insert(seq);
    }

    /// Notes that the sink is no longer registered.
    pub fn unregister(&mut self) {
        self.position = match self.position {
            Position::Live => Position::Stopped { from: self.last() },
            Position::CatchingUp { from } | Position::Stopped { from } => {
                Position::Stopped { from }
            }
        };
    }

    fn last(&self) -> i64 {
        self.log.last().map_or(0, |event| event.seq)
    }

    /// Notes an event that a commit raised.
    pub fn raised(&mut self, event: Raised) {
        if self.position == Position::Live && self.subscription.wants(&event.kind) {
            self.owed.insert(event.seq);
            self.failing_when_owed.insert(event.seq, self.failing);
        }
        self.log.push(event);
    }

    /// Notes that the store has copied the whole backlog.
    pub fn caught_up(&mut self) {
        if let Position::CatchingUp { from } = self.position {
            let wanted = |event: &&Raised| {
                event.seq > from
                    && self.subscription.wants(&event.kind)
                    && !self.pruned.contains(&event.seq)
            };
            let missed: Vec<i64> = self
                .log
                .iter()
                .filter(wanted)
                .map(|event| event.seq)
                .collect();
            self.owed.extend(missed);
            self.position = Position::Live;
        }
    }

    /// Whether the backlog is copied.
    pub fn is_live(&self) -> bool {
        self.position == Position::Live
    }

    /// Checks an event that the outbox returned as due.
    pub fn fetched(&mut self, due: &Due) {
        let seq = due.seq;
        self.check_owed(seq);
        assert!(!self.dropped.contains_key(&seq), "{seq} was dropped");
        let failures = self.failures.get(&seq).copied().unwrap_or(0);
        assert_eq!(due.attempts, failures, "attempts at {seq}");
        let event = self.event(seq);
        assert_eq!(event.run, due.run_id, "{seq} changed");
        if let Some(before) = self.bodies.get(&seq) {
            assert_eq!(*before, due.payload, "{seq} changed");
            return;
        }
        assert_eq!(
            without_details(&event.payload),
            without_details(&due.payload),
            "{seq} changed"
        );
        self.bodies.insert(seq, due.payload.clone());
    }

    /// The bodies of the events that the outbox returned as due.
    pub fn bodies(&self) -> &BTreeMap<i64, String> {
        &self.bodies
    }

    /// Checks an event that the machine attempts to deliver at `now`. The event may have been dropped by hand a moment ago.
    pub fn attempted(&self, due: &Due, now: Timestamp) {
        self.check_owed(due.seq);
        let dropped = self.dropped.get(&due.seq);
        assert!(
            dropped.is_none_or(|at| now.since(*at) <= FRESH),
            "{} is attempted at {now}, but was dropped at {dropped:?}",
            due.seq
        );
    }

    fn check_owed(&self, seq: i64) {
        let sink = &self.subscription.sink;
        assert!(self.owed.contains(&seq), "{seq} is not owed to {sink}");
        assert!(
            !self.recorded.contains(&seq),
            "{seq} was recorded as delivered"
        );
        assert!(!self.dead.contains(&seq), "{seq} was set aside");
    }

    /// An attempt ended at `now`, by the account's clock.
    pub fn answered(&mut self, seq: i64, outcome: &AttemptOutcome, now: Timestamp) {
        let attempts = self.attempts.entry(seq).or_default();
        attempts.answered += 1;
        if let Some((before, longest)) = attempts.ended {
            attempts.waited += now.since(before).min(longest);
        }
        let asked = match outcome {
            AttemptOutcome::Failed { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let doubled = 1 << (attempts.answered + attempts.recorded).min(12);
        let longest = Duration::from_secs(doubled).min(MAX_RETRY_WAIT).max(asked);
        attempts.ended = Some((now, longest));
        attempts.last = Some(outcome.clone());
        self.gone |= matches!(outcome, AttemptOutcome::Gone { .. });
    }

    /// Notes that the receiver accepted an event; checks the order.
    pub fn received(&mut self, due: &Due) {
        let event = self.event(due.seq);
        let before = self.log.iter().take_while(|earlier| earlier.seq < due.seq);
        for earlier in
            before.filter(|earlier| self.order == Order::Stream || earlier.run == event.run)
        {
            let seq = earlier.seq;
            let settled = self.received.contains_key(&seq)
                || self.out_of_order.contains(&seq)
                || self.lost.contains(&seq);
            assert!(
                settled || !self.owed.contains(&seq),
                "{} received {} of {} before {seq}",
                self.subscription.sink,
                due.seq,
                event.run
            );
        }
        *self.received.entry(due.seq).or_default() += 1;
    }

    pub fn recorded(&mut self, seq: i64) {
        let received = self.received.contains_key(&seq);
        assert!(
            received,
            "{seq} is recorded as delivered, but was never received"
        );
        self.recorded.insert(seq);
    }

    /// What became of several attempts was recorded at once, at `now` by the account's clock.
    pub fn health(&mut self, any_delivered: bool, now: Timestamp) {
        match any_delivered {
            true => {
                self.failing_at_delivery = self.failing;
                self.last_failure = None;
            }
            false => {
                let gap = self
                    .last_failure
                    .map_or(Duration::ZERO, |last| now.since(last));
                self.failing += gap.min(LONGEST_PAUSE);
                self.last_failure = Some(now);
            }
        }
    }

    /// Whether a failure of an event that was read after `attempts` attempts counts: not when it was recorded before, or
    /// when the event was set aside, dropped or retried meanwhile.
    pub fn counts(&mut self, seq: i64, attempts: u32) -> bool {
        let failures = self.failures.entry(seq).or_default();
        let counts = *failures == attempts
            && !self.dropped.contains_key(&seq)
            && ![&self.dead, &self.recorded]
                .iter()
                .any(|done| done.contains(&seq));
        *failures += u32::from(counts);
        counts
    }

    /// A failed attempt was recorded.
    pub fn failed(&mut self, seq: i64) {
        self.attempts.entry(seq).or_default().recorded += 1;
    }

    /// An event was set aside after an attempt: it has waited for `give_up_after`, unless the receiver has refused it for
    /// good, or often enough. Where `clock_jumps`, waits may end at any time.
    pub fn set_aside(&mut self, seq: i64, give_up_after: Duration, clock_jumps: bool) {
        self.failed(seq);
        let attempts = &self.attempts[&seq];
        let old = clock_jumps || attempts.waited >= give_up_after;
        let refused = match &attempts.last {
            Some(AttemptOutcome::Refused { .. } | AttemptOutcome::Gone { .. }) => true,
            Some(AttemptOutcome::Rejected { .. }) => attempts.recorded >= MAX_REJECTIONS,
            _ => false,
        };
        assert!(old || refused, "{seq} was given up too early: {attempts:?}");
        self.died(seq);
    }

    /// Several events were set aside at once; `seqs` are all that are now.
    pub fn cleared(
        &mut self,
        which: Overdue,
        seqs: &[i64],
        give_up_after: Duration,
        clock_jumps: bool,
    ) {
        let allowed = |seq: &i64| match which {
            Overdue::All => self.gone,
            Overdue::OwedFor(_) => {
                let owed = self.failing_when_owed.get(seq).copied().unwrap_or_default();
                let counts_from = owed.max(self.failing_at_delivery);
                clock_jumps || self.failing.saturating_sub(counts_from) >= give_up_after
            }
        };
        for seq in seqs.iter().filter(|seq| !self.dead.contains(*seq)) {
            assert!(allowed(seq), "{seq} was given up too early: {which:?}");
        }
        seqs.iter().for_each(|seq| self.died(*seq));
    }

    fn died(&mut self, seq: i64) {
        self.out_of_order.insert(seq);
        self.dead.insert(seq);
    }

    /// Notes that an operator retries an event. What is known of it stays: an attempt may be in flight.
    pub fn retried(&mut self, seq: i64) {
        self.dead.remove(&seq);
        self.failures.remove(&seq);
        self.failing_at_delivery = self.failing;
        self.last_failure = None;
    }

    pub fn drop(&mut self, seq: i64, now: Timestamp) {
        self.out_of_order.insert(seq);
        self.dropped.insert(seq, now);
    }

    /// Checks, at the end, that everything owed was received at least once, except events set aside or dropped.
    pub fn check_complete(&self) {
        for seq in &self.owed {
            let excused = self.dead.contains(seq)
                || self.dropped.contains_key(seq)
                || self.lost.contains(seq);
            let received = self.received.contains_key(seq);
            assert!(
                received || excused,
                "{} never received {seq}",
                self.subscription.sink
            );
        }
        for seq in self.received.keys() {
            assert!(
                self.owed.contains(seq),
                "{} received {seq}, which it is not owed",
                self.subscription.sink
            );
        }
    }

    /// The number of events owed so far.
    pub fn size(&self) -> usize {
        self.owed.len()
    }

    fn event(&self, seq: i64) -> &Raised {
        let place = self.log.binary_search_by_key(&seq, |event| event.seq);
        &self.log[place.unwrap_or_else(|_| panic!("there is no event {seq}"))]
    }
}

/// A body without what only a single read shows of its run.
fn without_details(body: &str) -> Value {
    let mut body: Value = serde_json::from_str(body).unwrap();
    let run = body["resource"].as_object_mut().unwrap();
    for field in ["statusMessage", "exitCode", "stats", "options"] {
        run.remove(field);
    }
    body
}
