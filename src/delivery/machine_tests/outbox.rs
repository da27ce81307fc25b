//! Exchanges with the outbox, and what is read ahead.

use super::{MINUTE, begun, delivered};
use crate::delivery::machine::{AHEAD, FALLBACK, MAX_READY_BYTES};
use crate::delivery::protocol::{Input, Next, STORE_RETRY};
use crate::delivery::testing::{BY_RUN, World};
use crate::model::{EXCHANGE_CHUNK, SinkLimits};

#[test]
fn a_notification_is_never_missed() {
    let mut world = begun(BY_RUN, (0, 0), delivered);
    world.answer();
    assert_eq!(world.exchange, None, "nothing is due");
    world.input(Input::Notified);
    // The outbox has looked, and what it says is still on its way when an event is raised.
    let answer = world
        .outbox
        .exchange(world.exchange.as_ref().unwrap(), world.now.wall);
    assert!(answer.fetched.events.is_empty());
    world.raise(3, 1);
    world.exchange = None;
    world.input(Input::Exchanged(answer));
    assert!(world.exchange.is_some(), "it looks again");
    let began = world.now.uptime;
    world.until_empty();
    assert_eq!((world.accepted.len(), world.now.uptime), (3, began));
}

#[test]
fn nothing_is_attempted_while_the_outbox_is_unavailable_and_nothing_is_forgotten() {
    let mut world = begun(BY_RUN, (100, 1), delivered);
    world.answer();
    world.complete();
    let mut failures = 0;
    while failures < 5 {
        match (world.exchange.is_some(), world.in_flight.is_empty()) {
            (true, _) => {
                failures += 1;
                world.fail_exchange();
                let Next::Sleep { wait } = world.next else {
                    panic!("it ended")
                };
                assert!(wait <= STORE_RETRY);
            }
            (false, false) => world.complete(),
            (false, true) => assert!(world.go_on()),
        }
    }
    let attempts = world.attempts();
    assert!(attempts <= 8, "{attempts} attempts");
    world.until_empty();
    assert_eq!(world.accepted.len(), 100, "each once");
    assert_eq!(world.attempts(), 100);
}

#[test]
fn a_fetch_that_fails_is_made_again() {
    let mut world = begun(BY_RUN, (0, 0), delivered);
    world.answer();
    // With no backlog to copy and nothing to record, only the fetch is left to fail.
    world.raise(3, 1);
    let began = world.now.uptime;
    for _ in 0..3 {
        world.fail_exchange();
        world.until(|world| world.exchange.is_some());
    }
    assert_eq!(world.now.uptime - began, 3 * STORE_RETRY);
    world.until_empty();
}

#[test]
fn the_backlog_is_copied_in_parts_and_goes_on_after_a_restart() {
    let mut world = World::new(BY_RUN, delivered);
    world.outbox.backlog = (0..12_000).map(|n| format!("r{n}")).collect();
    world.input(Input::Wake);
    world.answer();
    world.input(Input::Stop);
    world.until(|_| false);
    assert_eq!(
        world.outbox.backlog.len(),
        12_000 - 2 * EXCHANGE_CHUNK,
        "what was asked for is copied"
    );
    world.drain(60 * MINUTE);
    world.until(|_| false);
    assert_eq!((world.outbox.backlog.len(), world.outbox.pending()), (0, 0));
    let mut accepted = world.accepted;
    accepted.sort_unstable();
    accepted.dedup();
    assert_eq!(accepted.len(), 12_000);
}

/// It was removed from the configuration and added again while the machine was not told.
#[test]
fn a_backlog_that_appears_later_is_copied_too() {
    let mut world = begun(BY_RUN, (3, 1), delivered);
    world.until_empty();
    world.outbox.backlog = (0..20).map(|n| format!("s{n}")).collect();
    let began = world.now.uptime;
    world.until(|world| world.accepted.len() == 23);
    assert!(world.now.uptime - began <= FALLBACK);
}

#[test]
fn what_is_read_ahead_is_bounded() {
    let mut world = begun(BY_RUN, (5_000, 1), delivered);
    let mut most = 0;
    for _ in 0..200 {
        // The sink is slower than the outbox.
        while world.exchange.is_some() {
            world.answer();
            most = most.max(world.machine.held());
        }
        world.complete();
    }
    assert!((8..=4 * (AHEAD + 1)).contains(&most), "{most}");
}

#[test]
fn what_is_read_ahead_is_bounded_in_bytes_too() {
    for (limits, body) in [
        (SinkLimits::STREAM, 400_000),
        (BY_RUN, 400_000),
        (SinkLimits::STREAM, MAX_READY_BYTES + 1),
    ] {
        let mut world = World::new(limits, delivered);
        world.outbox.body = body;
        world.raise(100, 1);
        let mut most = 0;
        for _ in 0..20 {
            // The sink is slower than the outbox.
            while world.exchange.is_some() {
                world.answer();
                let in_flight = world.in_flight.values().map(|events| events.len());
                let ready = world.machine.held() - in_flight.sum::<usize>();
                most = most.max(ready * body);
            }
            if !world.in_flight.is_empty() {
                world.complete();
            }
        }
        assert!(most <= MAX_READY_BYTES + body, "{most}");
        world.until_empty();
    }
}

#[test]
fn an_idle_machine_only_looks_now_and_then() {
    let mut world = begun(BY_RUN, (0, 0), delivered);
    let began = world.now.uptime;
    let mut steps = 0;
    while world.now.uptime - began < 60 * MINUTE {
        world.go_on();
        steps += 1;
    }
    assert!(
        world.exchanges <= 722 && steps <= 1_450,
        "{} exchanges, {steps} steps",
        world.exchanges
    );
}
