//! The transaction that updates the mirror: rows, their events, their deliveries and the cursor.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, TransactionBehavior};

use super::connection::Db;
use super::details;
use super::events::EventWriter;
use super::feeds::save_feed;
use super::identities::identify;
use super::pruned::PrunedRuns;
use super::repair::{ensure_task, tell_if_feed_is_lost};
use super::rows::{self, RunRow};
use super::unreadable::UnreadableItems;
use crate::model::{DETAILS_WAIT, EventType};
use crate::store::error::StoreError;
use crate::store::written::Committed;
use crate::sync::{
    Commit, Covered, Judgement, Observed, Source, Stored, Transition, leads_back, observe,
};

impl Db {
    /// Applies `commit` to the feed of task `feed_id` atomically; it is on disk when this returns. Unchanged rows are not
    /// written; a commit that finds nothing new writes at most a heartbeat.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn commit(&mut self, feed_id: &str, commit: &Commit) -> Result<Committed, StoreError> {
        self.limit_log(!commit.feed.complete)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = commit.judgement.now.to_string();
        ensure_task(&transaction, feed_id, &now)?;
        tell_if_feed_is_lost(&transaction, feed_id)?;
        let items = UnreadableItems::of(&transaction, feed_id)?;
        let mut runs = Runs {
            connection: &transaction,
            feed_id,
            commit,
            now: &now,
            events: EventWriter::new(&transaction, feed_id, &now),
            pruned: PrunedRuns::of(&transaction)?,
            committed: Committed::default(),
        };
        for observed in latest(commit) {
            runs.see(observed, &items)?;
        }
        runs.remove()?;
        runs.events.finish()?;
        let mut committed = runs.committed;
        save_feed(&transaction, feed_id, commit, &now)?;
        let new = items.record(commit)?;
        committed.unreadable = new.count();
        transaction.commit()?;
        new.tell();
        Ok(committed)
    }
}

/// The runs of a commit, while it is applied.
struct Runs<'a> {
    connection: &'a Connection,
    feed_id: &'a str,
    commit: &'a Commit,
    now: &'a str,
    events: EventWriter<'a>,
    pruned: PrunedRuns<'a>,
    committed: Committed,
}

impl Runs<'_> {
    /// Stores what was observed of a run, and raises its events, unless it must be confirmed first.
    fn see(&mut self, observed: &Observed, items: &UnreadableItems<'_>) -> Result<(), StoreError> {
        let observed = &*with_task(observed, self.feed_id);
        let id = &observed.seen.run.id;
        let row = rows::load(self.connection, id)?;
        let is_new = row.is_none();
        let row = match row {
            None => self.pruned.load(id)?,
            row => row,
        };
        let (stored, marks) =
            row.map_or_else(Default::default, |row| (Some(row.stored), row.marks));
        let stored = stored.as_ref();
        if stored.is_some_and(|stored| leads_back(stored, observed)) {
            self.committed.unconfirmed.push(id.clone());
            return Ok(());
        }
        items.forget(id)?;
        let Some(change) = observe(stored, observed, &self.commit.judgement) else {
            if let Some(stored) = stored {
                self.save_details(stored, observed, false)?;
            }
            return Ok(());
        };
        self.committed.written.count(change.difference);
        let (marks, raised) = identify(self.connection, stored, &change, marks)?;
        let row = RunRow {
            stored: change.row,
            marks,
        };
        rows::write(self.connection, &row, self.feed_id, self.now, is_new)?;
        self.pruned.forget(id)?;
        for (id, transition) in &raised {
            let run = &row.stored.run;
            let held_until = self.held_until(transition, observed.source);
            self.events.write(
                run,
                id,
                transition,
                &observed.seen.json,
                held_until.as_deref(),
            )?;
            let kind = transition.kind.clone();
            *self.committed.raised.entry(kind).or_default() += 1;
            self.committed.written.events += 1;
        }
        let ended = stored.is_none_or(|stored| ends(stored, &row.stored));
        if stored.is_some_and(|stored| stored.run.status.is_terminal() && ended) {
            // They are of another end. Whether any are wanted now does not matter.
            details::remove(self.connection, &row.stored.run.id)?;
        }
        self.save_details(&row.stored, observed, ended)
    }

    /// Until when an event waits for the details of its run, which a list does not have.
    fn held_until(&self, transition: &Transition, source: Source) -> Option<String> {
        let judgement = &self.commit.judgement;
        match (&transition.kind, source) {
            (EventType::Entered(status), Source::List) if judgement.details.holds(status) => {
                Some(judgement.now.plus(DETAILS_WAIT).to_string())
            }
            _ => None,
        }
    }

    /// Stores the details of a run that a single read showed; has those of one that `ended`, by a list, be read: at once if
    /// it failed, as its event waits for them, else when its figures are final.
    fn save_details(
        &mut self,
        stored: &Stored,
        observed: &Observed,
        ended: bool,
    ) -> Result<(), StoreError> {
        let Judgement { details, now, .. } = self.commit.judgement;
        let run = &stored.run;
        if !details.wants(&run.status) {
            return Ok(());
        }
        if observed.source == Source::Detail {
            if ended || details::is_asked(self.connection, &run.id)? {
                let item = &observed.seen.json;
                self.committed.released += details::save(self.connection, stored, item, now)?;
            }
            return Ok(());
        }
        if !ended {
            return Ok(());
        }
        let due_at = match stored.settles_at {
            Some(until) if !details.holds(&run.status) => until,
            // Of those that ended before, the last come first.
            _ => run.finished().map_or(now, |finished| finished.min(now)),
        };
        self.committed.details_asked += 1;
        details::ask(self.connection, &run.id, &due_at.to_string())
    }

    /// Marks the runs that are gone, and those that the commit proves absent.
    fn remove(&mut self) -> Result<(), StoreError> {
        let absent = match &self.commit.covered {
            Some(covered) => absent(self.connection, self.feed_id, covered, self.commit)?,
            None => Vec::new(),
        };
        for id in self.commit.gone.iter().chain(&absent) {
            self.committed.written.removed += rows::mark_removed(self.connection, id, self.now)?;
        }
        Ok(())
    }
}

