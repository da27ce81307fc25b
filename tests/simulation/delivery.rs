//! The delivery side of a history: real machines between the real outbox and simulated receivers.
//!
//! Attempts, exchanges and notifications in flight end in any order, at any time. Each of them checks invariants;
//! [`Deliveries::settle`] checks the final state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use apify_mirror::delivery::{
    AHEAD, AttemptId, Command, DRAIN, Input, Machine, Mode, Next, Settings, Step,
};
use apify_mirror::model::{
    Due, Exchange, Exchanged, Moment, Order, Registration, Seed, Settled, SinkLimits, Subscription,
    Timestamp, Verdict,
};
use apify_mirror::simulator::Rng;
use apify_mirror::store::{Reader, Selection, SinkStatus, SqliteReader, SqliteStore, Store, Which};

use super::account::Account;
use super::hazards::Hazard;
use super::ledger::{Ledger, Raised};
use super::mirror::{EVERYTHING, ready};
use super::receiver::{Mood, answer};

/// The longest that an attempt takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time until everything is delivered, once everything works again: a retry may be due in an hour, and the
/// clock may have been set back since it was scheduled.
const SETTLED_WITHIN: Duration = Duration::from_secs(4 * 3_600);

/// How much time passes at once while retries are waited for.
const STRIDE_MS: i64 = 300_000;

/// The most deliveries listed to choose those that an operator changes.
const LISTED: u64 = 10_000;

pub struct Deliveries {
    sinks: Vec<Sink>,
    rng: Rng,
    /// When the process started, by the account's clock.
    started: Timestamp,
    seed: Seed,
    pub attempts: u64,
    pub exchanges: u64,
}

/// A sink, configured or not.
struct Sink {
    subscription: Subscription,
    limits: SinkLimits,
    give_up_after: Duration,
    from_beginning: bool,
    configured: bool,
    /// It left the configuration, and what manages the workers has not seen that yet.
    unseen: bool,
    mood: Mood,
    ledger: Ledger,
    worker: Option<Worker>,
    /// Number of commands executed since `since`.
    commands: u64,
    since: Timestamp,
}

/// A machine and everything it waits for.
struct Worker {
    machine: Machine,
    in_flight: BTreeMap<AttemptId, (Arc<[Due]>, Duration)>,
    exchange: Option<Exchange>,
    notified: bool,
    wake_at: Duration,
    /// Whether another exchange can be useful.
    news: News,
}

/// Whether an exchange can be useful, given what happened since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Something happened since the last exchange began.
    Some,
    /// The exchange in flight covers everything that happened.
    Asked,
    /// The last exchange had no effect, and nothing has happened since.
    None,
}

/// A possible next event of a worker.
#[derive(Clone, Copy)]
enum Event {
    Exchange,
    Complete(AttemptId),
    Notify,
    Wake,
}

impl Deliveries {
    pub fn new(seed: u64, account: &Account) -> Self {
        let mut rng = Rng::new(seed ^ 0xde11);
        let sinks = (0..1 + rng.below(3))
            .map(|n| Sink::new(n, &mut rng, account.now))
            .collect();
        Self {
            sinks,
            rng,
            started: account.now,
            seed: Seed(seed),
            attempts: 0,
            exchanges: 0,
        }
    }

    fn moment(&self, account: &Account) -> Moment {
        Moment {
            wall: account.local_now(),
            uptime: account.now.since(self.started),
        }
    }

    /// Registers the configured sinks, and starts a worker for each that has none.
    pub fn start(&mut self, store: &SqliteStore, account: &Account) {
        let configured = self.sinks.iter().filter(|sink| sink.configured);
        let registrations: Vec<Registration> = configured.map(Sink::registration).collect();
        ready(store.register(&registrations, account.local_now())).unwrap();
        for n in 0..self.sinks.len() {
            let sink = &mut self.sinks[n];
            if !sink.configured {
                sink.ledger.unregister();
                continue;
            }
            sink.ledger
                .register(sink.from_beginning && !sink.ledger.was_forgotten());
            if sink.worker.is_none() {
                sink.worker = Some(Worker::new(sink.settings(self.seed)));
                self.input(n, Input::Wake, account);
            }
        }
    }

