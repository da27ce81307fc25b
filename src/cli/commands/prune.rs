//! `prune`: removes what `[retention]` does not keep, and gives the space back.

use std::path::Path;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::Globals;
use crate::cli::help;
use crate::cli::output::{print_json, print_styled};
use crate::cli::settings;
use crate::cli::table::Table;
use crate::config::Settings;
use crate::daemon::{Pace, on_signals, prune};
use crate::model::{Retention, Timestamp};
use crate::options::Environment;
use crate::store::{Pruned, Reader, SqliteReader, SqliteStore, StoreError};

/// Time between two steps while another process may want to write.
const PAUSE: Duration = Duration::from_millis(50);

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "see what would be removed",
                "apify-mirror prune --config apify-mirror.toml --dry-run",
            ),
            (
                "remove it, and give the space back",
                "apify-mirror prune --config apify-mirror.toml --compact",
            ),
        ],
        &[
            (ExitCode::Locked, None),
            (ExitCode::Storage, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Then give free space back to the file system; a file of an earlier version is written anew for that, once, while no
    /// daemon runs
    #[arg(long, conflicts_with = "dry_run")]
    compact: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct Outcome {
    dry_run: bool,
    #[serde(flatten)]
    pruned: Pruned,
    /// The size of the database's file in bytes, before and after; null unless it was compacted.
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
}

/// Prunes, or says what pruning would do, whether a daemon runs or not.
///
/// # Errors
/// When the settings are not valid, the database cannot be used, or it has to be written anew and a daemon holds it.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let settings = settings::load(globals, environment)?;
    let retention = &settings.retention;
    let mut result = Outcome {
        dry_run: args.dry_run,
        pruned: Pruned::default(),
        bytes_before: None,
        bytes_after: None,
    };
    let code = match args.dry_run {
        true => {
            let reader = SqliteReader::open(&settings.database)?;
            result.pruned = reader.prunable(retention, Timestamp::now()).await?;
            ExitCode::Ok
        }
        false => change(&settings, args.compact, &mut result).await?,
    };
    match args.json {
        true => print_json(&result)?,
        false => print_styled(&text(retention, &result))?,
    }
    Ok(code)
}

/// Prunes and compacts until that is done, or SIGTERM or SIGINT comes.
async fn change(
    settings: &Settings,
    compact: bool,
    result: &mut Outcome,
) -> Result<ExitCode, CliError> {
    let database = settings.database.as_path();
    let shutdown = on_signals()?;
    let is_rewritten = compact && !SqliteReader::open(database)?.releases_space().await?;
    if compact {
        result.bytes_before = size(database);
    }
    let (store, writer) = match is_rewritten {
        true => SqliteStore::open_for(database, settings.readers).map_err(held)?,
        false => SqliteStore::open_beside(database)?,
    };
    let is_shared = !is_rewritten && SqliteStore::is_held(database);
    let pace = Pace {
        pause: if is_shared { PAUSE } else { Duration::ZERO },
        until: None,
    };
    let work = async {
        prune(&store, &settings.retention, pace, &mut result.pruned).await?;
        if is_rewritten {
            store.rewrite().await?;
        } else if compact {
            while store.release_all_space().await? {
                tokio::time::sleep(pace.pause).await;
            }
        }
        Ok::<_, StoreError>(())
    };
    let is_done = tokio::select! {
        done = work => done.map(|()| true)?,
        () = shutdown.cancelled() => false,
    };
    if !is_done {
        tracing::warn!("interrupted; what was done is kept, the next one goes on from there");
    }
    drop(store);
    // The file gets smaller when the log is written back.
    let closed = tokio::task::spawn_blocking(move || writer.join());
    tokio::select! {
        _ = closed => {}
        () = shutdown.cancelled() => {}
    }
    if compact {
        result.bytes_after = size(database);
    }
    Ok(match is_done {
        true => ExitCode::Ok,
        false => ExitCode::Temporary,
    })
}

/// Says why the database must not be in use, where pruning alone could go on beside a daemon.
fn held(error: StoreError) -> CliError {
    match error {
        StoreError::Locked { path } => CliError::CannotRewrite(path),
        error => error.into(),
    }
}

fn size(database: &Path) -> Option<u64> {
    database.metadata().ok().map(|found| found.len())
}

fn text(retention: &Retention, result: &Outcome) -> String {
    let Pruned {
        runs,
        events,
        dead_deliveries,
    } = result.pruned;
    let lines = [
        ("removed runs", retention.removed_runs, runs),
        ("events", retention.events, events),
        (
            "dead deliveries",
            retention.dead_deliveries,
            dead_deliveries,
        ),
    ];
    let head = match result.dry_run {
        true => "would be pruned",
        false => "pruned",
    };
    let mut text = Table::of(&lines)
        .column("", |(what, ..)| *what)
        .column("kept for", |(_, kept, _)| {
            kept.map_or_else(|| "forever".to_owned(), shown)
        })
        .column(head, |(.., count)| HumanCount(*count))
        .to_string();
    if retention.is_forever() {
        text += "everything is kept: `[retention]` in the configuration says what is not\n";
    }
    if let (Some(before), Some(after)) = (result.bytes_before, result.bytes_after) {
        text += &format!(
            "the database's file has {}, and had {}\n",
            BinaryBytes(after),
            BinaryBytes(before)
        );
    }
    text
}

/// A time in the unit that shows it as a whole number.
fn shown(kept: Duration) -> String {
    const HOUR: u64 = 3_600;
    match kept.as_secs() {
        seconds if kept.subsec_nanos() == 0 && seconds % (24 * HOUR) == 0 => {
            format!("{}d", seconds / (24 * HOUR))
        }
        seconds if kept.subsec_nanos() == 0 && seconds % HOUR == 0 => {
            format!("{}h", seconds / HOUR)
        }
        _ => format!("{kept:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain;
    use insta::assert_snapshot;

    #[test]
    fn people_get_a_table_with_what_is_kept() {
        let retention = Retention {
            removed_runs: Some(Duration::from_secs(90 * 86_400)),
            events: None,
            dead_deliveries: Some(Duration::from_secs(12 * 3_600)),
        };
        let result = |dry_run, bytes| Outcome {
            dry_run,
            pruned: Pruned {
                runs: 12,
                events: 1_234,
                dead_deliveries: 0,
            },
            bytes_before: bytes,
            bytes_after: bytes.map(|bytes| bytes / 3),
        };
        assert_snapshot!(plain(&text(&retention, &result(false, Some(3 << 30)))), @r"
                         kept for  pruned
        removed runs     90d           12
        events           forever    1,234
        dead deliveries  12h            0
        the database's file has 1.00 GiB, and had 3.00 GiB
        ");
        assert_snapshot!(plain(&text(&Retention::default(), &result(true, None))), @r"
                         kept for  would be pruned
        removed runs     forever                12
        events           forever             1,234
        dead deliveries  forever                 0
        everything is kept: `[retention]` in the configuration says what is not
        ");
        let json = serde_json::to_string(&result(true, None)).unwrap();
        assert_snapshot!(json, @r#"{"dry_run":true,"runs":12,"events":1234,"dead_deliveries":0,"bytes_before":null,"bytes_after":null}"#);
        assert_eq!(shown(Duration::from_secs(90)), "90s");
    }
}
