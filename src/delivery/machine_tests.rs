//! The machine alone, against an outbox in memory.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::machine::{AHEAD, DRAIN, FALLBACK, FRESH, MAX_READY_BYTES};
use super::protocol::{Input, Mode, Next, Notice, STORE_RETRY};
use super::testing::{BY_RUN, World, failed};
use crate::model::{AttemptOutcome, Due, EXCHANGE_CHUNK, Order, SinkLimits, Timestamp};
use crate::simulator::Rng;

const MINUTE: Duration = Duration::from_secs(60);

fn delivered(_: &Due, _: u32) -> AttemptOutcome {
    AttemptOutcome::Delivered
}

fn refused() -> AttemptOutcome {
    AttemptOutcome::Refused {
        error: "400".into(),
    }
}

/// The numbers of the notices that `is_one` picks.
fn count(world: &World, is_one: impl Fn(&Notice) -> bool) -> usize {
    world.notices.iter().filter(|notice| is_one(notice)).count()
}

/// A world that has begun with `runs` runs that raised `times` events each.
fn begun(
    limits: SinkLimits,
    (runs, times): (usize, usize),
    plan: impl FnMut(&Due, u32) -> AttemptOutcome + 'static,
) -> World {
    let mut world = World::new(limits, plan);
    world.raise(runs, times);
    world
}

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
fn a_run_that_fails_delays_only_itself() {
    let mut world = begun(BY_RUN, (100, 2), |due, _| match due.run_id.as_str() {
        "r0" => failed(),
        _ => AttemptOutcome::Delivered,
    });
    let began = world.now.uptime;
    world.until(|world| world.outbox.pending() == 2 && world.exchange.is_none());
    assert_eq!(world.now.uptime, began, "the others wait for nothing");
    assert_eq!(
        world.attempts(),
        199,
        "its second event waits behind the first"
    );
}

#[test]
fn what_failed_is_retried_when_it_is_due_and_not_before() {
    let mut world = begun(BY_RUN, (1, 2), |_, attempt| match attempt {
        1..=3 => failed(),
        _ => AttemptOutcome::Delivered,
    });
    world.until_empty();
    let times: Vec<(i64, f64)> = world
        .attempted
        .windows(2)
        .map(|two| (two[1].0, (two[1].1 - two[0].1).as_secs_f64()))
        .collect();
    for (n, (seq, least, most)) in [(1, 1.0, 2.0), (1, 2.0, 4.0), (1, 4.0, 8.0), (2, 0.0, 0.0)]
        .into_iter()
        .enumerate()
    {
        assert!(
            times[n].0 == seq && (least..=most).contains(&times[n].1),
            "{n}: {times:?}"
        );
    }
    let scheduled = count(&world, |notice| matches!(notice, Notice::Retry { .. }));
    assert_eq!((scheduled, world.accepted), (6, vec![1, 2]));
}

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
fn what_other_processes_change_is_found_before_long() {
    let mut world = begun(BY_RUN, (0, 0), delivered);
    world.answer();
    world.outbox.add("r", world.now.wall);
    let began = world.now.uptime;
    world.until_empty();
    assert!(world.now.uptime - began <= FALLBACK);
}

#[test]
fn what_is_refused_is_set_aside_and_the_next_goes() {
    let mut world = begun(BY_RUN, (2, 2), |due, _| match due.seq {
        1 => refused(),
        _ => AttemptOutcome::Delivered,
    });
    world.until_empty();
    assert_eq!((world.attempts(), world.outbox.dead()), (4, 1));
    let reported = Notice::SetAside {
        event: "evt_1".into(),
        attempts: 1,
        error: "400".into(),
    };
    assert_eq!(world.notices, [reported]);
}

