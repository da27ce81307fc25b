//! How the account's server answers: pages of lists and single runs, with everything that answers were seen to do.
//!
//! What it does throughout a history (lies about totals and offsets, ignored parameters, the order of ties, starts that
//! cannot be read) does not stop when the account comes to rest: the mirror must become equal to it all the same.

use std::collections::BTreeMap;

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Rng, SimRun};
use apify_mirror::sync::{Entry, Listing, Page, Seen, Single, Unreadable, Window};
use serde_json::{Value, json};

use super::account::Account;
use super::hazards::{Hazard, Hazards};

/// How long a list may show a run as it was before its last change.
pub const LONGEST_LAG_MS: i64 = 15_000;

/// What answers say about `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Totals {
    True,
    Absent,
    /// What it was in the answer before.
    Stale,
    TooSmall,
    TooLarge,
    /// The end of the page.
    PageEnd,
    /// Any of these.
    Mixed,
}

/// What answers say about `offset` and `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claims {
    True,
    Absent,
    /// Always the beginning.
    Zero,
    Anything,
}

/// The largest offset or count that is believed of an answer.
const MOST: u64 = 1_000_000_000_000;

/// How a start is shown.
enum Shown {
    AsItIs,
    Nothing,
    Nonsense,
    Far,
    /// Where years end that can be written.
    Farthest,
}

/// How the server answers.
pub struct Server {
    seed: u64,
    max_limit: u64,
    /// The least that `max_limit` ever was.
    least_limit: u64,
    pub ignores_offset: bool,
    totals: Totals,
    claims: Claims,
    ignores_desc: bool,
    ignores_status: bool,
    ignores_limit: bool,
    last_total: u64,
    /// Runs before their last change, and when that was.
    earlier: BTreeMap<String, (Timestamp, Value)>,
}

impl Server {
    pub fn new(seed: u64, hazards: &Hazards) -> Self {
        let mut rng = Rng::new(seed ^ 0x5e7e);
        let mut one_of = |hazard, n| if hazards.has(hazard) { rng.below(n) } else { 0 };
        let totals = [
            Totals::True,
            Totals::Absent,
            Totals::Stale,
            Totals::TooSmall,
            Totals::TooLarge,
            Totals::PageEnd,
            Totals::Mixed,
        ][one_of(Hazard::LyingTotals, 7) as usize];
        let claims = [Claims::True, Claims::Absent, Claims::Zero, Claims::Anything]
            [one_of(Hazard::LyingOffsets, 4) as usize];
        let ignored = one_of(Hazard::IgnoredParameters, 8);
        Self {
            seed,
            max_limit: 1_000,
            least_limit: 1_000,
            ignores_offset: false,
            totals,
            claims,
            ignores_desc: ignored & 1 > 0,
            ignores_status: ignored & 2 > 0,
            ignores_limit: ignored & 4 > 0,
            last_total: 0,
            earlier: BTreeMap::new(),
        }
    }

    /// Gives pages of at most `limit` entries from now on.
    pub fn set_max_limit(&mut self, limit: u64) {
        self.max_limit = limit;
        self.least_limit = self.least_limit.min(limit);
    }

    /// A number that belongs to a run, from 0 to 99.
    fn lot(&self, id: &str, what: u64) -> u64 {
        let sum = id.bytes().fold(self.seed ^ what, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Rng::new(sum).below(100)
    }

    /// How the start of a run is shown.
    fn shown_start(&self, id: &str) -> Shown {
        match self.lot(id, 1) {
            0..6 => Shown::Nothing,
            6..10 => Shown::Nonsense,
            10..12 => Shown::Far,
            12..14 => Shown::Farthest,
            _ => Shown::AsItIs,
        }
    }
}

impl Account {
    /// Remembers how a list shows a run that is about to change.
    pub(super) fn remember(&mut self, id: &str) {
        if let Some(item) = self.world.run_item(id) {
            let item = self.as_shown(item);
            self.server.earlier.insert(id.to_owned(), (self.now, item));
        }
    }

    /// Whether a run can never be read, neither in a list nor singly.
    pub fn is_unreadable(&self, id: &str) -> bool {
        self.has(Hazard::OddItems) && self.server.lot(id, 2) < 4
    }

