//! `sinks`: lists subscriptions, and ends one for good.

use std::path::Path;

use clap::Subcommand;
use indicatif::HumanCount;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{self, Globals};
use crate::cli::help;
use crate::cli::output::{line, print, print_json, print_styled};
use crate::cli::settings;
use crate::cli::table::{Table, counted};
use crate::config::Settings;
use crate::options::Environment;
use crate::store::{Reader, SqliteReader, SqliteStore, Store, StoreError, SubscriptionStatus};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "every subscription, with its position and what is pending",
                "apify-mirror sinks list",
            ),
            (
                "end the subscription of a sink that is no longer configured",
                "apify-mirror sinks remove old-hook",
            ),
        ],
        &[
            (ExitCode::Locked, None),
            (ExitCode::Storage, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `sinks`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List every subscription: its position in the event log, and how many events it is owed
    #[command(after_help = after_help())]
    List(ListArgs),
    /// End a subscription for good, and give up on everything it is owed; the events stay in the event log
    #[command(after_help = after_help())]
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The sink's name
    #[arg(value_name = "NAME", value_parser = globals::sink)]
    name: String,
}

/// Lists subscriptions, or removes one. One that is configured is only removed while no daemon runs.
///
/// # Errors
/// When the settings are not valid, the database cannot be used, or there is no such subscription.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let settings = settings::load(globals, environment)?;
    let database = settings.database.as_path();
    match &args.action {
        Action::List(args) => {
            let found = list(database).await?;
            if args.json {
                print_json(&found)?;
            } else {
                print_styled(&text(&found))?;
            }
        }
        Action::Remove(RemoveArgs { name }) => {
            let Some(dropped) = remove(&settings, name).await? else {
                return Err(CliError::UnknownSink(name.clone()));
            };
            let dropped = counted(dropped, "delivery");
            print(&line(format_args!(
                "sink {name} removed, {dropped} dropped"
            )))?;
            if settings.from_file && settings.sinks.iter().any(|sink| sink.name == *name) {
                print(
                    "the configuration still names it: the next `run` or `sync` adds it as a new sink\n",
                )?;
            }
        }
    }
    Ok(ExitCode::Ok)
}

async fn list(database: &Path) -> Result<Vec<SubscriptionStatus>, StoreError> {
    SqliteReader::open(database)?.subscriptions().await
}

/// Removes a subscription; a daemon that delivers to it must not run.
async fn remove(settings: &Settings, name: &str) -> Result<Option<u64>, StoreError> {
    let database = settings.database.as_path();
    let found = list(database).await?;
    let is_in_use = |sink: &SubscriptionStatus| sink.name == name && sink.removed_at.is_none();
    let (store, writer) = match found.iter().any(is_in_use) {
        true => SqliteStore::open_for(database, settings.readers)?,
        false => SqliteStore::open_beside(database)?,
    };
    let removed = store.remove_subscription(name).await;
    drop(store);
    writer.join();
    removed
}

fn text(found: &[SubscriptionStatus]) -> String {
    if found.is_empty() {
        return "there is no subscription\n".to_owned();
    }
    Table::of(found)
        .column("sink", |sink| &sink.name)
        .column("type", |sink| &sink.r#type)
        .column("state", |sink| match (sink.configured, sink.temporary) {
            (true, _) => "configured",
            (false, true) => "temporary",
            (false, false) => "not configured",
        })
        .column("position", |sink| sink.position)
        .column("pending", |sink| HumanCount(sink.pending))
        .column("dead", |sink| HumanCount(sink.dead))
        .column("missed", |sink| HumanCount(sink.missed))
        .column("events", |sink| {
            let events = sink.events.as_ref();
            events.map_or_else(|| "all".to_owned(), |events| events.join(", "))
        })
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain;
    use insta::assert_snapshot;

    #[test]
    fn a_list_is_a_table() {
        let hook = SubscriptionStatus {
            name: "hook".to_owned(),
            r#type: "webhook".to_owned(),
            configured: true,
            temporary: false,
            position: 12_345,
            events: Some(vec!["ACTOR.RUN.FAILED".to_owned()]),
            pending: 1_234,
            dead: 5,
            missed: 0,
            added_at: "2026-01-10T11:58:00.000Z".to_owned(),
            removed_at: None,
        };
        let old = SubscriptionStatus {
            name: "old".to_owned(),
            configured: false,
            position: 17,
            events: None,
            missed: 3,
            removed_at: Some("2026-01-10T11:58:00.000Z".to_owned()),
            ..hook.clone()
        };
        assert_snapshot!(plain(&text(&[hook, old])), @r"
        sink  type     state           position  pending  dead  missed  events
        hook  webhook  configured         12345    1,234     5       0  ACTOR.RUN.FAILED
        old   webhook  not configured        17    1,234     5       3  all
        ");
        assert_snapshot!(text(&[]), @"there is no subscription");
    }
}
