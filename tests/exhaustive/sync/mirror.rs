//! A model of a feed's rows, with the rules of `src/store/sqlite`: `commit.rs`, `reads.rs` and `rows.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apify_mirror::model::{EventType, Timestamp};
use apify_mirror::sync::{
    Commit, Cursor, FeedState, Gap, OpenRun, OpenRuns, Stored, leads_back, observe,
};

/// A run's row.
#[derive(Clone, Debug)]
pub struct Row {
    pub stored: Arc<Stored>,
    /// The events raised for it.
    pub events: Vec<EventType>,
}

/// What the database holds of a feed.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub rows: BTreeMap<String, Row>,
    pub feed: FeedState,
}

impl Mirror {
    fn listed(&self) -> impl Iterator<Item = (&String, Timestamp)> {
        let listed = self.rows.iter().filter(|(_, row)| !row.stored.removed);
        listed.filter_map(|(id, row)| Some((id, row.stored.run.started()?)))
    }

    /// What `Store::commit` does; returns the runs that must be confirmed.
    pub fn commit(&mut self, commit: &Commit) -> Vec<String> {
        let mut unconfirmed = Vec::new();
        for (nth, observed) in commit.observed.iter().enumerate() {
            let id = &observed.seen.run.id;
            if commit.observed[nth + 1..]
                .iter()
                .any(|later| later.seen.run.id == *id)
            {
                continue;
            }
            let row = self.rows.get(id);
            let stored = row.map(|row| &*row.stored);
            if stored.is_some_and(|stored| leads_back(stored, observed)) {
                unconfirmed.push(id.clone());
                continue;
            }
            let Some(mut change) = observe(stored, observed, &commit.judgement) else {
                continue;
            };
            let mut events = row.map_or_else(Vec::new, |row| row.events.clone());
            events.extend(
                change
                    .transitions
                    .into_iter()
                    .map(|transition| transition.kind),
            );
            if let Some(end) = &change.row.run.finished_at {
                change.row.last_end = Some(end.clone());
            }
            let stored = Arc::new(change.row);
            self.rows.insert(id.clone(), Row { stored, events });
        }
        let mut removed = commit.gone.clone();
        if let Some(covered) = &commit.covered {
            let observed = commit.observed.iter().map(|seen| &seen.seen.run.id);
            let unreadable = commit.unreadable.iter();
            let unreadable = unreadable.filter_map(|(_, item)| item.id.as_ref());
            let shown: BTreeSet<&String> = observed.chain(unreadable).collect();
            let absent = self
                .listed()
                .filter(|(id, started)| covered.proves_absent(*started) && !shown.contains(id));
            removed.extend(absent.map(|(id, _)| id.clone()));
        }
        for id in removed {
            if let Some(row) = self.rows.get_mut(&id) {
                Arc::make_mut(&mut row.stored).removed = true;
            }
        }
        self.feed = commit.feed.clone();
        unconfirmed
    }

    /// What `Store::open_runs` does.
    pub fn open_runs(&self, cursor: &Cursor, within: u64) -> OpenRuns {
        let open = self.rows.iter().filter(|(_, row)| row.stored.is_open());
        let mut open: Vec<_> = open
            .map(|(id, row)| (row.stored.run.started(), id, row))
            .collect();
        open.sort_by_key(|(started, ..)| *started);
        let newest = cursor.watermark.as_ref().map(|watermark| watermark.started);
        let mut before: Vec<Timestamp> = self
            .listed()
            .map(|(_, at)| at)
            .filter(|at| newest.is_none_or(|newest| *at <= newest))
            .collect();
        before.sort_unstable();
        let beyond = before.iter().rev().nth(within as usize);
        let farthest = open
            .iter()
            .filter_map(|(started, ..)| *started)
            .find(|at| beyond.is_none_or(|beyond| at > beyond));
        let run = |(_, id, row): &(Option<Timestamp>, &String, &Row)| OpenRun {
            id: (*id).clone(),
            active: !row.stored.run.status.is_terminal(),
        };
        OpenRuns {
            runs: open.iter().map(run).collect(),
            reach: farthest.map_or(0, |at| self.distance(cursor, at)),
        }
    }

    /// What `Store::distances` does.
    pub fn distances(&self, cursor: &Cursor, ids: &[String]) -> Vec<u64> {
        let starts = ids
            .iter()
            .filter_map(|id| self.rows.get(id)?.stored.run.started());
        starts.map(|at| self.distance(cursor, at)).collect()
    }

    fn distance(&self, cursor: &Cursor, from: Timestamp) -> u64 {
        let newest = cursor.watermark.as_ref().map(|watermark| watermark.started);
        let between = self
            .listed()
            .filter(|(_, at)| *at >= from && newest.is_none_or(|newest| *at <= newest));
        between.count() as u64
    }

    /// What `Store::unseen` does.
    pub fn unseen(&self, gaps: &[Gap], except: &[String]) -> Vec<String> {
        let mut unseen = Vec::new();
        for gap in gaps {
            let within = |at: Timestamp| {
                gap.from.is_none_or(|from| from <= at) && gap.to.is_none_or(|to| at <= to)
            };
            unseen.extend(
                self.listed()
                    .filter(|(id, at)| within(*at) && !except.contains(id))
                    .map(|(id, _)| id.clone()),
            );
        }
        unseen
    }
}
