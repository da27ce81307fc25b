//! The adapter between the real machine and the models: it answers what the store answers at once, and leaves reads of
//! the API to the search. Only this file and the mirror know the machine's commands.
//!
//! That a commit is acknowledged at once leaves nothing out: a process that dies before it is as one that died before the
//! read, and one that dies after it as one that dies before the next read.

use apify_mirror::model::Timestamp;
use apify_mirror::sync::{
    Command, Entry, FeedState, Input, Listing, Machine, Outcome, Page, ReadFailure, Seen, Settings,
    Single, Window,
};

use super::account::{Account, Manner, Run, Total};
use super::mirror::Mirror;
use crate::canonical::{self, Number};

/// The time, which stands still: what depends on it is tested elsewhere, and the search sees each state once.
pub const NOW: Timestamp = Timestamp::from_millis(2_000_000);

/// What the machine waits for.
#[derive(Clone, Debug)]
pub enum Wait {
    /// To be woken.
    Asleep(Outcome),
    /// For pages; those of the first windows were read.
    Pages(Vec<Window>, Vec<Page>),
    /// For single runs.
    Runs(Vec<String>),
}

/// A machine and what it waits for.
#[derive(Clone, Debug)]
pub struct Feed {
    settings: Settings,
    machine: Machine,
    /// Where the settings end in its text.
    settings_end: usize,
    pub wait: Wait,
    /// Pages that were read ahead of the one that the machine got last, in order.
    ahead: Vec<Page>,
    /// How the API answers.
    manner: Manner,
    /// Whether it went past entries that it could not read.
    went_past: bool,
}

impl Feed {
    /// A feed that has yet to be woken, as after a start of the process.
    pub fn new(settings: &Settings, state: FeedState, manner: Manner) -> Self {
        let machine = Machine::new(settings.clone(), state);
        let settings_end = format!("{machine:?}")
            .find(", feed: ")
            .expect("the feed comes after the settings");
        Self {
            settings: settings.clone(),
            machine,
            settings_end,
            wait: Wait::Asleep(Outcome::Failed),
            ahead: Vec::new(),
            manner,
            went_past: false,
        }
    }

    /// The process dies and is started again.
    pub fn restart(&mut self, mirror: &Mirror) {
        *self = Self::new(&self.settings, mirror.feed.clone(), self.manner);
    }

    pub fn request_audit(&mut self) {
        self.machine.request_audit();
    }

    /// Whether the next read is the one that decides what is history.
    pub fn reads_baseline(&self) -> bool {
        matches!(&self.wait, Wait::Pages(windows, _) if windows[0].listing == Listing::Newest)
    }

    pub fn wake(&mut self, mirror: &mut Mirror) -> Option<Outcome> {
        self.input(Input::Wake, mirror)
    }

    /// The API answers the next read, with equal starts in the order numbered `order`.
    pub fn answer(
        &mut self,
        account: &Account,
        order: usize,
        mirror: &mut Mirror,
    ) -> Option<Outcome> {
        let input = match &mut self.wait {
            Wait::Asleep(_) => panic!("nothing is read"),
            Wait::Runs(ids) => {
                let show = |id: &String| (id.clone(), single(account, id));
                Input::Runs(ids.iter().map(show).collect())
            }
            Wait::Pages(windows, pages) => {
                pages.push(page(&windows[pages.len()], account, order, self.manner));
                self.first_page()?
            }
        };
        self.input(input, mirror)
    }

    /// The first page, once all others were read ahead of it, which so are as old as they can be.
    fn first_page(&mut self) -> Option<Input> {
        match &mut self.wait {
            Wait::Pages(windows, pages) if pages.len() == windows.len() => {
                let first = pages.remove(0);
                self.ahead = std::mem::take(pages);
                Some(Input::Pages(vec![first]))
            }
            _ => None,
        }
    }

    /// The next read fails, and so do its retries. Pages that were read before it still count, and single reads that fail
    /// delay nothing else.
    pub fn fail(&mut self, mirror: &mut Mirror) -> Option<Outcome> {
        let input = match &mut self.wait {
            Wait::Pages(_, pages) if !pages.is_empty() => {
                let first = pages.remove(0);
                self.ahead = std::mem::take(pages);
                Input::Pages(vec![first])
            }
            Wait::Runs(ids) => Input::Runs(ids.drain(..).map(|id| (id, Single::Failed)).collect()),
            _ => Input::Failed(ReadFailure::Temporary),
        };
        self.input(input, mirror)
    }

