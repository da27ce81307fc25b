//! The mirror of a history: real machines and the real store, with reads that fail and a process that dies.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use apify_mirror::model::{Details, Retention, RunStatus, Seed, Task, Timestamp};
use apify_mirror::simulator::Rng;
use apify_mirror::store::{
    DetailsAnswer, EventFilter, PrunePosition, Pruned, Reader, SqliteReader, SqliteStore, Store,
};
use apify_mirror::sync::{
    Command, Commit, Input, Listing, Machine, Outcome, Page, ReadFailure, Seen, Settings, Single,
    Window,
};
use serde_json::Value;

use super::account::{Account, FIGURES_SETTLE_MS};
use super::check::Checks;
use super::delivery::Deliveries;
use super::hazards::{Hazard, Hazards};
use super::replay::Commits;
use super::server::LONGEST_LAG_MS;

/// All events, those included that wait for details of their runs.
pub const EVERYTHING: EventFilter = EventFilter {
    feeds: None,
    types: None,
    statuses: None,
    waiting: true,
};

pub struct Mirror {
    pub store: SqliteStore,
    pub reader: SqliteReader,
    pub feeds: Vec<Feed>,
    pub settings: Settings,
    pub checks: Checks,
    pub deliveries: Deliveries,
    /// All commits, in order.
    pub commits: Commits,
    pub requests: u64,
    pub stepped_back: u64,
    pub audits: u64,
    /// Whether a poll went past entries that it could not read, and said so. Only an audit finds them.
    pub went_past: bool,
}

/// One feed, between two steps of its machine.
pub struct Feed {
    pub task: String,
    pub machine: Machine,
    /// Its next command; `None` between polls.
    command: Option<Command>,
    /// How its last poll, or part of an audit, ended.
    pub outcome: Option<Outcome>,
    /// Runs that single reads have shown since then.
    found: BTreeSet<String>,
    /// The answers to the windows that were requested and not answered: those that came already, and `None` for others.
    ahead: VecDeque<Option<Answer>>,
}

/// The answer to a window; `None` for one that failed.
type Answer = Option<Page>;

/// The result of a call to an in-memory store, which is ready at once.
pub fn ready<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the in-memory store is not ready"),
    }
}

/// Of which runs the details are read in the history of `seed`.
fn details_of(seed: u64, hazards: &Hazards) -> Details {
    match (hazards.has(Hazard::Details), seed % 3) {
        (false, _) => Details::None,
        (true, 0) => Details::Failed,
        (true, _) => Details::All,
    }
}

/// Why a feed's poll ended early.
enum Ended {
    /// The process died.
    Process,
    /// The store failed.
    Feed,
}

impl Mirror {
    pub fn new(seed: u64, hazards: &Hazards, account: &Account) -> Self {
        let mut rng = Rng::new(seed ^ 0x3170);
        // Pages smaller than ten cannot show what lies before and after several entries without a start.
        let undated = hazards.has(Hazard::OddStarts) || hazards.has(Hazard::OddItems);
        let least = if undated { 10 } else { 2 };
        let settings = Settings {
            page_size: [2, 3, 5, 10, 10, 30, 30, 1_000][rng.below(8) as usize].max(least),
            overlap: [0, 1, 4, 20][rng.below(4) as usize],
            poll_interval: Duration::from_secs(15),
            watch_interval: Duration::from_millis(rng.below(120_000)),
            settle: Duration::from_millis(
                (FIGURES_SETTLE_MS + LONGEST_LAG_MS) as u64 + rng.below(2) * rng.below(60_000),
            ),
            // Where polling must suffice, audits still run sometimes, as they must not interfere.
            audit_interval: (!hazards.polling_suffices() || rng.chance(30.0))
                .then(|| Duration::from_millis(1_000 + rng.below(300_000))),
            read_ahead: 1 + rng.below(4) as usize,
            history_events: false,
            details: details_of(seed, hazards),
            seed: Seed(seed),
        };
        let (store, reader) = SqliteStore::in_memory().unwrap();
        let mut deliveries = Deliveries::new(seed, account);
        deliveries.start(&store, account);
        let feeds = account
            .tasks
            .iter()
            .map(|task| Feed::load(task, &settings, &store, account.now))
            .collect();
        Self {
            store,
            reader,
            feeds,
            settings,
            checks: Checks::default(),
            deliveries,
            commits: Commits::new(),
            requests: 0,
            stepped_back: 0,
            audits: 0,
            went_past: false,
        }
    }

