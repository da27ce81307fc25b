//! `deliveries`: lists, retries or drops events that could not be delivered.

use std::path::Path;

use clap::Subcommand;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, MAX_LIMIT};
use crate::cli::help;
use crate::cli::output::{print, print_json, print_styled};
use crate::cli::settings;
use crate::cli::styles::of_delivery;
use crate::cli::table::{Table, counted};
use crate::model::Timestamp;
use crate::options::Environment;
use crate::store::{
    Delivery, Reader, Selection, SqliteReader, SqliteStore, Store, StoreError, Which,
};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "what could not be delivered",
                "apify-mirror deliveries list",
            ),
            (
                "try everything again that a sink is owed",
                "apify-mirror deliveries retry --all --sink hook",
            ),
            (
                "give up on two events",
                "apify-mirror deliveries drop 17 18",
            ),
        ],
        &[(ExitCode::Storage, None), (ExitCode::Configuration, None)],
    )
}

/// The flags of `deliveries`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List events that were set aside, or that failed and wait for another attempt
    #[command(after_help = after_help())]
    List(ListArgs),
    /// Retry events at once that were set aside or wait for another attempt
    #[command(after_help = after_help())]
    Retry(RetryArgs),
    /// Give up for good on events that were set aside; they stay in the event log
    #[command(after_help = after_help())]
    Drop(DropArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Events for this sink only
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Also events that have not been attempted yet
    #[arg(long)]
    all: bool,
    /// At most so many, oldest first
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(..=MAX_LIMIT))]
    limit: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RetryArgs {
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Debug, clap::Args)]
struct DropArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// With --all: also events that were not set aside, such as those of a sink that is no longer configured
    #[arg(long, requires = "all", conflicts_with = "seqs")]
    pending: bool,
}

/// The flags that choose events.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Chosen {
    /// The numbers of the events
    #[arg(
        value_name = "SEQ",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    seqs: Vec<i64>,
    /// All events, instead of those with the given numbers
    #[arg(long)]
    all: bool,
    /// Events for this sink only
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

/// Lists or changes the deliveries in the mirror, whether a daemon runs or not.
///
/// # Errors
/// When the settings are not valid or the database cannot be used.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let database = settings::load(globals, environment)?.database;
    match &args.action {
        Action::List(args) => {
            let found = list(&database, &args.selection(), args.limit).await?;
            if args.json {
                print_json(&found)?;
            } else {
                print_styled(&text(&found, args.all))?;
            }
        }
        Action::Retry(args) => {
            let retried = retry(&database, &args.chosen.selection(Which::Failed)).await?;
            let text = format!("{} to be tried again\n", counted(retried, "delivery"));
            print(&text)?;
        }
        Action::Drop(args) => {
            let dropped = discard(&database, &args.selection()).await?;
            print(&format!("{} dropped\n", counted(dropped, "delivery")))?;
        }
    }
    Ok(ExitCode::Ok)
}

async fn list(
    database: &Path,
    selection: &Selection,
    limit: u64,
) -> Result<Vec<Delivery>, StoreError> {
    SqliteReader::open(database)?
        .deliveries(selection, limit)
        .await
}

async fn retry(database: &Path, selection: &Selection) -> Result<u64, StoreError> {
    let (store, writer) = SqliteStore::open_beside(database)?;
    let retried = store.retry_deliveries(selection, Timestamp::now()).await;
    drop(store);
    writer.join();
    retried
}

async fn discard(database: &Path, selection: &Selection) -> Result<u64, StoreError> {
    let (store, writer) = SqliteStore::open_beside(database)?;
    let dropped = store.drop_deliveries(selection, Timestamp::now()).await;
    drop(store);
    writer.join();
    dropped
}

impl ListArgs {
    fn selection(&self) -> Selection {
        Selection {
            sink: self.sink.clone(),
            seqs: Vec::new(),
            which: if self.all { Which::All } else { Which::Failed },
        }
    }
}

impl DropArgs {
    fn selection(&self) -> Selection {
        // An event that is named by its number is dropped in any state.
        let is_any_state = self.pending || !self.chosen.all;
        self.chosen.selection(if is_any_state {
            Which::All
        } else {
            Which::Dead
        })
    }
}

impl Chosen {
    fn selection(&self, which: Which) -> Selection {
        Selection {
            sink: self.sink.clone(),
            seqs: self.seqs.clone(),
            which,
        }
    }
}

