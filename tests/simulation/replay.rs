//! Plays the commits of a history again, into databases that were rebuilt or restored from an older copy: the same
//! transition gets the same id, and no id stands for two transitions.

use std::collections::{BTreeMap, HashMap};

use apify_mirror::model::{RunStatus, Task, Timestamp};
use apify_mirror::store::{Reader, SqliteStore, Store};
use apify_mirror::sync::Commit;
use serde_json::Value;

use super::mirror::{EVERYTHING, ready};

/// The commits of a history, in order, each with its feed.
pub type Commits = Vec<(String, Commit)>;

/// What an event stands for: run, type, and the end of the life that ended, where it is about one.
type Meaning = (String, String, Option<String>);

/// The events of a database, by id.
type Log = BTreeMap<String, Meaning>;

/// Checks ids across databases; `ids` are those of the mirror's log.
pub fn check(commits: &Commits, ids: &[String]) {
    let all = play(commits);
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort();
    let again: Vec<&String> = all.keys().collect();
    assert_eq!(sorted, again, "ids depend on more than what happened");
    // Playing takes most of a history's time: one place of each is enough, another one in each history.
    let count = commits.len();
    let nth = 1 + count % 3;
    let rebuilt = play(&commits[count * nth / 4..]);
    compare(&all, &rebuilt, "rebuilt");
    let mut kept = commits[..count * nth / 5].to_vec();
    kept.extend_from_slice(&commits[count * (nth + 1) / 5..]);
    compare(&all, &play(&kept), "restored");
}

fn compare(all: &Log, other: &Log, what: &str) {
    for (id, meaning) in other {
        let first = all.get(id);
        assert!(
            first.is_none_or(|first| first == meaning),
            "{what}: {id} is {meaning:?}, and was {first:?}"
        );
    }
    let (all, other) = (by_meaning(all), by_meaning(other));
    for (meaning, id) in other {
        let (_, kind, end) = meaning;
        let is_told_apart = kind == "ACTOR.RUN.CREATED" || end.is_some();
        if let Some(first) = all.get(meaning).filter(|_| is_told_apart) {
            assert_eq!(*first, id, "{what}: {meaning:?} has another id");
        }
    }
}

/// The ids of transitions that happened once.
fn by_meaning(log: &Log) -> HashMap<&Meaning, &String> {
    let mut counts: HashMap<&Meaning, usize> = HashMap::new();
    log.values()
        .for_each(|meaning| *counts.entry(meaning).or_default() += 1);
    let once = log.iter().filter(|(_, meaning)| counts[meaning] == 1);
    once.map(|(id, meaning)| (meaning, id)).collect()
}

/// Applies commits to an empty database.
fn play(commits: &[(String, Commit)]) -> Log {
    let (store, reader) = SqliteStore::in_memory().unwrap();
    let mut log = Log::new();
    let mut ends: HashMap<String, Option<String>> = HashMap::new();
    let mut last = 0;
    for (feed, commit) in commits {
        let task = Task {
            id: feed.clone(),
            ..Task::default()
        };
        ready(store.open_feed(&task, Timestamp::default())).unwrap();
        let written = ready(store.commit(feed, commit.clone())).unwrap();
        if written.written.events > 0 {
            let (events, through) =
                ready(reader.events_after(last, &EVERYTHING, 1_000_000)).unwrap();
            last = through;
            for event in events {
                let (id, meaning) = meaning(&event.payload, &ends);
                assert!(
                    log.insert(id.clone(), meaning).is_none(),
                    "{id} was used twice"
                );
            }
        }
        for observed in &commit.observed {
            let run = &observed.seen.run;
            if written.unconfirmed.contains(&run.id) {
                continue;
            }
            if let Some(end) = &run.finished_at {
                ends.insert(run.id.clone(), Some(end.clone()));
            }
        }
    }
    log
}

fn meaning(payload: &str, ends: &HashMap<String, Option<String>>) -> (String, Meaning) {
    let body: Value = serde_json::from_str(payload).unwrap();
    let text = |path: &str| {
        body.pointer(path)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let run = text("/eventData/actorRunId").unwrap();
    let kind = text("/eventType").unwrap();
    let is_end = RunStatus::from_api(&text("/status").unwrap()).is_terminal();
    let end = match kind.as_str() {
        "ACTOR.RUN.CREATED" => None,
        "ACTOR.RUN.RESURRECTED" => ends.get(&run).cloned().flatten(),
        _ if is_end => text("/resource/finishedAt"),
        _ => None,
    };
    (text("/id").unwrap(), (run, kind, end))
}