    /// Notes events that a commit raised.
    pub fn raised(&mut self, events: &[Raised]) {
        for sink in &mut self.sinks {
            events
                .iter()
                .for_each(|event| sink.ledger.raised(event.clone()));
            if let Some(worker) = &mut sink.worker {
                worker.notified |= !events.is_empty();
            }
        }
    }

    /// Notes that events no longer wait for details.
    pub fn released(&mut self, events: u64) {
        for worker in self
            .sinks
            .iter_mut()
            .filter_map(|sink| sink.worker.as_mut())
        {
            worker.notified |= events > 0;
        }
    }

    /// Notes that events were deleted from the log by hand.
    pub fn events_deleted(&mut self, seqs: RangeInclusive<i64>) {
        for sink in &mut self.sinks {
            seqs.clone().for_each(|seq| sink.ledger.lost(seq));
        }
    }

    /// Notes that events were pruned; checks that no sink is owed one of them, and that none of their deliveries is left.
    pub fn events_pruned(&mut self, seqs: &BTreeSet<i64>, reader: &SqliteReader) {
        for sink in &mut self.sinks {
            seqs.iter().for_each(|seq| sink.ledger.pruned(*seq));
        }
        let all = Selection {
            which: Which::All,
            ..Selection::default()
        };
        for delivery in ready(reader.deliveries(&all, LISTED)).unwrap() {
            assert!(
                !seqs.contains(&delivery.seq),
                "the event of {delivery:?} was pruned"
            );
        }
    }

    /// Deletes the deliveries of an event by hand; returns the statement.
    pub fn delete_delivery(&mut self, seq: i64) -> String {
        self.sinks.iter_mut().for_each(|sink| sink.ledger.lost(seq));
        format!("DELETE FROM deliveries WHERE seq = {seq}")
    }

    /// Deletes the row of a sink by hand; returns the statement.
    pub fn delete_sink(&mut self, nth: usize) -> String {
        let nth = nth % self.sinks.len();
        let sink = &mut self.sinks[nth];
        sink.ledger.forgotten();
        format!(
            "DELETE FROM sinks WHERE name = '{}'",
            sink.subscription.sink
        )
    }

    /// Restarts the process: whatever is in flight may or may not have taken effect.
    pub fn crash(&mut self, store: &SqliteStore, reader: &SqliteReader, account: &Account) {
        for n in 0..self.sinks.len() {
            self.sinks[n].unseen = false;
            let Some(worker) = self.sinks[n].worker.take() else {
                continue;
            };
            for (events, _) in worker.in_flight.into_values() {
                if self.rng.chance(50.0) {
                    let Sink {
                        mood,
                        limits,
                        ledger,
                        ..
                    } = &mut self.sinks[n];
                    answer(
                        *mood,
                        limits.order,
                        &events,
                        ledger,
                        &mut self.rng,
                        account.now,
                    );
                }
            }
            if let Some(exchange) = worker.exchange.filter(|_| self.rng.chance(50.0)) {
                self.sinks[n].exchange(&exchange, store, reader, account);
            }
        }
        self.started = account.now;
        self.start(store, account);
    }

    /// Lets a few events happen, or none.
    pub fn turn(&mut self, store: &SqliteStore, reader: &SqliteReader, account: &mut Account) {
        self.misbehave(store, reader, account);
        for _ in 0..self.rng.below(4) {
            let n = self.rng.below(self.sinks.len() as u64) as usize;
            let events = self.sinks[n].may_happen(self.moment(account));
            if !events.is_empty() {
                let event = events[self.rng.below(events.len() as u64) as usize];
                self.happen(n, event, store, reader, account);
            }
        }
    }

