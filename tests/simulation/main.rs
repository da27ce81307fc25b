//! Seeded histories of an account, played against the real state machines and the real store, up to simulated receivers.
//!
//! Each seed makes an account of one to three tasks whose runs are created, change status, end, are resurrected,
//! deleted, retained away, hidden, registered late and tied. A mirror polls and audits it through a server that caps and
//! truncates pages, ignores offsets and fails; clocks jump, the database is locked, and the process dies before and
//! after commits, and while attempts and exchanges are in flight. Its answers lie about totals and offsets, ignore
//! parameters, list ties in changing orders, lag, and hold entries and starts that cannot be read. One to three sinks deliver the events to receivers that
//! fail, reject, hang, lose acknowledgements, throttle and go away; sinks leave the configuration and come back, and
//! an operator retries and drops deliveries by hand. In half of the histories what is old is pruned, at any moment.
//!
//! What must always be true is checked after each commit and each delivery. Then the account comes to rest: the mirror
//! must equal it, with exactly the events that happened, and every event must reach every sink that is owed it.
//!
//! `SIM_SEEDS=100000 cargo test --release --test simulation` plays more histories, from `SIM_FROM` on. A history that
//! fails is shrunk (not with `SIM_NOSHRINK=1`) and printed, or with `SIM_SURVEY=1` only named, and the others played on.
//! `SIM_TRACE` lines of its trace are printed. `SIM_SEED=42 SIM_POLLS=7 SIM_WITHOUT=ties,late` plays it again.

#![allow(clippy::unwrap_used)]

mod account;
mod check;
mod delivery;
mod hazards;
mod ledger;
mod mirror;
mod receiver;
mod replay;
mod server;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use account::Account;
use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::sync::Outcome;
use hazards::{Hazard, Hazards};
use mirror::Mirror;

/// Number of histories played by default, which takes most of a minute in a debug build.
const SEEDS: u64 = 100;

/// Number of polls during changes in each history.
const POLLS: u64 = 20;

/// The most lines printed of what happened in a failing history.
const MAX_TRACE: usize = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

#[test]
fn mirrors_stay_equal_to_their_accounts() {
    let from = number("SIM_FROM").unwrap_or(0);
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => from..from + number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let totals: Vec<Totals> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|nth| {
                let mine = seeds.clone().skip(nth as usize).step_by(threads as usize);
                scope.spawn(move || mine.map(play).fold(Totals::default(), plus))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a history failed; see above"))
            .collect()
    });
    let totals = totals.into_iter().fold(Totals::default(), plus);
    println!("{} histories: {totals:?}", seeds.end - seeds.start);
    assert!(
        !totals.contains_key("failed"),
        "histories failed; see above"
    );
    // Every kind of change and hazard must occur often enough for the simulation to test it.
    if seeds.end - seeds.start >= 100 {
        let happened = [
            "created",
            "ended",
            "registered late",
            "resurrected",
            "deleted",
            "retained",
            "hidden",
            "shown again",
            "clock set",
            "page size set",
            "died",
            "stepped back",
            "audits",
            "events",
            "retried by hand",
            "dropped by hand",
            "receiver gone",
            "receiver hanging",
            "receiver mute",
            "configured again at once",
            "run pruned",
            "details read",
            "details put off",
        ];
        let names = Hazard::ALL.map(Hazard::name);
        let misbehaved = [
            "ignored-offsets",
            "cut-pages",
            "failed-reads",
            "crashes",
            "bad-receivers",
            "reloads",
            "by-hand",
            "locked-store",
            "deleted-by-hand",
            "pruning",
            "off-for-days",
            "odd-items",
            "lagging-lists",
        ];
        assert!(misbehaved.iter().all(|name| names.contains(name)));
        for what in happened.iter().chain(&misbehaved) {
            let count = totals.get(what).copied().unwrap_or(0);
            assert!(
                count * 50 > seeds.end - seeds.start,
                "hardly anything {what}: {totals:?}"
            );
        }
    }
}

/// The next poll updates thousands of runs that ended at once, far behind the cursor, with few requests.
#[test]
fn one_poll_updates_five_thousand_open_runs_that_ended() {
    let hazards = Hazard::ALL
        .iter()
        .fold(Hazards::of(0, 0), |hazards, hazard| hazards.but(*hazard));
    let mut account = Account::new(0, hazards.clone());
    let task = account.tasks[0].clone();
    let ids: Vec<String> = (0..12_000)
        .map(|n| {
            account.world.create(
                &task,
                Timestamp::from_millis(account.now.as_millis() + n * 1_000),
            )
        })
        .collect();
    account.rest();
    account.wait(12_000_000);
    for id in &ids[5_000..] {
        account.world.finish(id, RunStatus::Succeeded, account.now);
    }
    let mut mirror = Mirror::new(0, &hazards, &account);
    mirror.settings.page_size = 1_000;
    mirror.restart(&account);
    mirror.catch_up(&mut account);
    for id in &ids[..5_000] {
        account.world.finish(id, RunStatus::Failed, account.now);
    }
    let before = mirror.requests;
    mirror.round(&mut account);
    assert!(
        mirror
            .feeds
            .iter()
            .all(|feed| feed.outcome == Some(Outcome::CaughtUp))
    );
    mirror.checks.equal(&mirror.reader, &account);
    let requests = mirror.requests - before;
    assert!(requests <= 20, "it took {requests} requests");
}