    /// Gives the machine an input, and answers for the store until it reads or sleeps.
    fn input(&mut self, input: Input, mirror: &mut Mirror) -> Option<Outcome> {
        let mut command = self.machine.step(input, NOW);
        loop {
            self.went_past |= self.machine.take_missed() > 0;
            // A count that only grows would make every state a new one.
            self.machine.take_corrections();
            let cursor = &self.machine.feed().cursor;
            let input = match command {
                Command::LoadOpen { within, .. } => Input::Open(mirror.open_runs(cursor, within)),
                Command::Locate(ids) => Input::Located(mirror.distances(cursor, &ids)),
                Command::LoadUnseen { gaps, except } => {
                    Input::Unseen(mirror.unseen(&gaps, &except))
                }
                Command::Commit(commit) => Input::Committed {
                    unconfirmed: mirror.commit(&commit),
                },
                Command::Read { windows, begun } => {
                    self.ahead.truncate(begun);
                    let pages = std::mem::take(&mut self.ahead);
                    self.wait = Wait::Pages(windows, pages);
                    self.first_page()?
                }
                Command::ReadRuns(ids) => {
                    self.wait = Wait::Runs(ids);
                    return None;
                }
                Command::Sleep { outcome, .. } => {
                    self.wait = Wait::Asleep(outcome);
                    return Some(outcome);
                }
            };
            command = self.machine.step(input, NOW);
        }
    }

    /// Whether it went past entries since this was asked last.
    pub fn take_went_past(&mut self) -> bool {
        std::mem::take(&mut self.went_past)
    }

    /// How it went to sleep, if it sleeps.
    pub fn slept(&self) -> Option<Outcome> {
        match self.wait {
            Wait::Asleep(outcome) => Some(outcome),
            Wait::Pages(..) | Wait::Runs(_) => None,
        }
    }

    /// Writes what decides how it goes on.
    pub fn write(&self, text: &mut String) {
        use std::fmt::Write;
        let machine = format!("{:?}", self.machine);
        canonical::write(&machine[self.settings_end..], text, |number| match number {
            // How many polls there were only makes the waits between them differ.
            Number::Plain("polls", _) => 0,
            // No history reaches their limits.
            Number::Plain("reads" | "audit_reads" | "barren_polls", _) => 0,
            Number::Plain("failures", failures) => failures.min(1),
            Number::Duration("until_poll", left) => left.min(1),
            Number::Plain(_, other)
            | Number::Duration(_, other)
            | Number::Instant(_, other)
            | Number::Wrapped(_, other) => other,
        });
        if let Wait::Pages(_, pages) = &self.wait {
            for page in pages {
                let _ = write!(text, "{:?}{:?}", page.offset, page.total);
                for entry in &page.entries {
                    let _ = match entry {
                        Entry::Run(Seen { run, .. }) => {
                            write!(text, "{}{:?}{:?}", run.id, run.status, run.finished_at)
                        }
                        Entry::Unreadable(item) => write!(text, "{:?}", item.id),
                    };
                }
            }
        }
    }

    /// Describes what it waits for, for people.
    pub fn tell(&self) -> String {
        match &self.wait {
            Wait::Asleep(outcome) => format!("asleep after {outcome:?}"),
            Wait::Pages(windows, pages) => {
                let Window {
                    listing,
                    offset,
                    limit,
                } = windows[pages.len()];
                format!("{listing:?} from {offset}, up to {limit}")
            }
            Wait::Runs(ids) => format!("runs {ids:?}"),
        }
    }
}

/// What the API answers.
fn page(window: &Window, account: &Account, order: usize, manner: Manner) -> Page {
    let mut listed = account.listed(order);
    match window.listing {
        Listing::All => {}
        Listing::Newest => listed.reverse(),
        Listing::Active => listed.retain(|run| matches!(account.listed_as(*run), Run::Running(_))),
    }
    let all = listed.len() as u64;
    let shown = listed
        .into_iter()
        .skip(window.offset as usize)
        .take(manner.most.min(window.limit as usize));
    let entries: Vec<Entry> = shown.filter_map(|run| account.entry(run)).collect();
    Page {
        offset: Some(window.offset),
        limit: Some(u64::from(window.limit)),
        total: match manner.total {
            Total::True => Some(all),
            Total::Absent => None,
            Total::EndOfPage => Some(window.offset + entries.len() as u64),
        },
        desc: Some(window.listing == Listing::Newest),
        entries,
    }
}

fn single(account: &Account, id: &str) -> Single {
    let found = account.show(account.place(id));
    found.map_or(Single::Gone, |seen| Single::Found(Box::new(seen.clone())))
}
