//! The machine alone, against an outbox in memory.

mod breaker;
mod by_hand;
mod ending;
mod order;
mod outbox;
mod outcomes;

use std::time::Duration;

use crate::delivery::protocol::{Input, Next, Notice};
use crate::delivery::testing::World;
use crate::model::{AttemptOutcome, Due, SinkLimits};

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
