//! The simulated account: tasks and their runs, changed only by what it is told.

use std::collections::HashMap;

use serde_json::Value;

use super::items;
use super::rng::Rng;
use crate::model::{RunStatus, Timestamp};

/// The largest page the API gives, by its documentation.
const MAX_LIMIT: u64 = 1_000;

/// A task of the account.
#[derive(Clone, Debug)]
pub struct SimTask {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub username: String,
    /// The Actor it runs.
    pub act_id: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether the token may not see it.
    pub forbidden: bool,
    /// Its runs, in the list's order: by start, ties in the order of their registration.
    runs: Vec<SimRun>,
}

/// A run of the account.
#[derive(Clone, Debug)]
pub struct SimRun {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What it cost so far, in thousandths of a US dollar.
    pub usage_milli_usd: u64,
    /// What started it, e.g. `SCHEDULER`.
    pub origin: &'static str,
}

/// A page of a run list.
#[derive(Clone, Debug)]
pub struct ListAnswer {
    /// How many runs match.
    pub total: u64,
    /// Where the page lies.
    pub offset: u64,
    /// The largest page that would have been given.
    pub limit: u64,
    /// The runs, as the API lists them.
    pub items: Vec<Value>,
}

/// A simulated account.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    user_id: String,
    tasks: Vec<SimTask>,
    /// Which task each run belongs to, and its start, by which it is found there.
    places: HashMap<String, (usize, Timestamp)>,
    /// Runs that exist, but are not shown for now, with the tasks they belong to.
    hidden: HashMap<String, (String, SimRun)>,
    max_limit: u64,
    ignore_offset: bool,
}

impl World {
    /// An account without tasks; its ids follow from `seed`.
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

    /// Adds a task and gives its id. The first one's owner is the token's owner.
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

    /// Removes a task with its runs.
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

    /// Changes a task as `change` says, if there is such a task.
    pub fn change_task(&mut self, id: &str, change: impl FnOnce(&mut SimTask)) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            change(task);
        }
    }

    /// The account's tasks, oldest first.
    pub fn tasks(&self) -> &[SimTask] {
        &self.tasks
    }

    /// The task that a reference names: an id, `username~name`, or `~name` for one of the token's owner.
    pub fn find_task(&self, reference: &str) -> Option<&SimTask> {
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

    /// The largest page given from now on, at least 1.
    pub fn set_max_limit(&mut self, limit: u64) {
        self.max_limit = limit.max(1);
    }

    /// From now on, whether every page begins at the list's beginning, and says so.
    pub fn set_ignore_offset(&mut self, ignore: bool) {
        self.ignore_offset = ignore;
    }

    /// Registers a run that started at `started`, READY, behind the runs that started no later. Gives its id, or an
    /// empty one when there is no such task.
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

    /// Puts a run into its place, unless there is no such task.
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

    /// The runs of a task, in the list's order.
    pub fn runs(&self, task: &str) -> impl DoubleEndedIterator<Item = &SimRun> + ExactSizeIterator {
        self.tasks
            .iter()
            .find(|other| other.id == task)
            .map_or([].as_slice(), |task| &task.runs)
            .iter()
    }

    /// Where a run stands: its task, and its place in that task's list.
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

    /// Changes a run as `change` says, if there is such a run.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut SimRun)) {
        if let Some((task, place)) = self.place(id) {
            change(&mut self.tasks[task].runs[place]);
        }
    }

    /// Moves a run to a status in which it has not ended.
    pub fn set_status(&mut self, id: &str, status: RunStatus) {
        self.change(id, |run| run.status = status);
    }

    /// Ends a run. What it cost is preliminary until [`World::settle_usage`].
    pub fn finish(&mut self, id: &str, status: RunStatus, at: Timestamp) {
        self.change(id, |run| {
            run.status = status;
            run.finished_at = Some(at);
            run.usage_milli_usd = 1 + at.since(run.started_at).as_secs() / 10;
        });
    }

    /// Sets what an ended run cost for good.
    pub fn settle_usage(&mut self, id: &str) {
        self.change(id, |run| run.usage_milli_usd += 7);
    }

    /// Makes an ended run RUNNING again, at its old place in the list.
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

    /// From now on, a run is as if it were deleted, until [`World::show`].
    pub fn hide(&mut self, id: &str) {
        if let Some(taken) = self.take(id) {
            self.hidden.insert(id.to_owned(), taken);
        }
    }

    /// Shows a hidden run again, at its old place.
    pub fn show(&mut self, id: &str) {
        if let Some((task, run)) = self.hidden.remove(id) {
            self.insert(&task, run);
        }
    }

    /// Retention: deletes all but the newest `keep` runs of a task.
    pub fn retain_newest(&mut self, task: &str, keep: usize) {
        let Some(task) = self.tasks.iter_mut().find(|other| other.id == task) else {
            return;
        };
        let gone = task.runs.len().saturating_sub(keep);
        for run in task.runs.drain(..gone) {
            self.places.remove(&run.id);
        }
    }

    /// A page of a task's runs, oldest first or newest first, of those in one of `statuses` if given.
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
        let place = (
            usize::try_from(offset).unwrap_or(usize::MAX),
            usize::try_from(limit).unwrap_or(usize::MAX),
        );
        let page = |runs: &mut dyn Iterator<Item = &SimRun>| -> Vec<Value> {
            runs.skip(place.0)
                .take(place.1)
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

    /// A run in the detail of a single read.
    pub fn run_detail(&self, id: &str) -> Option<Value> {
        let (task, place) = self.place(id)?;
        let task = &self.tasks[task];
        Some(items::detailed(task.runs.get(place)?, task, &self.user_id))
    }

    /// A task as the list of tasks shows it.
    pub fn task_item(&self, task: &SimTask) -> Value {
        items::task(task, &self.user_id)
    }
}

impl SimTask {
    /// How many runs the task has.
    pub fn run_count(&self) -> usize {
        self.runs.len()
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
            "a deletion moves the others to the front"
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
    fn retention_spares_the_newest_and_resurrection_keeps_the_place() {
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
    fn tasks_have_three_names() {
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
