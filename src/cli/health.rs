//! What is wrong with a mirror, the worst first, each with its remedy.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

use super::exit::ExitCode;
use super::table::{counted, task_label};
use crate::model::Timestamp;
use crate::store::{Condition, Overview, SinkState, SinkStatus, TaskStatus};

/// How many intervals between polls may pass without a successful one.
const INTERVALS: u32 = 3;

/// The shortest time after which a feed is stale by itself: a success is written once a minute while nothing changes.
const LEAST: Duration = Duration::from_secs(120);

/// The longest time between two failures of a feed that somebody polls: it waits for up to five minutes, then tries for
/// some.
const TRIED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Something that is wrong, the worst kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing has been mirrored.
    Empty,
    /// Nobody polls a feed.
    Stale,
    /// A feed is polled in vain.
    Failing,
    /// A task is not found or forbidden, or a name means none.
    Lost,
    /// A sink accepts nothing.
    SinkFailing,
    /// Events were set aside.
    Dead,
    /// Items of a list cannot be read.
    Unreadable,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub kind: Kind,
    /// The task, the sink or the reference that it is about; null for the mirror as a whole.
    pub subject: Option<String>,
    /// What is the case. For people, and subject to change.
    pub message: String,
    /// What to do about it. For people, and subject to change.
    pub remedy: String,
}

/// How a mirror is judged.
#[derive(Clone, Debug)]
pub struct Measure {
    /// The current time.
    pub now: Timestamp,
    /// How old the last success of a feed may be of which no interval between successes is known.
    pub limit: Duration,
    /// Whether that was asked for, so that it holds for all feeds, also for one that has never succeeded.
    pub strict: bool,
    /// The tasks that are configured; `None` where that is not known, or where it is all.
    pub configured: Option<HashSet<String>>,
    /// Configured names that the mirror does not know.
    pub unknown: Vec<String>,
    /// Whether another process holds the mirror, and so may be at its first sync.
    pub held: bool,
}

/// How old a success may be where one comes every `interval`: three times that, at least two minutes.
pub fn default_limit(interval: Duration) -> Duration {
    LEAST.max(interval.saturating_mul(INTERVALS))
}

impl Measure {
    /// Whether the configuration names a feed's task; `None` where that is not known.
    pub fn is_configured(&self, task: &TaskStatus) -> Option<bool> {
        let configured = self.configured.as_ref()?;
        Some(configured.contains(&task.id))
    }

    /// How old the last success of a feed may be: as was asked for, or by the interval between its last successes.
    pub fn limit_of(&self, task: &TaskStatus) -> Duration {
        match task.success_interval_seconds {
            Some(seconds) if !self.strict => default_limit(Duration::from_secs(seconds)),
            _ => self.limit,
        }
    }

    /// Whether the last success of a feed is too old. One whose task is lost or not configured any more is not expected to
    /// succeed.
    pub fn is_stale(&self, task: &TaskStatus) -> bool {
        if task.is_lost() || self.is_configured(task) == Some(false) {
            return false;
        }
        match &task.last_success_at {
            Some(at) => !self.is_within(self.limit_of(task), Some(at)),
            None => self.expects_all(),
        }
    }

    /// Whether every task should have been mirrored by now: nobody can be at a first sync.
    fn expects_all(&self) -> bool {
        self.strict || !self.held
    }

    fn is_within(&self, limit: Duration, at: Option<&str>) -> bool {
        let at = at.and_then(Timestamp::parse);
        at.is_some_and(|at| self.now.since(at) <= limit)
    }

    /// Everything that is wrong, the worst first.
    pub fn problems(&self, overview: &Overview) -> Vec<Problem> {
        let mut problems = Vec::new();
        if overview.tasks.is_empty() && overview.unresolved.is_empty() && self.expects_all() {
            problems.push(Problem {
                kind: Kind::Empty,
                subject: None,
                message: "no task has been mirrored yet".to_owned(),
                remedy: "run `apify-mirror sync`, or start `apify-mirror run`".to_owned(),
            });
        }
        let unresolved = overview.unresolved.iter();
        problems.extend(unresolved.map(|unresolved| Problem {
            kind: Kind::Lost,
            subject: Some(unresolved.reference.clone()),
            message: unresolved.error.clone(),
            remedy: FIND_TASKS.to_owned(),
        }));
        problems.extend(self.not_mirrored(overview));
        for task in &overview.tasks {
            problems.extend(self.of_task(task));
        }
        problems.extend(overview.sinks.iter().flat_map(of_sink));
        // Stable: what is of one kind stays in the order of the tables.
        problems.sort_by_key(|problem| problem.kind);
        problems
    }

