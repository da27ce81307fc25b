//! `query`: answers questions in SQL, and lists the views to ask.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

use crate::cli::answer::{Answer, Format, Screen};
use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::Globals;
use crate::cli::help;
use crate::cli::output::{Unwritable, print, print_json};
use crate::cli::settings;
use crate::options::Environment;
use crate::store::{Part, SqliteReader, View, views};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "the views, with their columns and an example each",
                "apify-mirror query",
            ),
            (
                "the tasks that fail most",
                "apify-mirror query \"SELECT task, failure_percent_7d FROM task_health ORDER BY 2 DESC\"",
            ),
            (
                "for a spreadsheet",
                "apify-mirror query --format csv \"SELECT * FROM daily_runs\" > daily.csv",
            ),
        ],
        &[
            (
                ExitCode::Usage,
                Some("wrong usage, or the question is wrong or does more than read"),
            ),
            (ExitCode::Storage, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `query`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One statement that only reads; without it, lists the views for people, with their columns and an example each
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// How the answer is printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,
    /// With `--format csv`: put an apostrophe before text that a spreadsheet would take for a formula
    #[arg(long, requires = "sql")]
    neutralize_formulas: bool,
}

/// Answers a question.
///
/// # Errors
/// When it is wrong or does more than read, or the database cannot be used.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    if args.neutralize_formulas && args.format != Format::Csv {
        return Err(CliError::Usage {
            flag: "--neutralize-formulas",
            command: "query",
            why: "only CSV is read by spreadsheets; add `--format csv`",
        });
    }
    let settings = settings::load(globals, environment)?;
    let Some(sql) = &args.sql else {
        list(args.format)?;
        return Ok(ExitCode::Ok);
    };
    let printing = Printing {
        answer: Answer::new(args.format, args.neutralize_formulas, screen()),
        failed: None,
    };
    let reader = SqliteReader::open(&settings.database)?;
    let printed = reader.query(sql.clone(), printing, Printing::take).await?;
    match printed.failed {
        Some(unwritable) => return Err(unwritable.into()),
        None => printed.answer.finish()?,
    }
    Ok(ExitCode::Ok)
}

/// An answer, and why it could not be printed to the end.
struct Printing {
    answer: Answer,
    failed: Option<Unwritable>,
}

impl Printing {
    /// Prints a part; returns whether the next one is wanted.
    fn take(&mut self, part: Part) -> bool {
        let printed = match part {
            Part::Columns(columns) => self.answer.begin(columns),
            Part::Row(row) => self.answer.row(row),
        };
        printed.unwrap_or_else(|unwritable| {
            self.failed = Some(unwritable);
            false
        })
    }
}

fn screen() -> Screen {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let size = is_terminal.then(|| tcgetwinsize(&stdout).ok()).flatten();
    Screen {
        is_terminal,
        // A terminal that does not know its size says 0.
        width: size
            .map(|size| size.ws_col.into())
            .filter(|width| *width > 0),
    }
}

fn list(format: Format) -> Result<(), CliError> {
    let views = views()?;
    match format {
        Format::Table => print(&text(&views))?,
        Format::Json => print_json(&views)?,
        Format::Csv | Format::Ndjson => {
            return Err(CliError::Usage {
                flag: "--format",
                command: "query",
                why: "without SQL, views are listed as text or with `--format json`",
            });
        }
    }
    Ok(())
}

fn text(views: &[View]) -> String {
    let mut text = String::new();
    for View {
        view,
        about,
        columns,
        example,
    } in views
    {
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "{view}: {about}\n  {}\n  apify-mirror query \"{example}\"\n",
            columns.join(", ")
        );
    }
    text + "Tables: runs, tasks, events, feeds, deliveries, sinks, unreadable_items.\n\
         Times are text in UTC, such as 2026-01-31T12:00:00.000Z: compare them with\n\
         strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day').\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_is_listed_with_its_columns_and_an_example() {
        let text = text(&views().unwrap());
        let entry = "build_health: failures by the build that the runs used\n  \
            task_id, task, build_number, first_run_at, runs, failures, failure_percent\n  \
            apify-mirror query \"SELECT build_number, ";
        assert!(text.contains(entry), "{text}");
        assert_eq!(text.matches("apify-mirror query").count(), 10);
    }
}
