//! Progress of long catch-ups: a bar on a terminal, else a log line every few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::Task;
use crate::text::escape;

/// Time between log lines where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// The most characters of a task's name beside its bar.
const MAX_NAME: usize = 60;

/// Catch-ups with fewer remaining entries end too soon to be worth showing.
const WORTH_SHOWING: u64 = 1_000;

/// Shows the progress of catch-ups.
#[derive(Debug)]
pub struct Progress {
    bars: Option<MultiProgress>,
    shown: Mutex<HashMap<String, Shown>>,
}

#[derive(Debug)]
struct Shown {
    bar: Option<ProgressBar>,
    logged: Instant,
}

impl Progress {
    /// Shows progress on `bars`, or in the log if there is no terminal.
    pub fn new(bars: Option<MultiProgress>) -> Self {
        Self {
            bars,
            shown: Mutex::default(),
        }
    }

    /// Bars on standard error.
    pub fn bars() -> MultiProgress {
        MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))
    }

    /// Shows that the feed of `task` is read, or audited, up to the entry `at`.
    pub fn show(&self, task: &Task, at: u64, total: Option<u64>) {
        let Some(total) = total else { return };
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let left = total.saturating_sub(at);
        if left == 0 {
            if let Some(Shown { bar: Some(bar), .. }) = all.remove(&task.id) {
                bar.finish_and_clear();
            }
            return;
        }
        let shown = match all.get_mut(&task.id) {
            Some(shown) => shown,
            None if left < WORTH_SHOWING => return,
            None => {
                let bar = self.bars.as_ref().map(|bars| bars.add(new_bar(task, at)));
                all.entry(task.id.clone()).or_insert(Shown {
                    bar,
                    logged: Instant::now(),
                })
            }
        };
        match &shown.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(at);
            }
            None if shown.logged.elapsed() >= LOG_EVERY => {
                shown.logged = Instant::now();
                tracing::info!(task = task.label(), at = at, of = total, "reading");
            }
            None => {}
        }
    }

    /// Removes all bars from the terminal.
    pub fn clear(&self) {
        let shown = self
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .collect::<Vec<_>>();
        for bar in shown.into_iter().filter_map(|(_, shown)| shown.bar) {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(task: &Task, position: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:<28} {bar:32} {human_pos:>9} / {human_len} runs  {eta}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length()
        .with_style(style)
        .with_prefix(escape(task.label(), MAX_NAME));
    // The estimate of the remaining time counts from here, not from the beginning of the list.
    bar.with_position(position)
}