    /// Names that were configured since the last time that tasks were looked for.
    fn not_mirrored(&self, overview: &Overview) -> impl Iterator<Item = Problem> {
        let is_new = |name: &&String| {
            let mut unresolved = overview.unresolved.iter();
            !unresolved.any(|unresolved| unresolved.reference == **name)
        };
        let expected = !overview.tasks.is_empty() && self.expects_all();
        let new = self.unknown.iter().filter(is_new).filter(move |_| expected);
        new.map(|name| Problem {
            kind: Kind::Stale,
            subject: Some(name.clone()),
            message: "is configured, and has not been mirrored yet".to_owned(),
            remedy: self.how_to_refresh(self.limit),
        })
    }

    fn of_task(&self, task: &TaskStatus) -> impl Iterator<Item = Problem> {
        let problem = |kind, message, remedy: String| Problem {
            kind,
            subject: Some(task_label(task)),
            message,
            remedy,
        };
        let error = task.last_error.clone().unwrap_or_default();
        let is_stale = self.is_stale(task);
        let tried_within = self.limit_of(task).max(TRIED_WITHIN);
        let nobody_tries = is_stale && !self.is_within(tried_within, task.last_error_at.as_deref());
        let state = if self.is_configured(task) == Some(false) {
            None
        } else if task.is_lost() {
            Some(problem(Kind::Lost, error, FIND_TASKS.to_owned()))
        } else if task.state == Condition::Failing && !nobody_tries {
            let remedy = "find out more with `apify-mirror check --online`; what may pass is tried again by itself";
            Some(problem(Kind::Failing, error, remedy.to_owned()))
        } else if is_stale {
            let since = match &task.last_success_at {
                Some(at) => format!("was last polled successfully {}", age(Some(at), self.now)),
                None => "was never polled successfully".to_owned(),
            };
            let why = match error.as_str() {
                "" => String::new(),
                error => format!(", then failed: {error}"),
            };
            let remedy = self.how_to_refresh(self.limit_of(task));
            Some(problem(Kind::Stale, since + &why, remedy))
        } else {
            None
        };
        let unreadable = (task.unreadable_items > 0).then(|| {
            let items = counted(task.unreadable_items, "item");
            problem(
                Kind::Unreadable,
                format!("{items} of its list cannot be read"),
                "look at the table unreadable_items, and report what Apify's API gives there"
                    .to_owned(),
            )
        });
        state.into_iter().chain(unreadable)
    }

    fn how_to_refresh(&self, limit: Duration) -> String {
        let limit = short(limit);
        match self.held {
            true => format!(
                "look at the log of the process that holds the mirror; if it polls less often than every {limit}, give `--max-age`"
            ),
            false => format!(
                "start `apify-mirror run`, or run `apify-mirror sync`; if that is done less often than every {limit}, give `--max-age`"
            ),
        }
    }
}

/// The remedy for a task that is lost.
const FIND_TASKS: &str = "correct the task's name, take it out of the configuration, or give the token access to it (`apify-mirror check --online`)";

fn of_sink(sink: &SinkStatus) -> impl Iterator<Item = Problem> {
    let problem = |kind, message, remedy: &str| Problem {
        kind,
        subject: Some(format!("sink {}", sink.name)),
        message,
        remedy: remedy.to_owned(),
    };
    let failing = (sink.state == SinkState::Failing).then(|| {
        let error = sink.last_error.as_deref();
        let error = error.unwrap_or("does not accept events");
        let remedy = "find out more with `apify-mirror check --online`; events are kept and tried again by themselves";
        problem(Kind::SinkFailing, error.to_owned(), remedy)
    });
    let dead = (sink.dead > 0).then(|| {
        let events = counted(sink.dead, "event");
        let why = match &sink.last_error {
            Some(error) if sink.state != SinkState::Failing => format!(": {error}"),
            _ => String::new(),
        };
        problem(
            Kind::Dead,
            format!("{events} set aside{why}"),
            "look at them with `apify-mirror deliveries list`, then `deliveries retry` or `deliveries drop`",
        )
    });
    failing.into_iter().chain(dead)
}

/// The code of a mirror with these `problems`. A lost task stays lost until the user acts; others may pass, and count where
/// the caller `checks`.
pub fn exit_code(problems: &[Problem], checks: bool) -> ExitCode {
    let has = |wanted: &[Kind]| {
        problems
            .iter()
            .any(|problem| wanted.contains(&problem.kind))
    };
    let failures = [
        Kind::Empty,
        Kind::Stale,
        Kind::Failing,
        Kind::SinkFailing,
        Kind::Dead,
    ];
    if checks && has(&failures) {
        ExitCode::Temporary
    } else if has(&[Kind::Lost]) {
        ExitCode::SomeTasksFailed
    } else {
        ExitCode::Ok
    }
}

/// How long ago `at` was, in its two largest units.
pub fn age(at: Option<&str>, now: Timestamp) -> String {
    match at.and_then(Timestamp::parse) {
        Some(at) => format!("{} ago", short(now.since(at))),
        None => "never".to_owned(),
    }
}

/// A length of time in its two largest units.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