    /// Wakes every feed and runs all of them, interleaved, until they sleep, or until the process dies and restarts.
    pub fn round(&mut self, account: &mut Account) {
        let mut steps = 0;
        self.feeds.iter_mut().for_each(|feed| feed.outcome = None);
        loop {
            steps += 1;
            assert!(steps < 20_000, "polls that do not end");
            let awake: Vec<usize> = (0..self.feeds.len())
                .filter(|n| self.feeds[*n].outcome.is_none())
                .collect();
            if awake.is_empty() {
                return;
            }
            let next = awake[account.below(awake.len() as u64) as usize];
            match self.step(next, account) {
                Ok(()) => {}
                Err(Ended::Feed) => {
                    let Self {
                        feeds,
                        settings,
                        store,
                        ..
                    } = self;
                    let task = feeds[next].task.clone();
                    feeds[next] = Feed::load(&task, settings, store, account.now);
                    feeds[next].outcome = Some(Outcome::Failed);
                }
                Err(Ended::Process) => {
                    account.note("died", "");
                    self.restart(account);
                    return;
                }
            }
        }
    }

    /// Runs deliveries for a while.
    pub fn deliver(&mut self, account: &mut Account) {
        for _ in 0..account.below(20) {
            account.wait(100);
            self.deliveries.turn(&self.store, &self.reader, account);
        }
    }

    /// Checks that everything owed is delivered in the end.
    pub fn settle_deliveries(&mut self, account: &mut Account) {
        self.deliveries.settle(&self.store, &self.reader, account);
    }

    /// The process ends, and is started again after some days.
    pub fn be_off(&mut self, account: &mut Account) {
        let ms = 1 + account.below(10 * 86_400_000);
        account.wait(ms as i64);
        if account.misbehaves(Hazard::Details, 50.0) {
            let policies = [Details::None, Details::Failed, Details::All];
            self.settings.details = policies[account.below(3) as usize];
        }
        self.restart(account);
    }

    /// Restarts the process: every feed and sink continues from the database.
    pub fn restart(&mut self, account: &Account) {
        let Self {
            store,
            settings,
            feeds,
            ..
        } = self;
        for feed in feeds {
            *feed = Feed::load(&feed.task, settings, store, account.now);
        }
        self.deliveries.crash(&self.store, &self.reader, account);
    }

    /// An operator deletes rows with SQL.
    fn delete_rows(&mut self, account: &mut Account) {
        let runs = self.checks.committed();
        if runs.is_empty() {
            return;
        }
        let run = runs[account.below(runs.len() as u64) as usize].clone();
        let seq = 1 + account.below(self.checks.events() + 1) as i64;
        let sql = match account.below(9) {
            0 => {
                self.checks.deleted.insert(run.clone());
                format!("DELETE FROM runs WHERE id = '{run}'")
            }
            1 => {
                self.deliveries.events_deleted(seq..=seq);
                format!("DELETE FROM events WHERE seq = {seq}")
            }
            2 => {
                self.deliveries.events_deleted(1..=seq);
                format!("DELETE FROM events WHERE seq <= {seq}")
            }
            3 => self.deliveries.delete_delivery(seq),
            4 => self.deliveries.delete_sink(account.below(3) as usize),
            5 => "DELETE FROM feeds; DELETE FROM audits".to_owned(),
            6 => "DELETE FROM tasks".to_owned(),
            7 => "DELETE FROM sqlite_sequence".to_owned(),
            _ => "UPDATE sqlite_sequence SET seq = 0".to_owned(),
        };
        ready(self.store.by_hand(&sql)).unwrap();
        account.note("rows deleted", &sql);
    }