#[test]
fn outcomes_count_one_by_one_and_a_missing_one_as_a_failure() {
    let limits = SinkLimits { batch: 4, ..BY_RUN };
    let mut world = begun(limits, (4, 1), delivered);
    world.answer();
    let (id, events) = world.in_flight.pop_first().unwrap();
    assert_eq!(events.len(), 4);
    let outcomes = vec![AttemptOutcome::Delivered, refused(), failed()];
    world.input(Input::Completed { id, outcomes });
    world.until(|world| {
        world
            .exchange
            .as_ref()
            .is_some_and(|exchange| !exchange.settled.is_empty())
    });
    let settled = &world.exchange.as_ref().unwrap().settled;
    let errors: Vec<Option<&str>> = settled.iter().map(|one| one.error.as_deref()).collect();
    assert_eq!(
        errors,
        [
            None,
            Some("400"),
            Some("not now"),
            Some("the sink gave no outcome for this event")
        ]
    );
    world.answer();
    assert_eq!((world.outbox.pending(), world.outbox.dead()), (2, 1));
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

#[test]
fn a_sink_that_is_gone_has_everything_set_aside() {
    let mut world = begun(BY_RUN, (2_500, 3), |_, _| AttemptOutcome::Gone {
        error: "410".into(),
    });
    world.until_empty();
    assert_eq!(world.outbox.dead(), 7_500);
    assert!(world.attempts() <= 4, "{} attempts", world.attempts());
    world.until(|world| world.exchange.is_none());
    assert!(
        world
            .outbox
            .rows
            .values()
            .all(|row| row.dead.as_deref() == Some("410"))
    );
    assert!(world.notices.contains(&Notice::GaveUp {
        events: 7_500 - world.attempts(),
        error: "410".into()
    }));
    // Later events are attempted, as the receiver may have been repaired.
    let before = world.attempts();
    world.raise(1, 1);
    world.until_empty();
    assert_eq!(world.attempts(), before + 1);
}

#[test]
fn nothing_begins_before_all_is_set_aside() {
    let mut world = begun(BY_RUN, (EXCHANGE_CHUNK, 2), |_, _| AttemptOutcome::Gone {
        error: "410".into(),
    });
    world.until(|world| world.notices.len() > 1);
    let asked = world.attempts();
    while world.outbox.pending() > world.in_flight.len() {
        assert!(
            world
                .exchange
                .as_ref()
                .is_none_or(|exchange| exchange.fetch.events == 0)
        );
        world.go_on();
    }
    assert_eq!(world.attempts(), asked);
}

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

/// Lets everything happen but the end of the oldest attempt, until `done`; returns how long it took.
fn while_one_hangs(world: &mut World, done: impl Fn(&World) -> bool) -> Duration {
    let began = world.now.uptime;
    for _ in 0..50_000 {
        if done(world) {
            return world.now.uptime - began;
        }
        let second = world.in_flight.keys().nth(1).copied();
        match (world.exchange.is_some(), second, world.next) {
            (true, ..) => world.answer(),
            (_, Some(id), _) => world.complete_one(id),
            (.., Next::Sleep { wait }) => {
                world.pass(wait);
                world.input(Input::Wake);
            }
            (.., Next::Finish) => panic!("it ended"),
        }
    }
    panic!("it does not come to an end: {:?}", world.machine);
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
fn what_a_failing_sink_is_owed_is_given_up_in_time() {
    let mut world = begun(BY_RUN, (2_600, 2), |_, _| failed());
    world.restart(|settings| settings.give_up_after = MINUTE);
    let began = world.now.uptime;
    world.until_empty();
    assert_eq!(world.outbox.dead(), 5_200);
    assert!(
        world
            .outbox
            .rows
            .values()
            .all(|row| row.dead.as_deref() == Some("not now"))
    );
    let took = world.now.uptime - began;
    assert!((MINUTE..4 * MINUTE).contains(&took), "{took:?}");
    assert!(world.attempts() < 100, "{} attempts", world.attempts());
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
fn time_in_which_the_mirror_was_off_is_not_held_against_anything() {
    for limits in [BY_RUN, SinkLimits::STREAM] {
        let mut world = World::new(limits, |_, _| failed());
        (0..600).for_each(|run| world.outbox.add(&format!("r{run}"), world.now.wall));
        for _ in 0..10 {
            world.drain(MINUTE);
            world.until(|_| false);
            world.pass(3 * 24 * 60 * MINUTE);
        }
        assert_eq!(world.outbox.pending(), 600);
        // It is given up where the mirror runs.
        world.restart(|settings| {
            settings.give_up_after = 10 * MINUTE;
            settings.mode = Mode::UntilStopped;
        });
        let began = world.now.uptime;
        world.until_empty();
        let took = world.now.uptime - began;
        assert!((MINUTE..40 * MINUTE).contains(&took), "{took:?}");
    }
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
    assert_eq!(world.now.uptime - began, MINUTE + DRAIN);
    assert_eq!((world.attempts(), world.outbox.pending()), (4, 100));
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