/// Whether a run that has ended is not as it was: it ended again, or is listed again.
fn ends(before: &Stored, after: &Stored) -> bool {
    let end = |stored: &Stored| (stored.run.status.clone(), stored.run.finished_at.clone());
    before.removed || end(before) != end(after)
}

/// `observed`, as a run of `task` where it names none.
fn with_task<'a>(observed: &'a Observed, task: &str) -> Cow<'a, Observed> {
    let mut observed = Cow::Borrowed(observed);
    if observed.seen.run.task_id.is_none() {
        observed.to_mut().seen.run.task_id = Some(task.to_owned());
    }
    observed
}

/// The runs of a feed that the mirror has as listed, but that `covered` proves absent: the commit neither observed them
/// nor has them among what it could not read.
fn absent(
    connection: &Connection,
    feed_id: &str,
    covered: &Covered,
    commit: &Commit,
) -> Result<Vec<String>, StoreError> {
    let observed = commit.observed.iter().map(|seen| seen.seen.run.id.as_str());
    let unreadable = commit.unreadable.iter();
    let unreadable = unreadable.filter_map(|(_, item)| item.id.as_deref());
    let listed: HashSet<&str> = observed.chain(unreadable).collect();
    let candidates = rows::started_within(
        connection,
        feed_id,
        covered.after,
        Some(covered.before),
        None,
    )?;
    let absent = candidates.into_iter().filter(|(id, started)| {
        !listed.contains(id.as_str()) && started.is_some_and(|at| covered.proves_absent(at))
    });
    Ok(absent.map(|(id, _)| id).collect())
}

/// The observations of a commit, each run once: a run can appear twice on one page (the API's own example does this),
/// and on two overlapping pages. The last one counts.
fn latest(commit: &Commit) -> impl Iterator<Item = &Observed> {
    let last: HashMap<&str, usize> = commit
        .observed
        .iter()
        .enumerate()
        .map(|(n, observed)| (observed.seen.run.id.as_str(), n))
        .collect();
    let is_last = move |n: usize, id: &str| last.get(id) == Some(&n);
    commit
        .observed
        .iter()
        .enumerate()
        .filter(move |(n, observed)| is_last(*n, &observed.seen.run.id))
        .map(|(_, observed)| observed)
}
