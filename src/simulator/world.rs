//! The simulated account: tasks and their runs. It changes only by its methods.

use std::collections::HashMap;

use serde_json::Value;

use super::items;
use super::rng::Rng;
use super::task::{ListAnswer, SimRun, SimTask};
use crate::model::{RunStatus, Timestamp};

/// The largest page of the API, as documented.
const MAX_LIMIT: u64 = 1_000;

/// A simulated account.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    user_id: String,
    tasks: Vec<SimTask>,
    /// Each run's task, as an index, and its start, to find it in the task's runs.
    places: HashMap<String, (usize, Timestamp)>,
    /// Hidden runs, with the ids of their tasks.
    hidden: HashMap<String, (String, SimRun)>,
    max_limit: u64,
    ignore_offset: bool,
}

impl World {
    /// An account without tasks. `seed` determines its ids.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let user_id = rng.id();
        Self {
            rng,
            user_id,
            tasks: Vec::new(),
            places: HashMap::new(),
            hidden: HashMap::new(),
            max_limit: MAX_LIMIT,
            ignore_offset: false,
        }
    }

    /// Adds a task and returns its id. The owner of the first task is the token's owner.
    pub fn add_task(&mut self, username: &str, name: &str) -> String {
        let id = self.rng.id();
        self.tasks.push(SimTask {
            id: id.clone(),
            name: name.to_owned(),
            username: username.to_owned(),
            act_id: self.rng.id(),
            created_at: Timestamp::from_millis(1_540_538_594_855),
            forbidden: false,
            runs: Vec::new(),
        });
        id
    }

    /// Deletes a task and its runs.
    pub fn delete_task(&mut self, id: &str) {
        self.tasks.retain(|task| task.id != id);
        let place = |n: usize| move |run: &SimRun| (run.id.clone(), (n, run.started_at));
        self.places = self
            .tasks
            .iter()
            .enumerate()
            .flat_map(|(n, task)| task.runs.iter().map(place(n)))
            .collect();
    }

    /// Applies `change` to a task, if it exists.
    pub fn change_task(&mut self, id: &str, change: impl FnOnce(&mut SimTask)) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            change(task);
        }
    }

    /// The account's tasks, oldest first.
    pub fn tasks(&self) -> &[SimTask] {
        &self.tasks
    }

    /// The task called `reference`: an id, `username~name`, or `~name` for a task of the token's owner.
    pub(super) fn find_task(&self, reference: &str) -> Option<&SimTask> {
        let owner = self.tasks.first().map_or("", |task| task.username.as_str());
        match reference.split_once('~') {
            None => self.tasks.iter().find(|task| task.id == reference),
            Some((user, name)) => {
                let user = if user.is_empty() { owner } else { user };
                self.tasks
                    .iter()
                    .find(|task| task.username == user && task.name == name)
            }
        }
    }

    /// Sets the largest page, at least 1.
    pub fn set_max_limit(&mut self, limit: u64) {
        self.max_limit = limit.max(1);
    }

    /// Sets whether to answer every request with the page at offset 0, and to report that offset.
    pub fn set_ignore_offset(&mut self, ignore: bool) {
        self.ignore_offset = ignore;
    }

    /// Registers a READY run that started at `started`, after the runs that started no later. Returns its id, or an
    /// empty one if the task does not exist.
    pub fn create(&mut self, task: &str, started: Timestamp) -> String {
        const ORIGINS: [&str; 6] = ["SCHEDULER", "SCHEDULER", "SCHEDULER", "API", "WEB", "CLI"];
        let id = self.rng.id();
        let origin = ORIGINS[self.rng.below(ORIGINS.len() as u64) as usize];
        let run = SimRun {
            id: id.clone(),
            status: RunStatus::Ready,
            started_at: started,
            finished_at: None,
            usage_milli_usd: 0,
            origin,
        };
        if self.insert(task, run) {
            id
        } else {
            String::new()
        }
    }

    /// Inserts a run in the order of starts. Returns whether the task exists.
    fn insert(&mut self, task: &str, run: SimRun) -> bool {
        let Some(n) = self.tasks.iter().position(|other| other.id == task) else {
            return false;
        };
        self.places.insert(run.id.clone(), (n, run.started_at));
        let runs = &mut self.tasks[n].runs;
        runs.insert(
            runs.partition_point(|other| other.started_at <= run.started_at),
            run,
        );
        true
    }

    /// The runs of a task, in the order of the list.
    pub fn runs(&self, task: &str) -> impl DoubleEndedIterator<Item = &SimRun> + ExactSizeIterator {
        self.tasks
            .iter()
            .find(|other| other.id == task)
            .map_or([].as_slice(), |task| &task.runs)
            .iter()
    }

    /// The indices of a run's task, and of the run in it.
    fn place(&self, id: &str) -> Option<(usize, usize)> {
        let (task, started) = *self.places.get(id)?;
        let runs = &self.tasks.get(task)?.runs;
        let first = runs.partition_point(|run| run.started_at < started);
        Some((
            task,
            first + runs[first..].iter().position(|run| run.id == id)?,
        ))
    }

    /// A run by its id.
    pub fn run(&self, id: &str) -> Option<&SimRun> {
        let (task, place) = self.place(id)?;
        self.tasks[task].runs.get(place)
    }

    /// Applies `change` to a run, if it exists.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut SimRun)) {
        if let Some((task, place)) = self.place(id) {
            change(&mut self.tasks[task].runs[place]);
        }
    }

    /// Sets an active status.
    pub fn set_status(&mut self, id: &str, status: RunStatus) {
        self.change(id, |run| run.status = status);
    }

    /// Ends a run. Its cost is preliminary until [`World::settle_usage`].
    pub fn finish(&mut self, id: &str, status: RunStatus, at: Timestamp) {
        self.change(id, |run| {
            run.status = status;
            run.finished_at = Some(at);
            run.usage_milli_usd = 1 + at.since(run.started_at).as_secs() / 10;
        });
    }

    /// Sets the final cost of an ended run.
    pub fn settle_usage(&mut self, id: &str) {
        self.change(id, |run| run.usage_milli_usd += 7);
    }

    /// Sets an ended run to RUNNING again. Its position in the list stays.
    pub fn resurrect(&mut self, id: &str) {
        self.change(id, |run| {
            run.status = RunStatus::Running;
            run.finished_at = None;
        });
    }

    /// Deletes a run.
    pub fn delete(&mut self, id: &str) {
        self.take(id);
    }

    fn take(&mut self, id: &str) -> Option<(String, SimRun)> {
        let (task, place) = self.place(id)?;
        self.places.remove(id);
        let task = &mut self.tasks[task];
        Some((task.id.clone(), task.runs.remove(place)))
    }

    /// Hides a run, as if it were deleted, until [`World::show`].
    pub fn hide(&mut self, id: &str) {
        if let Some(taken) = self.take(id) {
            self.hidden.insert(id.to_owned(), taken);
        }
    }

    /// Shows a hidden run again, at its old position.
    pub fn show(&mut self, id: &str) {
        if let Some((task, run)) = self.hidden.remove(id) {
            self.insert(&task, run);
        }
    }

    /// Applies retention: deletes all but the newest `keep` runs of a task.
    pub fn retain_newest(&mut self, task: &str, keep: usize) {
        let Some(task) = self.tasks.iter_mut().find(|other| other.id == task) else {
            return;
        };
        let deleted = task.runs.len().saturating_sub(keep);
        for run in task.runs.drain(..deleted) {
            self.places.remove(&run.id);
        }
    }

    /// A page of a task's runs, oldest or newest first. With `statuses`, only runs in one of them.
    pub fn list(
        &self,
        task: &str,
        offset: u64,
        limit: u64,
        newest_first: bool,
        statuses: Option<&[RunStatus]>,
    ) -> ListAnswer {
        let Some(found) = self.tasks.iter().find(|other| other.id == task) else {
            return ListAnswer {
                total: 0,
                offset,
                limit,
                items: Vec::new(),
            };
        };
        let wanted = |run: &&SimRun| statuses.is_none_or(|statuses| statuses.contains(&run.status));
        let offset = if self.ignore_offset { 0 } else { offset };
        let limit = limit.min(self.max_limit);
        let total = match statuses {
            None => found.runs.len(),
            Some(_) => found.runs.iter().filter(wanted).count(),
        };
        let bounds = (
            usize::try_from(offset).unwrap_or(usize::MAX),
            usize::try_from(limit).unwrap_or(usize::MAX),
        );
        let page = |runs: &mut dyn Iterator<Item = &SimRun>| -> Vec<Value> {
            runs.skip(bounds.0)
                .take(bounds.1)
                .map(|run| items::listed(run, found, &self.user_id))
                .collect()
        };
        let items = if newest_first {
            page(&mut found.runs.iter().rev().filter(wanted))
        } else {
            page(&mut found.runs.iter().filter(wanted))
        };
        ListAnswer {
            total: total as u64,
            offset,
            limit,
            items,
        }
    }

    /// Every run of a task, as the list shows it, oldest first.
    pub fn items(&self, task: &str) -> Vec<Value> {
        let found = self.tasks.iter().find(|other| other.id == task);
        found.map_or_else(Vec::new, |task| {
            let runs = task.runs.iter();
            runs.map(|run| items::listed(run, task, &self.user_id))
                .collect()
        })
    }

    /// A run, as a list shows it.
    pub fn run_item(&self, id: &str) -> Option<Value> {
        let (task, place) = self.place(id)?;
        let task = &self.tasks[task];
        Some(items::listed(task.runs.get(place)?, task, &self.user_id))
    }

    /// The answer to a single read of a run.
    pub fn run_detail(&self, id: &str) -> Option<Value> {
        let (task, place) = self.place(id)?;
        let task = &self.tasks[task];
        Some(items::detailed(task.runs.get(place)?, task, &self.user_id))
    }

    /// A task, as the API lists it.
    pub(super) fn task_item(&self, task: &SimTask) -> Value {
        items::task(task, &self.user_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn ids(world: &World, task: &str, offset: u64, limit: u64, newest_first: bool) -> Vec<String> {
        let page = world.list(task, offset, limit, newest_first, None);
        page.items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn runs_are_listed_by_start_and_ties_by_registration() {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "it");
        let [b, c, a, c2] = [2, 3, 1, 3].map(|second| world.create(&task, at(second)));
        assert_eq!(
            ids(&world, &task, 0, 10, false),
            [&a, &b, &c, &c2].map(String::clone)
        );
        assert_eq!(ids(&world, &task, 0, 2, true), [&c2, &c].map(String::clone));
        world.hide(&a);
        assert_eq!(
            ids(&world, &task, 1, 1, false),
            std::slice::from_ref(&c),
            "a deletion shifts later runs to lower offsets"
        );
        assert!(world.run(&a).is_none());
        world.show(&a);
        assert_eq!(ids(&world, &task, 0, 10, false), [a, b, c, c2]);
    }

    #[test]
    fn pages_are_capped_and_totals_count_what_matches() {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "it");
        let runs: Vec<String> = (0..20)
            .map(|second| world.create(&task, at(second)))
            .collect();
        world.finish(&runs[3], RunStatus::Failed, at(50));
        world.set_max_limit(7);
        let page = world.list(&task, 18, 1_000, false, None);
        assert_eq!(
            (page.total, page.offset, page.limit, page.items.len()),
            (20, 18, 7, 2)
        );
        let failed = world.list(&task, 0, 5, false, Some(&[RunStatus::Failed]));
        assert_eq!((failed.total, failed.items.len()), (1, 1));
        world.set_ignore_offset(true);
        assert_eq!(world.list(&task, 18, 5, false, None).offset, 0);
    }

    #[test]
    fn retention_keeps_the_newest_and_resurrection_keeps_the_position() {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "it");
        let runs: Vec<String> = (0..5)
            .map(|second| world.create(&task, at(second)))
            .collect();
        world.retain_newest(&task, 3);
        assert_eq!(ids(&world, &task, 0, 10, false), runs[2..]);
        assert!(world.run(&runs[0]).is_none());
        world.finish(&runs[2], RunStatus::Succeeded, at(60));
        world.resurrect(&runs[2]);
        let page = world.list(&task, 0, 1, false, None);
        assert_eq!(
            (
                page.items[0]["id"].as_str(),
                page.items[0]["status"].as_str()
            ),
            (Some(runs[2].as_str()), Some("RUNNING"))
        );
        assert!(page.items[0]["finishedAt"].is_null());
    }

    #[test]
    fn tasks_are_found_by_id_and_by_name() {
        let mut world = World::new(1);
        let id = world.add_task("janedoe", "it");
        let other = world.add_task("bob", "it");
        for reference in [id.as_str(), "janedoe~it", "~it"] {
            assert_eq!(world.find_task(reference).unwrap().id, id, "{reference}");
        }
        assert_eq!(world.find_task("bob~it").unwrap().id, other);
        assert!(world.find_task("~that").is_none());
        world.change_task(&id, |task| task.name = "renamed".into());
        assert_eq!(world.find_task("~renamed").unwrap().id, id);
        let run = world.create(&other, at(1));
        world.delete_task(&id);
        assert!(world.find_task(&id).is_none());
        assert!(world.run(&run).is_some(), "the other task's runs stay");
    }
}
