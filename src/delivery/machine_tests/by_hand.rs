//! Deliveries that an operator retries or drops.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{MINUTE, begun, delivered, while_one_hangs};
use crate::delivery::machine::{FALLBACK, FRESH};
use crate::delivery::protocol::Input;
use crate::delivery::testing::{BY_RUN, failed};
use crate::model::{AttemptOutcome, SinkLimits};

#[test]
fn what_other_processes_change_is_found_before_long() {
    let mut world = begun(BY_RUN, (0, 0), delivered);
    world.answer();
    world.outbox.add("r", world.now.wall);
    let began = world.now.uptime;
    world.until_empty();
    assert!(world.now.uptime - began <= FALLBACK);
}

#[test]
fn a_retry_by_hand_is_attempted_soon_even_if_the_receiver_asked_to_wait() {
    for hangs in [false, true] {
        let works = Rc::new(Cell::new(false));
        let now_works = Rc::clone(&works);
        let mut world = begun(BY_RUN, (50, 1), move |_, _| match now_works.get() {
            true => AttemptOutcome::Delivered,
            false => AttemptOutcome::Failed {
                error: "503".into(),
                retry_after: Some(30 * MINUTE),
            },
        });
        world.until(|world| !world.notices.is_empty() && world.in_flight.is_empty());
        world.until(|world| world.exchange.is_none());
        if hangs {
            world.pass(30 * MINUTE);
            world.input(Input::Wake);
            world.until(|world| !world.in_flight.is_empty());
        }
        let (began, before) = (world.now.uptime, world.attempts());
        world.outbox.retry(1, world.now.wall);
        works.set(true);
        match hangs {
            true => drop(while_one_hangs(&mut world, |world| {
                world.attempts() > before
            })),
            false => world.until(|world| world.attempts() > before),
        }
        let took = world.now.uptime - began;
        assert!(took <= 2 * FALLBACK, "{took:?}");
        world.until_empty();
    }
}

#[test]
fn what_was_given_up_and_is_retried_by_hand_is_attempted() {
    let mut world = begun(BY_RUN, (40, 1), |_, _| failed());
    world.restart(|settings| settings.give_up_after = MINUTE);
    world.until_empty();
    assert_eq!(world.outbox.dead(), 40);
    world.until(|world| world.exchange.is_none());
    let (began, before) = (world.now.uptime, world.attempts());
    (1..=40).for_each(|seq| world.outbox.retry(seq, world.now.wall));
    world.until_empty();
    let (took, attempts) = (world.now.uptime - began, world.attempts() - before);
    assert!(took >= MINUTE && attempts > 1, "{attempts} in {took:?}");
}

#[test]
fn what_was_retried_by_hand_in_flight_is_attempted_again() {
    let mut world = begun(BY_RUN, (1, 1), |_, attempt| match attempt {
        1..=3 => failed(),
        _ => AttemptOutcome::Delivered,
    });
    world.restart(|settings| settings.give_up_after = Duration::from_secs(1));
    world.until(|world| world.attempts() == 2 && !world.in_flight.is_empty());
    world.outbox.retry(1, world.now.wall);
    world.pass(MINUTE);
    world.until_empty();
    assert_eq!((world.outbox.dead(), &world.accepted[..]), (0, &[1][..]));
}

#[test]
fn what_is_dropped_while_it_waits_in_memory_is_not_attempted() {
    for limits in [
        BY_RUN,
        SinkLimits {
            batch: 2,
            ..SinkLimits::STREAM
        },
    ] {
        let mut world = begun(limits, (10, 1), delivered);
        world.answer();
        assert!(!world.in_flight.is_empty() && world.machine.held() > 6);
        world.outbox.drop(7, world.now.wall);
        // The attempts in flight take some time.
        world.pass(FRESH + Duration::from_millis(1));
        world.until_empty();
        assert!(!world.accepted.contains(&7), "{:?}", world.accepted);
        assert_eq!(world.accepted.len(), 9);
    }
}

#[test]
fn what_waits_in_memory_is_read_again_after_a_retry_by_hand() {
    let mut world = begun(BY_RUN, (10, 1), delivered);
    world.answer();
    let in_flight = world.in_flight.len();
    assert!(world.machine.held() > in_flight);
    world.outbox.retry(7, world.now.wall);
    let (&first, _) = world.in_flight.first_key_value().expect("an attempt");
    world.complete_one(first);
    world.answer();
    assert_eq!(world.machine.held(), world.in_flight.len());
    world.until_empty();
    assert_eq!(world.accepted.len(), 10);
}