    /// Prunes what a configuration made up for this moment does not keep; checks what that removed.
    fn prune(&mut self, account: &mut Account) {
        let mut keep = || {
            let seconds = [None, Some(0), Some(10), Some(120), Some(3_600)];
            seconds[account.below(5) as usize].map(Duration::from_secs)
        };
        let retention = Retention {
            removed_runs: keep(),
            events: keep(),
            dead_deliveries: keep(),
        };
        let now = account.local_now();
        let (events, runs) = (self.logged(), self.checks.marks(&self.reader));
        let announced = ready(self.reader.prunable(&retention, now)).unwrap();
        let (mut pruned, mut next) = (Pruned::default(), Some(PrunePosition::default()));
        while let Some(from) = next {
            let step = ready(self.store.prune(&retention, &from, now)).unwrap();
            pruned += step.pruned;
            next = step.next;
        }
        assert_eq!(pruned, announced);
        let events: BTreeSet<i64> = events.difference(&self.logged()).copied().collect();
        let left = self.checks.marks(&self.reader);
        let gone: Vec<(String, bool)> = runs
            .into_iter()
            .filter(|(id, _)| !left.contains_key(id))
            .collect();
        assert_eq!(
            (pruned.events, pruned.runs),
            (events.len() as u64, gone.len() as u64)
        );
        for (id, is_removed) in &gone {
            assert!(is_removed, "{id} was pruned, and is not marked as removed");
            account.note("run pruned", id);
        }
        self.deliveries.events_pruned(&events, &self.reader);
        self.checks.pruned(gone.into_iter().map(|(id, _)| id));
    }

    /// Reads details that are due, as the daemon does beside everything else; returns whether there were any.
    fn read_details(&mut self, account: &mut Account) -> bool {
        let details = self.settings.details;
        let (released, _) = ready(self.store.release_overdue(account.local_now())).unwrap();
        self.deliveries.released(released);
        let due = ready(self.store.due_details(details, (3, 3), account.local_now())).unwrap();
        let ids = match due.urgent.is_empty() {
            true => due.others,
            false => due.urgent,
        };
        let more = !ids.is_empty() || due.next.is_some_and(|next| next <= account.local_now());
        let mut answers = Vec::new();
        for id in ids {
            let answer = match account.detail(&id) {
                _ if account.misbehaves(Hazard::FailedReads, 10.0) => DetailsAnswer::Unavailable,
                Single::Found(seen) => DetailsAnswer::Found(seen),
                Single::Gone | Single::Failed => DetailsAnswer::Unreadable,
            };
            answers.push((id, answer));
            account.happen(&self.reader);
            self.deliveries.turn(&self.store, &self.reader, account);
        }
        if answers.is_empty() || account.misbehaves(Hazard::LockedStore, 2.0) {
            return more;
        }
        let saved = ready(self.store.save_details(answers, account.local_now())).unwrap();
        for (what, count) in [
            ("details read", saved.read),
            ("details put off", saved.put_off),
        ] {
            (0..count).for_each(|_| account.note(what, ""));
        }
        self.deliveries.released(saved.released);
        more
    }

    /// Reads details until none are due, and checks that those of every run that ended are there, and that no event waits.
    pub fn settle_details(&mut self, account: &mut Account) {
        for _ in 0..50 {
            let mut steps = 0;
            while self.read_details(account) {
                steps += 1;
                assert!(steps < 10_000, "details that are read without end");
            }
            // As long as any wait before another attempt. The clock may have been set back by more since.
            account.wait(3_700_000);
        }
        let held = "SELECT count(*) || '' FROM events WHERE held_until IS NOT NULL";
        assert_eq!(
            ready(self.store.ask_by_hand(held)).unwrap(),
            "0",
            "events that wait"
        );
        let rows =
            "SELECT json_group_array(json_array(r.id, r.status, d.status_message, json(d.stats)))
             FROM runs r LEFT JOIN run_details d ON d.run_id = r.id WHERE r.removed_at IS NULL";
        let rows = ready(self.store.ask_by_hand(rows)).unwrap();
        let rows: Vec<(String, String, Value, Value)> = serde_json::from_str(&rows).unwrap();
        for (id, status, message, stats) in rows {
            let is_wanted = self.settings.details.wants(&RunStatus::from_api(&status));
            // Of a run that was hidden for long, the details may have been given up.
            if !is_wanted || account.once_hidden.contains(&id) {
                continue;
            }
            let shown = account.world.run_detail(&id).unwrap();
            assert_eq!(message, shown["statusMessage"], "details of {id}");
            if !account.has(Hazard::Unwatched) && !account.has(Hazard::ClockJumps) {
                assert_eq!(stats, shown["stats"], "details of {id}");
            }
        }
    }

