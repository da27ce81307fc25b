//! Progress of long catch-ups and audits, all tasks together: one bar on a terminal, else a line of the log now and then.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle,
};

use crate::model::Task;
use crate::text::escape;

/// Time before the first line of the log; that between two doubles with each.
const FIRST_LINE: Duration = Duration::from_secs(5);

/// The longest time between two lines of the log.
const MOST_BETWEEN: Duration = Duration::from_secs(60);

/// How often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The most characters of an error beside the bar.
const MAX_ERROR: usize = 100;

/// With fewer entries left to read, the work ends too soon to be worth showing.
const WORTH_SHOWING: u64 = 1_000;

/// Shows how far the work is. Clones show the same.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: Option<MultiProgress>,
    shown: Arc<Mutex<Shown>>,
}

/// What is known of the work.
#[derive(Debug)]
struct Shown {
    /// How many tasks there are.
    tasks: usize,
    /// Those with nothing left to read.
    done: HashSet<String>,
    /// What is being read, by the task's id.
    reading: HashMap<String, Span>,
    /// Entries read of lists that are done.
    read: u64,
    /// When reading began: the first answer counts too.
    began: Instant,
    /// Not drawn where there is no terminal.
    bar: Option<ProgressBar>,
    told: Instant,
    next_line: Duration,
}

/// A part of a list.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Where reading began.
    from: u64,
    /// How far it has come.
    at: u64,
    /// Where the list ends.
    total: u64,
}

impl Progress {
    /// Shows progress on `bars`, or in the log if there is no terminal.
    pub fn new(bars: Option<MultiProgress>) -> Self {
        let shown = Shown {
            tasks: 0,
            done: HashSet::new(),
            reading: HashMap::new(),
            read: 0,
            began: Instant::now(),
            bar: None,
            told: Instant::now(),
            next_line: FIRST_LINE,
        };
        Self {
            bars,
            shown: Arc::new(Mutex::new(shown)),
        }
    }