    fn happen(
        &mut self,
        n: usize,
        event: Event,
        store: &SqliteStore,
        reader: &SqliteReader,
        account: &mut Account,
    ) {
        let Sink {
            worker: Some(worker),
            mood,
            limits,
            ledger,
            ..
        } = &mut self.sinks[n]
        else {
            return;
        };
        let input = match event {
            Event::Wake => Input::Wake,
            Event::Notify => {
                worker.notified = false;
                Input::Notified
            }
            Event::Complete(id) => {
                let (events, _) = worker.in_flight.remove(&id).unwrap();
                let outcomes = answer(
                    *mood,
                    limits.order,
                    &events,
                    ledger,
                    &mut self.rng,
                    account.now,
                );
                Input::Completed { id, outcomes }
            }
            Event::Exchange => {
                let exchange = worker.exchange.take().unwrap();
                self.exchanges += 1;
                let fails = account.misbehaves(Hazard::LockedStore, 5.0);
                let sink = &mut self.sinks[n];
                // A failed exchange may have written, and only failed to read.
                if fails && self.rng.chance(50.0) {
                    sink.exchange(&exchange, store, reader, account);
                    Input::ExchangeFailed
                } else if fails {
                    Input::ExchangeFailed
                } else {
                    Input::Exchanged(sink.exchange(&exchange, store, reader, account))
                }
            }
        };
        self.input(n, input, account);
    }

    /// Passes an input to a machine, and starts its commands.
    fn input(&mut self, n: usize, input: Input, account: &Account) {
        let now = self.moment(account);
        let sink = &mut self.sinks[n];
        let Some(worker) = &mut sink.worker else {
            return;
        };
        worker.note(&input);
        let Step { commands, next } = worker.machine.step(input, now);
        for command in commands {
            sink.commands += 1;
            match command {
                Command::Report(_) => {}
                Command::Exchange(exchange) => {
                    assert!(worker.exchange.is_none(), "two exchanges at once");
                    let writes = !exchange.settled.is_empty()
                        || exchange.backlog
                        || exchange.set_aside.is_some();
                    assert!(
                        writes || worker.news != News::None,
                        "an exchange after one without effect: {exchange:?}"
                    );
                    // What is excepted may be given back unread, and then has to be read again.
                    if exchange.fetch.events > 0 && exchange.fetch.except.is_empty() {
                        worker.news = News::Asked;
                    }
                    assert_eq!(exchange.sink, sink.subscription.sink);
                    worker.exchange = Some(exchange);
                }
                Command::Attempt { id, events } => {
                    self.attempts += 1;
                    events
                        .iter()
                        .for_each(|due| sink.ledger.attempted(due, account.now));
                    worker.in_flight.insert(id, (events, now.uptime));
                }
            }
        }
        worker.check_limits(&sink.limits);
        match next {
            Next::Sleep { wait } => {
                assert!(
                    wait >= Duration::from_millis(1),
                    "the machine does not sleep"
                );
                worker.wake_at = now.uptime + wait;
            }
            Next::Finish => sink.worker = None,
        }
        sink.check_commands(account.now);
    }

    /// Applies the history's hazards to the sinks.
    fn misbehave(&mut self, store: &SqliteStore, reader: &SqliteReader, account: &mut Account) {
        let n = self.rng.below(self.sinks.len() as u64) as usize;
        if account.misbehaves(Hazard::BadReceivers, 1.0) {
            let sink = &mut self.sinks[n];
            sink.mood = match sink.mood {
                Mood::Accepting => Mood::BAD[self.rng.below(Mood::BAD.len() as u64) as usize],
                _ => Mood::Accepting,
            };
            account.note(sink.mood.name(), &sink.subscription.sink);
        }
        if self.sinks[n].unseen && self.rng.chance(30.0) {
            // The next configuration may have it again, as it was, so that its worker stays.
            self.sinks[n].unseen = false;
            self.sinks[n].configured = self.rng.chance(70.0);
            if self.sinks[n].configured {
                account.note("configured again at once", &self.sinks[n].subscription.sink);
            }
            self.reload(n, store, reader, account);
        } else if account.misbehaves(Hazard::Reloads, 0.6) {
            let sink = &mut self.sinks[n];
            sink.configured ^= true;
            sink.unseen = sink.worker.is_some() && !sink.configured && self.rng.chance(50.0);
            if sink.worker.is_none() {
                sink.from_beginning = self.rng.chance(50.0);
            }
            match sink.unseen {
                true => self.start(store, account),
                false => self.reload(n, store, reader, account),
            }
        }
        if account.misbehaves(Hazard::ByHand, 0.3) {
            self.by_hand(n, store, reader, account);
        }
    }

