//! A sink that accepts nothing, or hangs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{MINUTE, begun, count, while_one_hangs};
use crate::delivery::machine::FALLBACK;
use crate::delivery::protocol::{Input, Notice};
use crate::delivery::testing::{BY_RUN, failed};
use crate::model::{AttemptOutcome, SinkLimits, Timestamp};

#[test]
fn a_failing_sink_is_tried_one_event_at_a_time_ever_more_rarely() {
    let mut world = begun(BY_RUN, (5_000, 1), |_, _| failed());
    world.until(|world| {
        count(world, |notice| {
            matches!(notice, Notice::BreakerOpened { .. })
        }) > 0
    });
    world.until(|world| world.in_flight.is_empty());
    let before = world.attempts();
    assert!((8..20).contains(&before), "{before} attempts");
    world.until(|world| world.attempts() >= before + 12);
    assert!(
        world.at_once[before..].iter().all(|at_once| *at_once == 1),
        "{:?}",
        world.at_once
    );
    let waits: Vec<f64> = world.attempted[before..]
        .windows(2)
        .map(|two| (two[1].1 - two[0].1).as_secs_f64())
        .collect();
    assert!(
        waits[0] >= 2.0 && waits[2] >= 8.0 && waits[10] <= 60.0,
        "{waits:?}"
    );
    assert_eq!(
        count(&world, |notice| matches!(
            notice,
            Notice::BreakerOpened { .. }
        )),
        1,
        "it says so once"
    );
}

#[test]
fn an_attempt_that_hangs_delays_only_its_run() {
    let mut world = begun(BY_RUN, (100, 1), |due, attempt| match (due.seq, attempt) {
        (2..=20, 1) => failed(),
        _ => AttemptOutcome::Delivered,
    });
    let took = while_one_hangs(&mut world, |world| world.outbox.pending() == 1);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let opened = |notice: &Notice| matches!(notice, Notice::BreakerOpened { .. });
    assert!(count(&world, opened) > 0);
    assert_eq!(world.accepted.len(), 99);
}

#[test]
fn an_attempt_that_hangs_puts_off_neither_probes_nor_what_is_set_aside() {
    let mut world = begun(BY_RUN, (6_000, 1), |_, _| failed());
    world.restart(|settings| settings.give_up_after = 10 * MINUTE);
    let took = while_one_hangs(&mut world, |world| world.outbox.pending() == 1);
    assert!(took < 13 * MINUTE, "{took:?}");
    assert!(world.attempts() > 15, "{} attempts", world.attempts());
    assert_eq!(world.outbox.dead(), 5_999, "what hangs may yet arrive");
}

#[test]
fn a_probe_that_hangs_is_followed_by_others_before_long() {
    let mut world = begun(BY_RUN, (100, 1), |_, attempt| match attempt {
        1 => failed(),
        _ => AttemptOutcome::Delivered,
    });
    world.until(|world| {
        count(world, |notice| {
            matches!(notice, Notice::BreakerOpened { .. })
        }) > 0
            && world.in_flight.is_empty()
    });
    let before = world.attempts();
    world.until(|world| world.attempts() > before);
    let took = while_one_hangs(&mut world, |world| world.accepted.len() > 50);
    assert!(took <= 2 * MINUTE, "{took:?}");
}

#[test]
fn a_sink_that_works_again_gets_everything_at_once() {
    let works = Rc::new(Cell::new(false));
    let now_works = Rc::clone(&works);
    let mut world = begun(BY_RUN, (1_000, 1), move |_, _| match now_works.get() {
        true => AttemptOutcome::Delivered,
        false => failed(),
    });
    world.until(|world| !world.notices.is_empty() && world.attempts() > 20);
    works.set(true);
    let began = world.now.uptime;
    world.until(|world| world.accepted.len() >= 900);
    assert!(world.now.uptime - began <= MINUTE);
    world.until_empty();
    assert_eq!(count(&world, |notice| *notice == Notice::BreakerClosed), 1);
}

#[test]
fn setting_the_clock_does_not_move_the_breaker_and_delays_no_retry_for_long() {
    let jumps = [-86_400_000, 86_400_000];
    for jump in jumps {
        let mut world = begun(SinkLimits::STREAM, (1, 1), |_, attempt| match attempt {
            1 => failed(),
            _ => AttemptOutcome::Delivered,
        });
        world.until(|world| world.attempts() == 1 && world.in_flight.is_empty());
        world.now.wall = Timestamp::from_millis(world.now.wall.as_millis() + jump);
        let began = world.now.uptime;
        world.input(Input::Wake);
        world.until(|world| world.attempts() > 1);
        let waited = world.now.uptime - began;
        assert!((1.0..=2.0).contains(&waited.as_secs_f64()), "{waited:?}");
    }
    // Set ahead, so that what was to be retried later is due.
    let mut world = begun(BY_RUN, (1, 1), |_, attempt| match attempt {
        1 => AttemptOutcome::Failed {
            error: "not now".into(),
            retry_after: Some(10 * MINUTE),
        },
        _ => AttemptOutcome::Delivered,
    });
    world.until(|world| {
        world.attempts() == 1 && world.in_flight.is_empty() && world.exchange.is_none()
    });
    let began = world.now.uptime;
    world.now.wall = world.now.wall.plus(60 * MINUTE);
    world.until_empty();
    assert!(world.now.uptime - began <= FALLBACK);
}

#[test]
fn a_sink_that_never_works_costs_little() {
    for limits in [BY_RUN, SinkLimits::STREAM] {
        let mut world = begun(limits, (1_000, 1), |_, _| failed());
        world.restart(|settings| settings.give_up_after = 100 * 60 * MINUTE);
        let began = world.now.uptime;
        while world.now.uptime - began < 60 * MINUTE {
            world.go_on();
        }
        // Three for each attempt, and one every five seconds to find what was retried by hand.
        assert!(world.exchanges < 1_500, "{}", world.exchanges);
        let attempts = world.at_once.len();
        assert!((60..200).contains(&attempts), "{attempts}");
    }
}