fn text(found: &[Delivery], all: bool) -> String {
    match (found, all) {
        ([], false) => return "no delivery has failed\n".to_owned(),
        ([], true) => return "no delivery is pending or has failed\n".to_owned(),
        _ => {}
    }
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    Table::of(found)
        .column("seq", |delivery| delivery.seq)
        .column("sink", |delivery| &delivery.sink)
        .column("type", |delivery| &delivery.r#type)
        .column("run", |delivery| &delivery.run_id)
        .styled(
            "state",
            |delivery| delivery.state,
            |delivery| of_delivery(delivery.state),
        )
        .column("attempts", |delivery| delivery.attempts)
        .column("last attempt", |delivery| {
            or_dash(&delivery.last_attempt_at)
        })
        .column("next attempt", |delivery| or_dash(&delivery.due_at))
        .column("error", |delivery| or_dash(&delivery.last_error))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain;
    use crate::store::DeliveryState;
    use clap::Parser;
    use insta::assert_snapshot;

    /// The command line of `deliveries` alone.
    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn selection(line: &str) -> Selection {
        let line = Line::parse_from(format!("deliveries {line}").split(' '));
        match &line.args.action {
            Action::List(args) => args.selection(),
            Action::Retry(args) => args.chosen.selection(Which::Failed),
            Action::Drop(args) => args.selection(),
        }
    }

    #[test]
    fn flags_choose_deliveries() {
        for (line, seqs, sink, which) in [
            ("list", &[][..], None, Which::Failed),
            ("list --all --sink a", &[], Some("a"), Which::All),
            ("retry 3 4", &[3, 4], None, Which::Failed),
            ("retry --all --sink a", &[], Some("a"), Which::Failed),
            ("drop 3", &[3], None, Which::All),
            ("drop --all", &[], None, Which::Dead),
            ("drop --all --pending", &[], None, Which::All),
        ] {
            let expected = Selection {
                sink: sink.map(str::to_owned),
                seqs: seqs.to_vec(),
                which,
            };
            assert_eq!(selection(line), expected, "{line}");
        }
    }

    #[test]
    fn events_must_be_chosen() {
        for line in [
            "retry",
            "drop",
            "drop --pending",
            "drop 3 --pending",
            "retry 3 --all",
        ] {
            let line = format!("deliveries {line}");
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn a_limit_that_the_database_cannot_count_is_wrong_usage() {
        for (limit, is_valid) in [
            ("0", true),
            ("9223372036854775807", true),
            ("9223372036854775808", false),
            ("18446744073709551615", false),
        ] {
            let line = ["deliveries", "list", "--limit", limit];
            assert_eq!(Line::try_parse_from(line).is_ok(), is_valid, "{limit}");
        }
    }

    #[test]
    fn a_list_is_a_table() {
        let retrying = Delivery {
            sink: "hook".to_owned(),
            seq: 12_345,
            id: "evt_abc_1".to_owned(),
            r#type: "ACTOR.RUN.SUCCEEDED".to_owned(),
            run_id: "abc".to_owned(),
            state: DeliveryState::Retrying,
            attempts: 3,
            last_attempt_at: Some("2026-01-10T11:58:00.000Z".to_owned()),
            due_at: Some("2026-01-10T12:00:00.000Z".to_owned()),
            dead_at: None,
            last_error: Some("503 Service Unavailable".to_owned()),
        };
        let waiting = Delivery {
            seq: 12_346,
            state: DeliveryState::Waiting,
            attempts: 0,
            last_attempt_at: None,
            due_at: None,
            last_error: None,
            ..retrying.clone()
        };
        let dead = Delivery {
            seq: 9,
            state: DeliveryState::Dead,
            due_at: None,
            dead_at: Some("2026-01-10T11:58:00.000Z".to_owned()),
            last_error: Some("410 Gone".to_owned()),
            ..retrying.clone()
        };
        assert_snapshot!(plain(&text(&[dead, retrying, waiting], true)), @r"
          seq  sink  type                 run  state     attempts              last attempt              next attempt                    error
            9  hook  ACTOR.RUN.SUCCEEDED  abc  dead             3  2026-01-10T11:58:00.000Z                         -                 410 Gone
        12345  hook  ACTOR.RUN.SUCCEEDED  abc  retrying         3  2026-01-10T11:58:00.000Z  2026-01-10T12:00:00.000Z  503 Service Unavailable
        12346  hook  ACTOR.RUN.SUCCEEDED  abc  waiting          0                         -                         -                        -
        ");
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_snapshot!(text(&[], false), @"no delivery has failed");
        assert_snapshot!(text(&[], true), @"no delivery is pending or has failed");
    }
}
