//! What becomes of an event after an attempt.

use super::{MINUTE, begun, count, delivered, refused};
use crate::delivery::protocol::{Input, Mode, Notice};
use crate::delivery::testing::{BY_RUN, World, failed};
use crate::model::{AttemptOutcome, EXCHANGE_CHUNK, SinkLimits};

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
