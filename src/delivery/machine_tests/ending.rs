//! Drains and stops.

use super::{MINUTE, begun, delivered};
use crate::delivery::machine::DRAIN;
use crate::delivery::protocol::{Input, Next};
use crate::delivery::testing::{BY_RUN, GRACE, World, failed};
use crate::model::AttemptOutcome;

#[test]
fn a_drain_ends_when_nothing_is_due_and_waits_for_no_retry() {
    let mut world = World::new(BY_RUN, |due, _| match due.seq {
        1 => failed(),
        _ => AttemptOutcome::Delivered,
    });
    world.outbox.add("a", world.now.wall);
    world.outbox.add("b", world.now.wall);
    let began = world.now.uptime;
    world.drain(MINUTE);
    world.until(|_| false);
    assert_eq!((world.next, world.now.uptime), (Next::Finish, began));
    assert_eq!((world.attempts(), world.outbox.pending()), (2, 1));
}

#[test]
fn a_drain_ends_when_the_breaker_opens() {
    let mut world = World::new(BY_RUN, |_, _| failed());
    (0..6_000).for_each(|run| world.outbox.add(&format!("r{run}"), world.now.wall));
    world.drain(MINUTE);
    world.until(|_| false);
    let attempts = world.attempts();
    assert!((8..20).contains(&attempts), "{attempts} attempts");
    assert_eq!(world.outbox.pending(), 6_000);
}

#[test]
fn a_drain_has_a_bound() {
    let mut world = begun(BY_RUN, (100, 1), delivered);
    let began = world.now.uptime;
    world.drain(MINUTE);
    world.answer();
    assert_eq!(world.in_flight.len(), 4);
    // They hang. The machine keeps looking for more as time passes.
    while let Next::Sleep { wait } = world.next {
        match world.exchange.is_some() {
            true => world.answer(),
            false => {
                world.pass(wait);
                world.input(Input::Wake);
            }
        }
    }
    assert_eq!(world.now.uptime - began, MINUTE + GRACE);
    assert_eq!((world.attempts(), world.outbox.pending()), (4, 100));
}

/// An attempt may take longer than a pass delivers: it must not be cut off by every pass.
#[test]
fn what_is_slow_is_delivered_by_a_pass() {
    let mut world = begun(BY_RUN, (100, 1), delivered);
    world.drain(MINUTE);
    world.answer();
    while world.now.uptime < MINUTE + GRACE / 2 {
        match world.exchange.is_some() {
            true => world.answer(),
            false => {
                world.pass(MINUTE / 10);
                world.input(Input::Wake);
            }
        }
    }
    assert_eq!(world.in_flight.len(), 4);
    world.until(|world| world.next == Next::Finish);
    assert_eq!((world.attempts(), world.accepted.len()), (4, 4));
    assert_eq!(world.outbox.pending(), 96, "and nothing more is begun");
}

#[test]
fn stopping_records_what_is_in_flight_and_begins_nothing() {
    let mut world = begun(BY_RUN, (100, 1), delivered);
    world.answer();
    world.complete();
    world.answer();
    let attempts = world.attempts();
    world.input(Input::Stop);
    assert!(matches!(world.next, Next::Sleep { wait } if wait <= DRAIN));
    world.input(Input::Notified);
    world.until(|_| false);
    assert_eq!(world.next, Next::Finish);
    assert_eq!(
        (world.attempts(), world.accepted.len()),
        (attempts, attempts)
    );
    assert_eq!(world.outbox.pending(), 100 - attempts);
    world.input(Input::Wake);
    assert_eq!(world.next, Next::Finish, "it stays so");
}

#[test]
fn what_hangs_keeps_no_machine_from_stopping() {
    let mut world = begun(BY_RUN, (1, 1), delivered);
    world.answer();
    world.answer();
    let began = world.now.uptime;
    world.input(Input::Stop);
    while let Next::Sleep { wait } = world.next {
        world.pass(wait);
        world.input(Input::Stop);
    }
    assert_eq!(
        world.now.uptime - began,
        DRAIN,
        "a second stop prolongs nothing"
    );
    assert_eq!(world.outbox.pending(), 1, "it is still owed");

    // The same for an outbox that does not answer, or fails.
    for fails in [false, true] {
        let mut world = begun(BY_RUN, (1, 1), delivered);
        world.answer();
        world.complete();
        world.input(Input::Stop);
        if fails {
            world.fail_exchange();
        }
        while let Next::Sleep { wait } = world.next {
            world.pass(wait);
            world.input(Input::Wake);
        }
        assert_eq!(world.outbox.pending(), 1);
    }

    let mut world = begun(BY_RUN, (0, 0), delivered);
    world.answer();
    world.input(Input::Stop);
    assert_eq!(
        world.next,
        Next::Finish,
        "with nothing in flight it stops at once"
    );
}