    /// The numbers of the events in the log.
    fn logged(&self) -> BTreeSet<i64> {
        let (events, _) = ready(
            self.reader
                .events_after(0, &EVERYTHING, u64::from(u32::MAX)),
        )
        .unwrap();
        events.into_iter().map(|event| event.seq).collect()
    }

    fn step(&mut self, n: usize, account: &mut Account) -> Result<(), Ended> {
        account.happen(&self.reader);
        if account.misbehaves(Hazard::DeletedRows, 1.0) {
            self.delete_rows(account);
        }
        if account.misbehaves(Hazard::Pruning, 1.5) {
            self.prune(account);
        }
        if account.has(Hazard::Details) && account.below(4) == 0 {
            self.read_details(account);
        }
        self.deliveries.turn(&self.store, &self.reader, account);
        let Self {
            store,
            reader,
            requests,
            ..
        } = self;
        let Feed {
            task,
            machine,
            command,
            ahead,
            found,
            ..
        } = &mut self.feeds[n];
        // Where this step read the list, to detect whether the next read steps back.
        let mut read_from = None;
        let input = match command.take() {
            None => Input::Wake,
            Some(Command::Sleep { .. }) => unreachable!("a sleeping feed is not awake"),
            Some(Command::LoadOpen { within, after }) => Input::Open(
                ready(store.open_runs(task, &machine.feed().cursor, within, after.as_deref()))
                    .unwrap(),
            ),
            Some(Command::Locate(ids)) => {
                Input::Located(ready(store.distances(task, &machine.feed().cursor, &ids)).unwrap())
            }
            Some(Command::LoadUnseen { gaps, except }) => {
                Input::Unseen(ready(store.unseen(task, &gaps, &except)).unwrap())
            }
            Some(Command::Read { windows, begun }) => {
                read_from = windows.first().map(|window| window.offset);
                // Some answers come long before the one that is awaited, and what happens meanwhile is not on them.
                let early: Vec<bool> = windows.iter().map(|_| account.below(2) == 0).collect();
                let most = 1 + account.below(windows.len() as u64) as usize;
                let mut read = |window: &Window| {
                    *requests += 1;
                    if account.misbehaves(Hazard::FailedReads, 4.0) {
                        return None;
                    }
                    let page = account.answer(task, window);
                    account.note_page(window, &page);
                    account.happen(reader);
                    Some(page)
                };
                ahead.truncate(begun);
                for n in ahead.len()..windows.len() {
                    ahead.push_back(early[n].then(|| read(&windows[n])));
                }
                let mut pages = Vec::new();
                for window in windows.iter().take(most) {
                    let answer = ahead.pop_front().flatten();
                    match answer.unwrap_or_else(|| read(window)) {
                        Some(page) => pages.push(page),
                        None => break,
                    }
                }
                if pages.is_empty() {
                    Input::Failed(ReadFailure::Temporary)
                } else {
                    // One that failed is requested again.
                    let left = windows.len() - pages.len();
                    while ahead.len() < left {
                        ahead.push_front(None);
                    }
                    Input::Pages(pages)
                }
            }
            Some(Command::ReadRuns(ids)) => {
                *requests += ids.len() as u64;
                if account.misbehaves(Hazard::FailedReads, 4.0) {
                    Input::Failed(ReadFailure::Temporary)
                } else {
                    let mut read = |id: String| {
                        let failed = account.misbehaves(Hazard::FailedReads, 2.0);
                        let run = if failed {
                            Single::Failed
                        } else {
                            account.detail(&id)
                        };
                        (id, run)
                    };
                    let runs: Vec<(String, Single)> = ids.into_iter().map(&mut read).collect();
                    let shown = runs
                        .iter()
                        .filter(|(_, run)| matches!(run, Single::Found(_)));
                    found.extend(shown.map(|(id, _)| id.clone()));
                    Input::Runs(runs)
                }
            }
            Some(Command::Commit(commit)) => self.commit(n, &commit, account)?,
        };
        let feed = &mut self.feeds[n];
        let command = feed.machine.step(input, account.local_now());
        if feed.machine.take_missed() > 0 {
            account.note("gone past", "");
            self.went_past = true;
        }
        match command {
            Command::Sleep { wait, outcome } => {
                assert!(wait <= Duration::from_secs(330), "a wait without bound");
                self.audits += u64::from(outcome == Outcome::Audited);
                feed.outcome = Some(outcome);
                let found = std::mem::take(&mut feed.found);
                let unreadable =
                    "SELECT coalesce(group_concat(item, ' '), '') FROM unreadable_items";
                let unreadable = ready(self.store.ask_by_hand(unreadable)).unwrap();
                let unreadable = unreadable
                    .split(' ')
                    .filter_map(|item| item.strip_prefix("id:"));
                for id in unreadable {
                    assert!(
                        !found.contains(id),
                        "{id} was read singly, and counts as unreadable"
                    );
                }
            }
            command => {
                // A poll steps back when it reads again at a lower offset without a commit in between. Audits do so too,
                // but do not count here.
                if let Command::Read { windows, .. } = &command
                    && feed.machine.feed().audit.is_none()
                {
                    let next = windows.iter().find(|window| window.listing == Listing::All);
                    let stepped = next.is_some_and(|next| read_from > Some(next.offset));
                    self.stepped_back += u64::from(stepped);
                }
                feed.command = Some(command);
            }
        }
        Ok(())
    }

