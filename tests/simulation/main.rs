//! Seeded histories of an account, played against the real state machine and the real store.
//!
//! Each seed makes an account whose runs are created, change status, end, are resurrected, deleted, retained away,
//! registered late and tied, while a mirror polls it through a server that caps and truncates pages, ignores offsets
//! and fails, and while the process dies before and after commits. Then the account comes to rest, and the mirror must
//! equal it, with exactly the events that happened.
//!
//! `SIM_SEEDS=100000 cargo test --release --test simulation` plays more histories, `SIM_SEED=42` plays one.

#![allow(clippy::unwrap_used)]

mod account;
mod mirror;

use account::Account;
use mirror::Mirror;

/// Histories played by default: some seconds' worth.
const SEEDS: u64 = 300;

/// Polls amid changes in each history.
const POLLS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn simulation() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let totals: Vec<Totals> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|nth| {
                let mine = seeds.clone().skip(nth as usize).step_by(threads as usize);
                scope.spawn(move || mine.map(play).fold(Totals::default(), Totals::plus))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a history failed; see above")).collect()
    });
    let totals = totals.into_iter().fold(Totals::default(), Totals::plus);
    println!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    if seeds.end - seeds.start >= 100 {
        let Totals { runs, deleted, resurrected, late, crashes, stepped_back, .. } = totals;
        for (what, count) in [
            ("deleted", deleted),
            ("resurrected", resurrected),
            ("late", late),
            ("crashes", crashes),
            ("stepped back", stepped_back),
        ] {
            assert!(count * 50 > seeds.end - seeds.start, "hardly anything {what}: {count} in {runs} runs");
        }
    }
}

/// What happened in a number of histories.
#[derive(Debug, Default)]
struct Totals {
    histories: u64,
    runs: u64,
    deleted: u64,
    resurrected: u64,
    late: u64,
    requests: u64,
    crashes: u64,
    stepped_back: u64,
    events: u64,
}

impl Totals {
    fn plus(self, other: Self) -> Self {
        Self {
            histories: self.histories + other.histories,
            runs: self.runs + other.runs,
            deleted: self.deleted + other.deleted,
            resurrected: self.resurrected + other.resurrected,
            late: self.late + other.late,
            requests: self.requests + other.requests,
            crashes: self.crashes + other.crashes,
            stepped_back: self.stepped_back + other.stepped_back,
            events: self.events + other.events,
        }
    }
}

/// Plays the history of one seed, and names it if it fails.
fn play(seed: u64) -> Totals {
    let played = std::panic::catch_unwind(|| history(seed));
    match played {
        Ok(totals) => totals,
        Err(panic) => {
            eprintln!(
                "\nthe history of seed {seed} failed; SIM_SEED={seed} cargo test --test simulation plays it again\n"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

fn history(seed: u64) -> Totals {
    let mut account = Account::new(seed);
    let mut mirror = Mirror::new(seed, &mut account);
    for _ in 0..POLLS {
        mirror.poll(&mut account);
        account.pass_time(mirror.db());
    }
    account.rest();
    mirror.settle_down(&mut account);
    mirror.check(&account);
    Totals {
        histories: 1,
        runs: account.created,
        deleted: account.deleted,
        resurrected: account.resurrected,
        late: account.late,
        requests: mirror.requests,
        crashes: mirror.crashes,
        stepped_back: mirror.stepped_back,
        events: mirror.events(),
    }
}