    /// Bars on standard error.
    pub fn bars() -> MultiProgress {
        MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))
    }

    /// Says that there are `tasks` tasks.
    pub fn expect(&self, tasks: usize) {
        self.lock().tasks = tasks;
    }

    /// Says that a feed begins to be read, before its first request.
    pub fn begin(&self) {
        let mut shown = self.lock();
        if shown.bar.is_none() {
            shown.began = Instant::now();
        }
    }

    /// Shows that the feed of `task` is read, or audited, from the entry `from` up to the entry `at` of `total`.
    pub fn show(&self, task: &Task, from: u64, at: u64, total: Option<u64>) {
        let Some(total) = total else { return };
        let mut shown = self.lock();
        shown.add(&task.id, from, at, total);
        let (read, all) = shown.counts();
        if shown.bar.is_none() {
            if all - read < WORTH_SHOWING {
                return;
            }
            shown.begin(self.bars.as_ref());
        }
        shown.update();
    }

    /// Shows that there is nothing to read of the task `id` for now, because all is read or because that failed.
    pub fn done(&self, id: &str) {
        let mut shown = self.lock();
        let span = shown.reading.remove(id);
        // What was read before anything was worth showing is not part of it.
        if let Some(span) = span.filter(|_| shown.bar.is_some()) {
            shown.read += span.at - span.from;
        }
        shown.done.insert(id.to_owned());
        shown.update_or_end();
    }

    /// Shows that the task `id` is not read any more.
    pub fn forget(&self, id: &str) {
        let mut shown = self.lock();
        shown.reading.remove(id);
        shown.done.remove(id);
        shown.tasks = shown.tasks.saturating_sub(1);
        shown.update_or_end();
    }

    /// Tells how far the work is, as long as this is polled: now and then in the log where there is no terminal, and also
    /// while nothing moves. `trouble` gives what makes requests be made again, if anything does; where `always` is set, that
    /// is also told while nothing long is under way.
    pub async fn keep_telling(
        &self,
        always: bool,
        trouble: impl Fn() -> Option<String>,
    ) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.tell(always, trouble());
        }
    }

    fn tell(&self, always: bool, trouble: Option<String>) {
        let mut shown = self.lock();
        if shown.counts().1 == 0 && trouble.is_none() {
            // Nothing but trouble was shown.
            shown.end();
        }
        if shown.bar.is_none() && (trouble.is_none() || !always) {
            return;
        }
        if self.bars.is_some() {
            if shown.bar.is_none() {
                shown.begin(self.bars.as_ref());
            }
            shown.draw(trouble);
        } else if shown.told.elapsed() >= shown.next_line {
            shown.told = Instant::now();
            shown.next_line = MOST_BETWEEN.min(shown.next_line * 2);
            shown.log(trouble);
        }
    }

    /// Removes the bar from the terminal.
    pub fn clear(&self) {
        self.lock().end();
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn add(&mut self, id: &str, from: u64, at: u64, total: u64) {
        let at = at.min(total);
        let span = Span {
            from: from.min(at),
            at,
            total,
        };
        let span = self
            .reading
            .entry(id.to_owned())
            .and_modify(|span| {
                // An audit begins anew.
                span.from = span.from.min(at);
                (span.at, span.total) = (at, total);
            })
            .or_insert(span);
        if span.at < span.total {
            self.done.remove(id);
        }
    }

    /// How many entries have been read, and how many there were to read.
    fn counts(&self) -> (u64, u64) {
        let spans = self.reading.values();
        spans.fold((self.read, self.read), |(read, all), span| {
            let (span_read, span_all) = (span.at - span.from, span.total - span.from);
            (read.saturating_add(span_read), all.saturating_add(span_all))
        })
    }

    fn begin(&mut self, bars: Option<&MultiProgress>) {
        let bar = match bars {
            Some(bars) => bars.add(ProgressBar::no_length()),
            None => ProgressBar::hidden(),
        };
        self.bar = Some(bar);
        if self.told.elapsed() >= MOST_BETWEEN {
            self.next_line = FIRST_LINE;
            self.told = Instant::now();
        }
    }

    fn update_or_end(&mut self) {
        if self.reading.is_empty() && self.done.len() >= self.tasks {
            self.end();
        } else {
            self.update();
        }
    }

    fn update(&self) {
        let (read, all) = self.counts();
        if let Some(bar) = &self.bar {
            bar.set_style(self.style());
            bar.set_length(all);
            bar.set_position(read);
        }
    }

    /// Entries read in a second, and how long the rest takes at that rate.
    fn rate(&self) -> (u64, Duration) {
        let (read, all) = self.counts();
        let rate = read as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let left = all.saturating_sub(read) as f64 / rate.max(0.001);
        (rate as u64, Duration::from_secs(left as u64))
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.reading.clear();
        self.read = 0;
    }

    /// The line on the terminal: what is known of the work, and a message.
    fn style(&self) -> ProgressStyle {
        let (rate, left) = self.rate();
        let (rate, left) = (HumanCount(rate), HumanDuration(left));
        let template = match self.counts().1 {
            0 => "{msg}".to_owned(),
            _ => format!(
                "{{bar:20}} {{human_pos}} / {{human_len}} runs  {rate}/s  {left:#} left{{msg}}"
            ),
        };
        let style = ProgressStyle::with_template(&template);
        style.unwrap_or_else(|_| ProgressStyle::default_bar())
    }

    /// Tasks that are done, of how many.
    fn tasks(&self) -> (usize, usize) {
        let done = self.done.len();
        (done, self.tasks.max(done + self.reading.len()))
    }

    fn draw(&self, trouble: Option<String>) {
        let Some(bar) = &self.bar else { return };
        let (done, tasks) = self.tasks();
        let mut rest = match tasks {
            0 | 1 => String::new(),
            tasks => format!("  {done} / {tasks} tasks"),
        };
        if let Some(error) = trouble {
            rest += &format!("  retrying: {}", escape(error, MAX_ERROR));
        }
        let is_known = self.counts().1 > 0;
        bar.set_style(self.style());
        bar.set_message(match is_known {
            true => rest,
            false => rest.trim_start().to_owned(),
        });
        bar.tick();
    }

    fn log(&self, trouble: Option<String>) {
        let (done, tasks) = self.tasks();
        let trouble = trouble.map(|error| escape(error, MAX_ERROR));
        let (read, all) = self.counts();
        match (&self.bar, trouble) {
            (Some(_), None) => tracing::info!(
                runs = read,
                of = all,
                runs_per_second = self.rate().0,
                left = %HumanDuration(self.rate().1),
                tasks_done = done,
                tasks,
                "reading"
            ),
            (Some(_), Some(error)) => tracing::info!(
                runs = read,
                of = all,
                tasks_done = done,
                tasks,
                "retrying: {error}"
            ),
            (None, Some(error)) => tracing::info!("retrying: {error}"),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