    fn commit(&mut self, n: usize, commit: &Commit, account: &mut Account) -> Result<Input, Ended> {
        let task = &self.feeds[n].task;
        // A crash during a commit leaves nothing behind, which the store's own tests check.
        if account.misbehaves(Hazard::Crashes, 1.5) {
            return Err(Ended::Process);
        }
        if account.misbehaves(Hazard::LockedStore, 1.0) {
            // The poll ends, and the feed continues from the database.
            return Err(Ended::Feed);
        }
        let committed = ready(self.store.commit(task, commit.clone())).unwrap();
        self.commits.push((task.clone(), commit.clone()));
        let raised = self
            .checks
            .after_commit(&self.reader, task, commit, &committed, account);
        self.deliveries.raised(&raised);
        if account.misbehaves(Hazard::Crashes, 1.5) {
            Err(Ended::Process)
        } else {
            Ok(Input::Committed {
                unconfirmed: committed.unconfirmed,
            })
        }
    }

    /// Polls until every feed has caught up with an account at rest; checks that this takes a bounded number of rounds, and
    /// that idle polls are cheap.
    pub fn settle_down(&mut self, account: &mut Account) {
        for _ in 0..3 {
            self.catch_up(account);
            account.wait(self.settings.settle.as_millis() as i64 + 1);
            account.wait(self.settings.watch_interval.as_millis() as i64);
        }
        self.catch_up(account);
        for n in 0..self.feeds.len() {
            self.check_idle(n, account);
        }
    }

    pub fn catch_up(&mut self, account: &mut Account) {
        let mut behind: Vec<usize> = (0..self.feeds.len()).collect();
        for _ in 0..100 {
            self.round(account);
            behind.retain(|n| self.feeds[*n].outcome != Some(Outcome::CaughtUp));
            if behind.is_empty() {
                return;
            }
        }
        panic!(
            "feeds that are not caught up: {:?}",
            self.feeds
                .iter()
                .map(|feed| feed.outcome)
                .collect::<Vec<_>>()
        );
    }

