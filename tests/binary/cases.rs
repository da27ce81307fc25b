//! Command lines and their expected results, for table-driven tests.

use std::process::Output;

use crate::support::{Setup, stderr, stdout};

/// A command line and its expected result. By default, the set-up's task is configured and the command must exit with 0.
#[must_use]
pub struct Case {
    arguments: Vec<String>,
    /// Variables to set, or to remove if there is no value.
    environment: Vec<(String, Option<String>)>,
    code: i32,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

impl Case {
    /// Runs the binary with `arguments`.
    pub fn of(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
            code: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// Configures no task.
    pub fn bare(self) -> Self {
        self.without("APIFY_MIRROR_TASKS")
    }

    /// Sets the variable `name`.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Removes the variable `name`.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.push((name.to_owned(), None));
        self
    }

    /// Expects the exit code `code`.
    pub fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// Expects `text` on standard output.
    pub fn stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout.push(text.into());
        self
    }

    /// Expects `text` on standard error.
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.stderr.push(text.into());
        self
    }

    /// Runs the command and checks its result; returns its output.
    pub fn check(&self, setup: &Setup) -> Output {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = setup.command(&arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().unwrap();
        let (out, err) = (stdout(&output), stderr(&output));
        let printed = format!("{arguments:?} printed:\n{out}\nand on standard error:\n{err}");
        assert_eq!(output.status.code(), Some(self.code), "{printed}");
        for text in &self.stdout {
            assert!(out.contains(text), "{text:?} is not in what {printed}");
        }
        for text in &self.stderr {
            assert!(
                err.contains(text),
                "{text:?} is not in the errors of what {printed}"
            );
        }
        output
    }
}

/// Checks all `cases`.
pub fn check_all(setup: &Setup, cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        case.check(setup);
    }
}