/// Counts of what happened in a number of histories.
type Totals = BTreeMap<&'static str, u64>;

fn plus(mut all: Totals, more: Totals) -> Totals {
    for (what, count) in more {
        *all.entry(what).or_default() += count;
    }
    all
}

/// Plays the history of one seed; if it fails, finds a small one that fails too, and prints it.
fn play(seed: u64) -> Totals {
    let mut hazards = Hazards::of(seed, number("SIM_POLLS").unwrap_or(POLLS));
    for name in std::env::var("SIM_WITHOUT")
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
    {
        let hazard = Hazard::ALL.into_iter().find(|hazard| hazard.name() == name);
        hazards = hazards
            .but(hazard.unwrap_or_else(|| panic!("SIM_WITHOUT has {name}, which is no hazard")));
    }
    match attempt(seed, &hazards) {
        Ok(totals) => totals,
        Err((_, problem)) if std::env::var_os("SIM_SURVEY").is_some() => {
            println!("FAILED {seed}: {problem}");
            Totals::from([("failed", 1)])
        }
        Err((_, problem)) => {
            let small = match std::env::var_os("SIM_NOSHRINK") {
                Some(_) => hazards,
                None => shrink(seed, hazards, &kind(&problem)),
            };
            let traced = Hazards {
                traced: true,
                ..small.clone()
            };
            let (trace, problem) = attempt(seed, &traced).err().unwrap_or_default();
            let most = number("SIM_TRACE").map_or(MAX_TRACE, |most| most as usize);
            let skipped = trace.len().saturating_sub(most);
            eprintln!(
                "\nthe history of seed {seed} failed. What happened, as small as it gets ({skipped} lines left out):"
            );
            trace
                .iter()
                .skip(skipped)
                .for_each(|line| eprintln!("  {line}"));
            eprintln!("{problem}");
            eprintln!(
                "play it again: SIM_SEED={seed} SIM_POLLS={} SIM_WITHOUT={} cargo test --test simulation\n",
                small.polls,
                small.left_out()
            );
            panic!("seed {seed}: {problem}");
        }
    }
}

/// What kind of failure a message is about: its words, without ids and numbers.
fn kind(problem: &str) -> Vec<String> {
    let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase());
    let words = problem.split_whitespace().filter(is_word);
    words.take(5).map(str::to_owned).collect()
}

/// Shrinks a failing history: removes one hazard after another, then polls, while it still fails in the same way.
fn shrink(seed: u64, mut failing: Hazards, wanted: &[String]) -> Hazards {
    let fails = |hazards: &Hazards| {
        attempt(seed, hazards).is_err_and(|(_, problem)| kind(&problem) == wanted)
    };
    for hazard in Hazard::ALL {
        // Without these, polling alone must suffice, which is another test and not a smaller one.
        if matches!(hazard, Hazard::Unwatched | Hazard::ClockJumps) {
            continue;
        }
        let fewer = failing.but(hazard);
        if fails(&fewer) {
            failing = fewer;
        }
    }
    for polls in 0..failing.polls {
        let fewer = Hazards {
            polls,
            ..failing.clone()
        };
        if fails(&fewer) {
            return fewer;
        }
    }
    failing
}

/// Plays a history; returns its counts, or its trace and the panic message if it fails.
fn attempt(seed: u64, hazards: &Hazards) -> Result<Totals, (Vec<String>, String)> {
    let mut account = Account::new(seed, hazards.clone());
    let played = panic::catch_unwind(AssertUnwindSafe(|| history(seed, hazards, &mut account)));
    played.map_err(|panicked| {
        let text = panicked.downcast_ref::<String>().cloned();
        let problem = text.or_else(|| {
            panicked
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        (
            std::mem::take(&mut account.trace),
            problem.unwrap_or_default(),
        )
    })
}

fn history(seed: u64, hazards: &Hazards, account: &mut Account) -> Totals {
    let mut mirror = Mirror::new(seed, hazards, account);
    for _ in 0..hazards.polls {
        mirror.round(account);
        account.pass_time(&mirror.reader);
        mirror.deliver(account);
        if account.misbehaves(Hazard::Off, 2.0) {
            mirror.be_off(account);
        }
    }
    // In half of all histories some runs stay open.
    if seed % 4 < 2 {
        account.end_all();
    }
    account.rest();
    mirror.settle_down(account);
    if hazards.polling_suffices() && account.shows_activity() && !mirror.went_past {
        mirror.checks.equal(&mirror.reader, account);
        mirror.checks.open(&mirror.reader, account);
    }
    mirror.audit(account);
    mirror.checks.equal(&mirror.reader, account);
    mirror.checks.marked(&mirror.reader, account);
    if hazards.rows_stay() {
        mirror.checks.raised(&mirror.reader, account);
    }
    mirror.settle_details(account);
    mirror.settle_deliveries(account);
    // Playing it all again takes as long as the history, so only some are.
    if seed % 8 < 2 {
        replay::check(&mirror.commits, &mirror.checks.ids);
    }
    let counted = [
        ("requests", mirror.requests),
        ("stepped back", mirror.stepped_back),
        ("audits", mirror.audits),
        ("events", mirror.events()),
        ("attempts", mirror.deliveries.attempts),
        ("exchanges", mirror.deliveries.exchanges),
    ];
    plus(account.happened.clone(), counted.into_iter().collect())
}
