//! A plausible history of runs: past ones, and new ones as time passes.

use std::collections::VecDeque;

use super::rng::Rng;
use super::world::World;
use crate::model::{RunStatus, Timestamp};

/// Creates, ends, resurrects and deletes runs of a [`World`].
#[derive(Debug)]
pub struct Activity {
    rng: Rng,
    tasks: Vec<String>,
    /// Future steps and their times, unordered.
    planned: Vec<(Timestamp, Step)>,
    /// Ended runs that may be resurrected.
    ended: VecDeque<String>,
    next_run: Timestamp,
}

#[derive(Debug)]
enum Step {
    Start(String),
    End(String, RunStatus),
    Settle(String),
}

impl Activity {
    /// Activity of `tasks` from `now` on. `seed` determines it.
    pub fn new(seed: u64, tasks: Vec<String>, now: Timestamp) -> Self {
        Self {
            rng: Rng::new(seed),
            tasks,
            planned: Vec::new(),
            ended: VecDeque::new(),
            next_run: now,
        }
    }

    fn task(&mut self) -> String {
        let n = self.rng.below(self.tasks.len() as u64) as usize;
        self.tasks.get(n).cloned().unwrap_or_default()
    }

    fn outcome(&mut self) -> RunStatus {
        match self.rng.below(100) {
            0..82 => RunStatus::Succeeded,
            82..92 => RunStatus::Failed,
            92..96 => RunStatus::TimedOut,
            _ => RunStatus::Aborted,
        }
    }

    /// Adds `runs` ended runs, five minutes apart on average, the last of them shortly before `now`.
    pub fn fill_past(&mut self, world: &mut World, runs: u64, now: Timestamp) {
        const INTERVAL_MS: i64 = 300_000;
        for n in (0..runs as i64).rev() {
            let jitter = self.rng.below(INTERVAL_MS as u64) as i64;
            let started =
                Timestamp::from_millis(now.as_millis() - (n + 1) * INTERVAL_MS + jitter - 600_000);
            let task = self.task();
            let id = world.create(&task, started);
            let took = 2_000 + self.rng.below(400_000) as i64;
            let outcome = self.outcome();
            world.finish(
                &id,
                outcome,
                Timestamp::from_millis(started.as_millis() + took),
            );
            world.settle_usage(&id);
            self.ended.push_back(id);
        }
    }

    /// Performs everything planned until `now`: runs start, run and end. Sometimes it also resurrects an ended run or
    /// deletes an old one.
    pub fn advance(&mut self, world: &mut World, now: Timestamp) {
        while self.next_run <= now {
            let started = self.next_run;
            let task = self.task();
            let id = world.create(&task, started);
            self.plan(started, 300, 900, Step::Start(id.clone()));
            let outcome = self.outcome();
            self.plan(started, 1_500, 6_000, Step::End(id, outcome));
            if self.rng.chance(12.0)
                && let Some(old) = self.ended.pop_back()
            {
                world.resurrect(&old);
                let outcome = self.outcome();
                self.plan(now, 3_000, 3_000, Step::End(old, outcome));
            }
            if self.rng.chance(5.0)
                && let Some(old) = self.ended.pop_front()
            {
                world.delete(&old);
            }
            self.next_run =
                Timestamp::from_millis(started.as_millis() + 400 + self.rng.below(1_200) as i64);
        }
        let (due, later) = std::mem::take(&mut self.planned)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.planned = later;
        let due: Vec<(Timestamp, Step)> = due;
        for (at, step) in due {
            match step {
                Step::Start(id) => world.set_status(&id, RunStatus::Running),
                Step::End(id, outcome) => {
                    world.finish(&id, outcome, at);
                    self.plan(at, 2_000, 4_000, Step::Settle(id));
                }
                Step::Settle(id) => {
                    world.settle_usage(&id);
                    self.ended.push_back(id);
                }
            }
        }
    }

    /// Plans `step` for a time between `least` and `least + spread` milliseconds after `from`.
    fn plan(&mut self, from: Timestamp, least: i64, spread: u64, step: Step) {
        let wait = least + self.rng.below(spread) as i64;
        self.planned
            .push((Timestamp::from_millis(from.as_millis() + wait), step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_activity_has_active_and_ended_runs() {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "it");
        let start = Timestamp::from_millis(1_700_000_000_000);
        let mut activity = Activity::new(1, vec![task.clone()], start);
        activity.fill_past(&mut world, 100, start);
        assert_eq!(world.runs(&task).len(), 100);
        assert!(world.runs(&task).all(|run| run.status.is_terminal()));
        for second in 0..60 {
            activity.advance(
                &mut world,
                Timestamp::from_millis(start.as_millis() + second * 1_000),
            );
        }
        let new = || world.runs(&task).filter(|run| run.started_at >= start);
        assert!(new().count() > 30);
        assert!(new().any(|run| run.status == RunStatus::Succeeded));
        assert!(new().any(|run| !run.status.is_terminal()));
        assert!(
            new()
                .rev()
                .all(|run| run.started_at.as_millis() < start.as_millis() + 60_000)
        );
    }
}