    /// Reloads the configuration: the worker of a removed sink drains.
    fn reload(
        &mut self,
        n: usize,
        store: &SqliteStore,
        reader: &SqliteReader,
        account: &mut Account,
    ) {
        self.start(store, account);
        if self.sinks[n].configured {
            return;
        }
        self.input(n, Input::Stop, account);
        let deadline = self.moment(account).uptime + DRAIN;
        while self.sinks[n].worker.is_some() {
            let now = self.moment(account);
            assert!(
                now.uptime <= deadline + Duration::from_millis(1),
                "the worker does not finish"
            );
            // Sometimes the drain's time limit ends before anything in flight does.
            let events = if self.rng.chance(30.0) {
                Vec::new()
            } else {
                self.sinks[n].may_happen(now)
            };
            match events.first() {
                Some(event) => self.happen(n, *event, store, reader, account),
                None => {
                    account.wait(100);
                    self.input(n, Input::Wake, account);
                }
            }
        }
    }

    /// An operator retries or drops deliveries.
    fn by_hand(
        &mut self,
        n: usize,
        store: &SqliteStore,
        reader: &SqliteReader,
        account: &mut Account,
    ) {
        let which = [Which::Dead, Which::Failed, Which::All][self.rng.below(3) as usize];
        let mut selection = Selection {
            sink: Some(self.sinks[n].subscription.sink.clone()),
            seqs: Vec::new(),
            which,
        };
        let listed = ready(reader.deliveries(&selection, LISTED)).unwrap();
        if listed.is_empty() || self.sinks[n].ledger.is_forgotten() {
            return;
        }
        if self.rng.chance(50.0) {
            selection.seqs = vec![listed[self.rng.below(listed.len() as u64) as usize].seq];
        }
        let chosen = |seq: &i64| selection.seqs.is_empty() || selection.seqs.contains(seq);
        let seqs: Vec<i64> = listed
            .iter()
            .map(|delivery| delivery.seq)
            .filter(chosen)
            .collect();
        let now = account.local_now();
        if self.rng.chance(60.0) {
            let retried = ready(store.retry_deliveries(&selection, now)).unwrap();
            assert_eq!(retried, seqs.len() as u64);
            let ledger = &mut self.sinks[n].ledger;
            seqs.into_iter().for_each(|seq| ledger.retried(seq));
            account.note("retried by hand", "");
        } else {
            let dropped = ready(store.drop_deliveries(&selection, now)).unwrap();
            assert_eq!(dropped, seqs.len() as u64);
            seqs.into_iter()
                .for_each(|seq| self.sinks[n].ledger.drop(seq, account.now));
            account.note("dropped by hand", "");
        }
    }

    /// Configures every sink and ends all hazards; checks that everything owed is then received.
    pub fn settle(&mut self, store: &SqliteStore, reader: &SqliteReader, account: &mut Account) {
        for sink in &mut self.sinks {
            (sink.configured, sink.mood, sink.unseen) = (true, Mood::Accepting, false);
            sink.from_beginning |= sink.worker.is_none();
        }
        self.start(store, account);
        let began = account.now;
        loop {
            let mut happened = false;
            for n in 0..self.sinks.len() {
                while let Some(event) = self.sinks[n]
                    .may_happen(self.moment(account))
                    .first()
                    .copied()
                {
                    self.happen(n, event, store, reader, account);
                    happened = true;
                }
            }
            if happened {
                continue;
            }
            let status = ready(reader.sinks()).unwrap();
            if self.sinks.iter().all(|sink| sink.is_settled(&status)) {
                break;
            }
            assert!(
                account.now.since(began) < SETTLED_WITHIN,
                "deliveries that never arrive"
            );
            // Waking late is allowed, and avoids hours of polling every five seconds.
            account.wait(STRIDE_MS);
        }
        let logged = ready(reader.events_after(0, &EVERYTHING, u64::from(u32::MAX))).unwrap();
        let logged = logged.0.into_iter().map(|event| (event.seq, event.payload));
        let logged: BTreeMap<i64, String> = logged.collect();
        for sink in &self.sinks {
            sink.ledger.check_complete();
            for (seq, body) in sink.ledger.bodies() {
                let now = logged.get(seq);
                assert!(
                    now.is_none_or(|now| now == body),
                    "{seq} changed to {now:?}"
                );
            }
        }
    }
}