    /// An item as the server shows it: its start may be odd.
    pub fn as_shown(&self, mut item: Value) -> Value {
        if !self.has(Hazard::OddStarts) {
            return item;
        }
        let id = item["id"].as_str().unwrap_or_default();
        match self.server.shown_start(id) {
            Shown::AsItIs => {}
            Shown::Nothing => item["startedAt"] = Value::Null,
            Shown::Nonsense => item["startedAt"] = json!("soon"),
            Shown::Far => item["startedAt"] = json!("2099-01-01T00:00:00.000Z"),
            Shown::Farthest => item["startedAt"] = json!("9999-12-30T22:00:00.999Z"),
        }
        item
    }

    /// The latest start that is believed.
    pub fn latest_start(&self) -> Timestamp {
        Timestamp::from_millis(self.now.as_millis() + 600_000)
    }

    /// Whether both `total` and `offset` may be untrue in one answer, which then takes another read to be judged.
    pub fn lies_twice(&self) -> bool {
        let claims = [Claims::Zero, Claims::Anything].contains(&self.server.claims);
        claims && self.lies_about_totals() && self.server.totals != Totals::Absent
    }

    /// Whether it gave pages no larger than those that an idle poll reads: two entries. A mirror that has seen no larger one
    /// since it was started cannot take them for short.
    pub fn gave_pairs(&self) -> bool {
        self.server.least_limit <= 2
    }

    /// Whether `total` may be untrue, or is missing.
    pub fn lies_about_totals(&self) -> bool {
        self.server.totals != Totals::True
    }

    /// Whether the list of active runs is one. Otherwise only audits find what happens far behind the cursor.
    pub fn shows_activity(&self) -> bool {
        !self.server.ignores_status
    }

    /// The smallest page that a server gives. One of three entries may seem to be the whole list, where its total lies;
    /// and smaller pages than ten cannot show what lies before and after several entries without a start.
    pub fn smallest_page(&self) -> u64 {
        match () {
            () if self.has(Hazard::OddStarts) || self.has(Hazard::OddItems) => 10,
            () if self.has(Hazard::LyingTotals) => 3,
            () => 1,
        }
    }

    pub fn answer(&mut self, task: &str, window: &Window) -> Page {
        let (ids, lags) = self.order(task, window.listing);
        let full = ids.len() as u64;
        let ignores_offset =
            self.server.ignores_offset || self.misbehaves(Hazard::IgnoredOffsets, 2.0);
        let offset = if ignores_offset { 0 } else { window.offset };
        let asked = match self.server.ignores_limit {
            true => 1_000,
            false => u64::from(window.limit),
        };
        let least = self.smallest_page();
        let limit = asked.min(self.server.max_limit.max(least));
        let mut entries: Vec<Entry> = ids
            .iter()
            .skip(usize::try_from(offset).unwrap_or(usize::MAX))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .map(|id| self.entry(self.shown_item(id, lags)))
            .collect();
        if entries.len() > 1 && self.misbehaves(Hazard::CutPages, 3.0) {
            let kept = 1 + self.rng.below(entries.len() as u64 - 1) as usize;
            entries.truncate(kept);
        }
        let end = offset + entries.len() as u64;
        let total = self.total(full, end);
        let (offset, limit) = self.claims(offset, limit);
        let desc = match self.server.ignores_desc {
            true => self.rng.chance(50.0).then_some(false),
            false => Some(window.listing == Listing::Newest),
        };
        Page {
            offset,
            limit,
            total,
            desc,
            entries,
        }
    }

    /// Adds an answer to the trace.
    pub fn note_page(&mut self, window: &Window, page: &Page) {
        if !self.is_traced() {
            return;
        }
        let short = |entry: &Entry| {
            let id = entry.id().unwrap_or("?").get(..4).unwrap_or("?").to_owned();
            match entry.started() {
                Some(at) => format!("{id}@{}", at.as_millis() % 10_000_000),
                None => id,
            }
        };
        let entries: Vec<String> = page.entries.iter().map(short).collect();
        let testimony = (page.offset, page.limit, page.total, page.desc);
        let line = format!("{window:?} {testimony:?} {}", entries.join(" "));
        self.note("page", &line);
    }

