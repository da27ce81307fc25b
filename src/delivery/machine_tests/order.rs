//! The order of events, for each run and in a stream.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{MINUTE, begun, delivered};
use crate::delivery::protocol::Input;
use crate::delivery::testing::{BY_RUN, World, failed};
use crate::model::{AttemptOutcome, Order, SinkLimits, Timestamp};
use crate::simulator::Rng;

#[test]
fn everything_due_is_delivered_once_and_in_order_for_each_run() {
    let mut world = begun(BY_RUN, (300, 3), delivered);
    world.until_empty();
    assert_eq!(world.attempts(), 900);
    for run in 1..=300 {
        let of_run: Vec<i64> = world
            .accepted
            .iter()
            .copied()
            .filter(|seq| (seq - run) % 300 == 0)
            .collect();
        assert_eq!(of_run, [run, run + 300, run + 600]);
    }
    assert_eq!(world.at_once.iter().max(), Some(&BY_RUN.concurrency));
}

/// The receiver may still get it, and must not get a later one of the run first.
#[test]
fn an_event_waits_for_the_one_of_its_run_in_flight_even_if_that_was_dropped() {
    let mut world = begun(BY_RUN, (1, 2), delivered);
    world.until(|world| !world.in_flight.is_empty());
    world.outbox.drop(1, world.now.wall);
    world.input(Input::Notified);
    world.answer();
    assert_eq!((world.machine.held(), world.attempts()), (2, 1));
    world.until_empty();
    assert_eq!(world.accepted, [1, 2]);
}

#[test]
fn a_stream_stays_in_order_whatever_fails() {
    for failing in [
        vec![],
        vec![1, 700],
        vec![500, 501, 1_000, 2_799],
        (1..2_800).step_by(97).collect(),
    ] {
        let mut world = begun(SinkLimits::STREAM, (700, 4), move |due, attempt| {
            match failing.contains(&due.seq) && attempt == 1 {
                true => failed(),
                false => AttemptOutcome::Delivered,
            }
        });
        world.until_empty();
        assert_eq!(world.accepted, (1..=2_800).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_stream_reads_while_it_fails_is_given_back() {
    let mut world = begun(SinkLimits::STREAM, (10, 1), |_, attempt| match attempt {
        1 => failed(),
        _ => AttemptOutcome::Delivered,
    });
    world.answer();
    assert_eq!(
        (world.in_flight.len(), world.exchange.is_some()),
        (1, true),
        "it reads ahead"
    );
    world.raise(10, 1);
    world.complete();
    // The answer to a fetch from before the failure.
    world.answer();
    assert_eq!(world.machine.held(), 0);
    world.until(|world| world.attempts() > 10);
    assert_eq!(
        world.attempted[10].0, 1,
        "it begins with the event that failed"
    );
    world.until_empty();
    assert_eq!(world.accepted, (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_took_a_later_event_waits_for_the_earlier_one_all_the_same() {
    let mut world = begun(SinkLimits::STREAM, (2, 1), delivered);
    world.answer();
    let (id, _) = world.in_flight.pop_first().unwrap();
    let outcomes = vec![failed(), AttemptOutcome::Delivered];
    world.input(Input::Completed { id, outcomes });
    let began = world.now.uptime;
    world.until(|world| world.attempts() > 2);
    assert!(world.now.uptime - began >= Duration::from_secs(1));
}

/// Outcomes, failures of the outbox, crashes, jumps of the clock and what is raised, in any order.
#[test]
fn whatever_happens_every_event_arrives_in_order() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let limits = match rng.below(3) {
            0 => SinkLimits {
                batch: 5,
                ..SinkLimits::STREAM
            },
            1 => BY_RUN,
            _ => SinkLimits {
                batch: 3,
                concurrency: 2,
                ..BY_RUN
            },
        };
        let bad = Rc::new(Cell::new(rng.below(100) as f64));
        let (badness, mut dice) = (Rc::clone(&bad), Rng::new(seed));
        let mut world = begun(limits, (0, 0), move |_, _| {
            match dice.chance(badness.get()) {
                true => failed(),
                false => AttemptOutcome::Delivered,
            }
        });
        world.restart(|settings| settings.give_up_after = 1_000 * 60 * MINUTE);
        let mut raised = 0;
        for _ in 0..300 {
            happen(&mut world, &mut rng, &mut raised);
        }
        bad.set(0.0);
        world.until_empty();
        check_order(&world, limits.order, raised, seed);
    }
}

fn happen(world: &mut World, rng: &mut Rng, raised: &mut usize) {
    match rng.below(20) {
        0 => {
            world.raise(7, 1);
            *raised += 7;
        }
        1 => world.restart(|_| {}),
        2 => {
            let back = i64::try_from(rng.below(20_000)).unwrap() - 10_000;
            world.now.wall = Timestamp::from_millis(world.now.wall.as_millis() + back);
        }
        3 if world.exchange.is_some() => world.fail_exchange(),
        4 if world.exchange.is_some() => {
            // The outbox did it, and the answer was lost.
            let exchange = world.exchange.clone().unwrap();
            world.outbox.exchange(&exchange, world.now.wall);
            world.fail_exchange();
        }
        5..12 if world.exchange.is_some() => world.answer(),
        12..17 if !world.in_flight.is_empty() => {
            let nth = rng.below(world.in_flight.len() as u64) as usize;
            let id = *world.in_flight.keys().nth(nth).unwrap();
            world.complete_one(id);
        }
        _ => {
            world.pass(Duration::from_millis(rng.below(3_000)));
            world.input(Input::Wake);
        }
    }
}

/// Everything arrived, and for the first time in order.
fn check_order(world: &World, order: Order, raised: usize, seed: u64) {
    let mut first: Vec<i64> = Vec::new();
    for seq in &world.accepted {
        if !first.contains(seq) {
            first.push(*seq);
        }
    }
    assert_eq!(first.len(), raised, "seed {seed}");
    let in_order = match order {
        Order::Stream => first.is_sorted(),
        Order::Run => (0..7).all(|run| {
            let of_run = first.iter().filter(|seq| **seq % 7 == run);
            of_run.is_sorted()
        }),
    };
    assert!(in_order, "seed {seed}: {first:?}");
}