impl Sink {
    fn new(n: u64, rng: &mut Rng, now: Timestamp) -> Self {
        let order = if rng.chance(35.0) {
            Order::Stream
        } else {
            Order::Run
        };
        let limits = SinkLimits {
            order,
            batch: 1 + rng.below(3) as usize,
            concurrency: if order == Order::Stream {
                1
            } else {
                1 + rng.below(4) as usize
            },
        };
        let types = rng.chance(30.0).then(|| {
            vec![
                "ACTOR.RUN.CREATED".to_owned(),
                "ACTOR.RUN.FAILED".to_owned(),
            ]
        });
        let subscription = Subscription {
            sink: format!("sink-{n}"),
            types,
        };
        let give_up_after = [10, 120, 115_200][rng.below(3) as usize];
        Self {
            ledger: Ledger::new(subscription.clone(), order),
            subscription,
            limits,
            give_up_after: Duration::from_secs(give_up_after),
            from_beginning: rng.chance(30.0),
            configured: n == 0 || rng.chance(70.0),
            unseen: false,
            mood: Mood::Accepting,
            worker: None,
            commands: 0,
            since: now,
        }
    }

    fn registration(&self) -> Registration {
        Registration {
            subscription: self.subscription.clone(),
            kind: "webhook",
            from_beginning: self.from_beginning && !self.ledger.was_forgotten(),
        }
    }

    fn settings(&self, seed: Seed) -> Settings {
        Settings {
            sink: self.subscription.sink.clone(),
            limits: self.limits,
            give_up_after: self.give_up_after,
            seed: seed.of(&self.subscription.sink),
            mode: Mode::UntilStopped,
        }
    }

    /// The possible next events of its worker, in an order in which everything ends.
    fn may_happen(&self, now: Moment) -> Vec<Event> {
        let Some(worker) = &self.worker else {
            return Vec::new();
        };
        let mut events = Vec::new();
        if worker.exchange.is_some() {
            events.push(Event::Exchange);
        }
        for (id, (in_flight, since)) in &worker.in_flight {
            if !self.mood.hangs(in_flight) || now.uptime >= *since + TIMEOUT {
                events.push(Event::Complete(*id));
            }
        }
        if worker.notified {
            events.push(Event::Notify);
        }
        if now.uptime >= worker.wake_at {
            events.push(Event::Wake);
        }
        events
    }

    /// Executes an exchange, and updates the ledger.
    fn exchange(
        &mut self,
        exchange: &Exchange,
        store: &SqliteStore,
        reader: &SqliteReader,
        account: &Account,
    ) -> Exchanged {
        let (jumps, give_up_after) = (account.clock_jumps(), self.give_up_after);
        let exchanged = ready(store.exchange(exchange.clone(), account.local_now())).unwrap();
        assert_eq!(exchanged.unknown, self.ledger.is_forgotten());
        if exchanged.unknown {
            ready(store.restore(&self.registration(), account.local_now())).unwrap();
            self.ledger.register(false);
        }
        self.note_settled(&exchange.settled, account);
        if exchanged.set_aside > 0 {
            let dead = Selection {
                sink: Some(self.subscription.sink.clone()),
                ..Selection::default()
            };
            let dead = ready(reader.deliveries(&dead, LISTED)).unwrap();
            let dead: Vec<i64> = dead.iter().map(|delivery| delivery.seq).collect();
            let which = exchange.set_aside.as_ref().unwrap().0;
            self.ledger.cleared(which, &dead, give_up_after, jumps);
        }
        if exchange.backlog && exchanged.live {
            self.ledger.caught_up();
        }
        let events = &exchanged.fetched.events;
        assert!(
            events.len() <= exchange.fetch.events,
            "more events than requested"
        );
        for due in events {
            assert!(
                !exchange.fetch.except.contains(&due.seq),
                "{} was excepted",
                due.seq
            );
            self.ledger.fetched(due);
        }
        exchanged
    }

