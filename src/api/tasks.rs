//! The tasks of an account, gathered from the pages of their list.

use std::collections::HashSet;

use crate::model::Task;

/// The most tasks that cannot be read, and are told one by one.
const MAX_TOLD: usize = 20;

/// The tasks of a list, page by page.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: Vec<Task>,
    ids: HashSet<String>,
    entries: usize,
    unreadable: usize,
}

impl Tasks {
    /// Adds a page that begins at the offset `begin`; returns whether it has a task that is not known.
    pub fn add(&mut self, begin: u64, page: Vec<Result<Task, String>>) -> bool {
        let known = self.tasks.len();
        self.entries += page.len();
        for (position, task) in (begin..).zip(page) {
            match task {
                Ok(task) if self.ids.insert(task.id.clone()) => self.tasks.push(task),
                Ok(_) => {}
                Err(reason) => {
                    self.unreadable += 1;
                    if self.unreadable <= MAX_TOLD {
                        tracing::warn!(
                            position,
                            "a task in the list of tasks cannot be read: {reason}"
                        );
                    }
                }
            }
        }
        self.tasks.len() > known
    }

    /// How many entries were read, also those that are known or cannot be read.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The tasks, each once, in the order of the list.
    pub fn finish(self) -> Vec<Task> {
        if let Some(more @ 1..) = self.unreadable.checked_sub(MAX_TOLD) {
            tracing::warn!("{more} more tasks in the list of tasks cannot be read");
        }
        self.tasks
    }
}
