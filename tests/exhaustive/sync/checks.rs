//! What must hold of a mirror, see [the module](super).

use apify_mirror::model::{EventType, Timestamp};

use super::account::{NAMES, Run};
use super::{Runs, World, bit};

impl World {
    /// Checks what holds at any time.
    pub fn check(&self) -> Result<(), String> {
        if self.reads > self.plan.reads {
            return Err(format!("{} reads without a sleep", self.reads));
        }
        for (nth, run) in self.runs() {
            let (name, Some(row)) = (NAMES[nth], self.row(nth)) else {
                continue;
            };
            if row.stored.removed && run != Run::Deleted {
                return Err(format!("{name} is marked as removed, and is listed"));
            }
            let created = row
                .events
                .iter()
                .filter(|event| **event == EventType::Created)
                .count();
            let is_history = self
                .history
                .is_some_and(|newest| self.account.starts[nth] <= newest);
            if created != usize::from(!is_history) && !(self.given_up && created == 0) {
                return Err(format!("{name} has raised CREATED {created} times"));
            }
            let lives = match run {
                Run::Running(lives) | Run::Ended(lives) => usize::from(lives),
                Run::Unborn | Run::Deleted => 1,
            };
            let resurrected = row
                .events
                .iter()
                .filter(|event| **event == EventType::Resurrected);
            if resurrected.count() > lives {
                return Err(format!(
                    "{name} was {run:?}, and has raised {:?}",
                    row.events
                ));
            }
            let began = |event: &EventType| matches!(event, EventType::Entered(status) if !status.is_terminal());
            if row.events.iter().any(began) {
                return Err(format!(
                    "{name} was resurrected, and has raised {:?}",
                    row.events
                ));
            }
            if row.events.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(format!("{name} has raised {:?}", row.events));
            }
        }
        Ok(())
    }

    /// Checks what holds after a poll that caught up.
    pub fn check_poll(&self) -> Result<(), String> {
        for (nth, run) in self.runs() {
            let name = NAMES[nth];
            let is_kept = self.row(nth).is_some_and(|row| !row.stored.removed);
            let throughout = match self.plan.found_at_once || self.is_passed(nth) {
                true => self.throughout,
                false => self.longer,
            };
            let throughout = throughout & !self.excused;
            if throughout & bit(nth) != 0 && !is_kept {
                return Err(format!(
                    "{name} was listed throughout the poll, and is not in the mirror"
                ));
            }
            if self.unchanged & throughout & bit(nth) != 0 && !self.is_mirrored(nth) {
                return Err(format!(
                    "{name} was {run:?} throughout the poll, and is not in the mirror"
                ));
            }
        }
        match self.quiet && !self.equals_but(self.excused) {
            true => Err(
                "nothing changed during the poll, and the mirror is not as the account".to_owned(),
            ),
            false => Ok(()),
        }
    }

    /// Whether the cursor has moved past the start of a run.
    fn is_passed(&self, nth: usize) -> bool {
        let start = Timestamp::from_millis(self.account.starts[nth] * 1_000);
        let watermark = self.mirror.feed.cursor.watermark.as_ref();
        watermark.is_some_and(|watermark| start < watermark.started)
    }

    /// The run that lists show unreadable, without its id.
    fn unreadable(&self) -> Runs {
        match self.account.unreadable {
            Some((run, false)) => bit(run),
            _ => 0,
        }
    }

    /// Checks what holds after an audit during which nothing changed.
    pub fn check_audit(&self) -> Result<(), String> {
        let marked = |nth: usize| self.row(nth).is_none_or(|row| row.stored.removed);
        let unmarked = self
            .runs()
            .find(|(nth, run)| *run == Run::Deleted && !marked(*nth));
        match unmarked {
            Some((nth, _)) => Err(format!(
                "{} was deleted, and is not marked after an audit",
                NAMES[nth]
            )),
            None if !self.equals_but(self.unreadable()) => {
                Err("an audit left a difference".to_owned())
            }
            None => Ok(()),
        }
    }
}