    fn check_idle(&mut self, n: usize, account: &mut Account) {
        let before = self.requests;
        self.feeds[n].outcome = None;
        while self.feeds[n].outcome.is_none() {
            assert!(self.step(n, account).is_ok());
        }
        let feed = &self.feeds[n];
        if feed.outcome != Some(Outcome::CaughtUp) {
            return;
        }
        let idle = self.requests - before;
        let open =
            ready(
                self.store
                    .open_runs(&feed.task, &feed.machine.feed().cursor, 1_000, None),
            )
            .unwrap()
            .runs
            .len();
        let watch = u64::from(self.settings.watch_interval.is_zero());
        // A page must begin before the newest entry and all that tie with it, or have no start, and show that nothing
        // follows. If it is too small for that, they are read by offset, in at most five rounds.
        let shown: Vec<_> = account
            .world
            .items(&feed.task)
            .into_iter()
            .map(|item| {
                let seen = Seen::from_json(account.as_shown(item), account.latest_start()).unwrap();
                seen.started
                    .filter(|_| !account.is_unreadable(&seen.run.id))
            })
            .collect();
        let newest = shown.iter().rev().find(|started| started.is_some());
        let ties = shown
            .iter()
            .rev()
            .take_while(|started| started.is_none() || Some(*started) == newest)
            .count() as u64;
        // After the newest run was deleted, nothing but an honest total shows that the list ends before it.
        let watermark = feed.machine.feed().cursor.watermark.as_ref();
        let is_listed = watermark.is_none_or(|mark| account.world.run(&mark.id).is_some());
        let page = u64::from(self.settings.page_size);
        let back = match () {
            () if ties + 2 > page => 5 * (2 + ties / page),
            // So is a list that is hardly more than that, as its only page is as large as any: in two rounds, each of a
            // page, its last entry and what follows.
            () if ties + 1 >= shown.len() as u64 => 5,
            // Of a list as short as that, no page can be short.
            () if shown.len() < 3 || ties > 1 || !is_listed || account.lies_twice() => {
                // A total that is far too large has as many pages read at once as may be.
                let ahead = self.settings.read_ahead as u64;
                if account.lies_about_totals() {
                    5.max(2 + ahead)
                } else {
                    2
                }
            }
            () if account.gave_pairs() => 1,
            // So it is where the largest page is hardly larger than that, until the process has seen one.
            () if page <= 3 && account.lies_about_totals() => 5,
            () => 0,
        };
        if open == 0 {
            assert!(
                idle <= 1 + back + watch,
                "an idle poll took {idle} requests instead of {} (pages of {page}, {} entries, {ties} of them tie): {:?}",
                1 + back + watch,
                shown.len(),
                feed.machine
            );
        }
    }

    /// Audits every feed of an account at rest from the beginning.
    pub fn audit(&mut self, account: &mut Account) {
        // An audit in progress has passed over later changes; the next one sees them.
        let in_progress = self
            .feeds
            .iter()
            .any(|feed| feed.machine.feed().audit.is_some());
        for _ in 0..1 + u32::from(in_progress) {
            self.feeds
                .iter_mut()
                .for_each(|feed| feed.machine.request_audit());
            let mut unaudited: Vec<usize> = (0..self.feeds.len()).collect();
            for _ in 0..5_000 {
                if unaudited.is_empty() {
                    break;
                }
                self.round(account);
                unaudited.retain(|n| self.feeds[*n].outcome != Some(Outcome::Audited));
            }
            assert!(unaudited.is_empty(), "audits that do not end");
        }
    }

    pub fn events(&self) -> u64 {
        self.checks.events()
    }
}

impl Feed {
    fn load(task: &str, settings: &Settings, store: &SqliteStore, now: Timestamp) -> Self {
        let saved = Task {
            id: task.to_owned(),
            ..Task::default()
        };
        let state = ready(store.open_feed(&saved, now)).unwrap();
        let machine = Machine::new(settings.clone(), state);
        Self {
            task: task.to_owned(),
            machine,
            command: None,
            outcome: None,
            found: BTreeSet::new(),
            ahead: VecDeque::new(),
        }
    }
}