    /// Notes what an exchange recorded.
    fn note_settled(&mut self, settled: &[Settled], account: &Account) {
        for Settled {
            seq,
            attempts,
            verdict,
            ..
        } in settled
        {
            match verdict {
                Verdict::Delivered => self.ledger.recorded(*seq),
                _ if !self.ledger.counts(*seq, *attempts) => {}
                Verdict::SetAside => {
                    self.ledger
                        .set_aside(*seq, self.give_up_after, account.clock_jumps());
                }
                Verdict::Retry { .. } => self.ledger.failed(*seq),
            }
        }
        if !settled.is_empty() {
            let delivered = |settled: &Settled| settled.verdict == Verdict::Delivered;
            self.ledger
                .health(settled.iter().any(delivered), account.now);
        }
    }

    /// Whether nothing is pending.
    fn is_settled(&self, status: &[SinkStatus]) -> bool {
        let idle = |worker: &Worker| {
            worker.in_flight.is_empty() && worker.exchange.is_none() && !worker.notified
        };
        let mine = status
            .iter()
            .find(|status| status.name == self.subscription.sink);
        let pending = mine.map_or(0, |status| status.pending);
        self.ledger.is_live() && pending == 0 && self.worker.as_ref().is_some_and(idle)
    }

    /// Checks that the number of commands is bounded by the events owed and the time.
    fn check_commands(&self, now: Timestamp) {
        let most = 200 + 60 * self.ledger.size() as u64 + 2 * now.since(self.since).as_secs();
        assert!(
            self.commands <= most,
            "{} commands for {} events in {:?}",
            self.commands,
            self.ledger.size(),
            now.since(self.since)
        );
    }
}

impl Worker {
    fn new(settings: Settings) -> Self {
        Self {
            machine: Machine::new(settings),
            in_flight: BTreeMap::new(),
            exchange: None,
            notified: false,
            wake_at: Duration::ZERO,
            news: News::Some,
        }
    }

    fn note(&mut self, input: &Input) {
        self.news = match input {
            Input::Exchanged(exchanged) => {
                let nothing = exchanged.fetched.events.is_empty() && exchanged.set_aside == 0;
                match self.news {
                    News::Asked if nothing => News::None,
                    _ => News::Some,
                }
            }
            _ => News::Some,
        };
    }

    /// Checks the limits: attempts in flight, no event twice, one event of a run at a time, and events in memory.
    fn check_limits(&self, limits: &SinkLimits) {
        assert!(
            self.in_flight.len() <= limits.concurrency,
            "too many attempts in flight"
        );
        let (mut seqs, mut runs) = (BTreeSet::new(), BTreeSet::new());
        for (events, _) in self.in_flight.values() {
            assert!(
                (1..=limits.batch).contains(&events.len()),
                "a batch of {}",
                events.len()
            );
            for due in events.iter() {
                assert!(seqs.insert(due.seq), "{} is in flight twice", due.seq);
                let first = runs.insert(&due.run_id) || limits.order == Order::Stream;
                assert!(first, "two events of {} are in flight", due.run_id);
            }
        }
        let most = limits.batch * limits.concurrency * (AHEAD + 1);
        assert!(
            self.machine.held() <= most,
            "{} events in memory",
            self.machine.held()
        );
    }
}