    /// The ids of all runs that a listing has, in the order of one answer, and whether that answer lags.
    fn order(&mut self, task: &str, listing: Listing) -> (Vec<String>, bool) {
        let lags = self.misbehaves(Hazard::LaggingLists, 4.0);
        let salt = self.rng.below(u64::MAX);
        let shuffles = self.has(Hazard::TieOrders);
        let mut runs: Vec<(Timestamp, u64, &SimRun)> = Vec::new();
        for (n, run) in self.world.runs(task).enumerate() {
            let order = match shuffles {
                true => Rng::new(salt ^ n as u64).below(u64::MAX),
                false => n as u64,
            };
            runs.push((run.started_at, order, run));
        }
        runs.sort_by_key(|(started, order, _)| (*started, *order));
        match listing {
            Listing::Newest if !self.server.ignores_desc => runs.reverse(),
            Listing::Active if !self.server.ignores_status => {
                runs.retain(|(.., run)| RunStatus::ACTIVE.contains(&self.shown_status(run, lags)));
            }
            _ => {}
        }
        (
            runs.into_iter().map(|(.., run)| run.id.clone()).collect(),
            lags,
        )
    }

    /// A run as it was before its last change, if a list that lags still shows it like that.
    fn earlier(&self, id: &str, lags: bool) -> Option<&Value> {
        let (at, item) = self.server.earlier.get(id).filter(|_| lags)?;
        (self.now.since(*at).as_millis() <= LONGEST_LAG_MS as u128).then_some(item)
    }

    fn shown_status(&self, run: &SimRun, lags: bool) -> RunStatus {
        match self.earlier(&run.id, lags) {
            Some(item) => RunStatus::from_api(item["status"].as_str().unwrap_or_default()),
            None => run.status.clone(),
        }
    }

    fn shown_item(&self, id: &str, lags: bool) -> Value {
        match self.earlier(id, lags) {
            Some(item) => item.clone(),
            None => self.as_shown(self.world.run_item(id).unwrap_or_default()),
        }
    }

    fn entry(&mut self, item: Value) -> Entry {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let hidden = self.is_unreadable(&id);
        // One that the mirror reads singly and fails, or dies before that, is left to an audit.
        let for_a_while = self.is_unwatched() && self.misbehaves(Hazard::OddItems, 0.5);
        if hidden || for_a_while {
            // Of an entry that cannot be read for a while, only the id tells which run to read singly.
            let has_id = !hidden || self.server.lot(&id, 3) < 50;
            return Entry::Unreadable(Unreadable {
                id: has_id.then_some(id),
                reason: "it is odd".to_owned(),
                body: "null".to_owned(),
            });
        }
        Entry::Run(Seen::from_json(item, self.latest_start()).unwrap())
    }

    fn total(&mut self, full: u64, end: u64) -> Option<u64> {
        let stale = std::mem::replace(&mut self.server.last_total, full);
        let totals = match self.server.totals {
            Totals::Mixed => *self.pick(&[
                Totals::True,
                Totals::Absent,
                Totals::Stale,
                Totals::TooSmall,
                Totals::TooLarge,
            ]),
            other => other,
        };
        match totals {
            Totals::True | Totals::Mixed => Some(full),
            Totals::Absent => None,
            Totals::Stale => Some(stale),
            Totals::TooSmall => Some(self.rng.below(full.max(1))),
            Totals::TooLarge => {
                let most = *self.pick(&[20, 20, 20, MOST]);
                Some(full + 1 + self.rng.below(most))
            }
            Totals::PageEnd => Some(end),
        }
    }

    fn claims(&mut self, offset: u64, limit: u64) -> (Option<u64>, Option<u64>) {
        match self.server.claims {
            Claims::True => (Some(offset), Some(limit)),
            Claims::Absent => (None, None),
            Claims::Zero => (Some(0), Some(1_000)),
            // It does not say so at the beginning, which leaves no way to begin.
            Claims::Anything if offset == 0 => (Some(0), Some(self.rng.below(2_000))),
            Claims::Anything => {
                let most = *self.pick(&[100, 100, 100, MOST]);
                (Some(self.rng.below(most)), Some(self.rng.below(2_000)))
            }
        }
    }

    pub fn detail(&self, id: &str) -> Single {
        if self.is_unreadable(id) && self.world.run(id).is_some() {
            return Single::Failed;
        }
        match self.world.run_detail(id) {
            None => Single::Gone,
            Some(json) => {
                let seen = Seen::from_json(self.as_shown(json), self.latest_start()).unwrap();
                Single::Found(Box::new(seen))
            }
        }
    }
}
