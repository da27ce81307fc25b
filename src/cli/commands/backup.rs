//! `backup`: a copy of the whole mirror, whether a daemon runs or not.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{self, Globals};
use crate::cli::help;
use crate::cli::output::{line, print};
use crate::cli::settings;
use crate::daemon::on_signals;
use crate::options::Environment;
use crate::store::SqliteReader;

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[(
            "a copy for each day",
            "apify-mirror backup --db runs.db \"runs-$(date +%F).db\"",
        )],
        &[
            (ExitCode::Storage, None),
            (ExitCode::Temporary, Some("interrupted; there is no copy")),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to make, which must not exist yet
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().try_map(globals::path))]
    file: PathBuf,
}

/// Copies the mirror as it is at one moment. Only reads the mirror, so that everybody who may read it may make a copy.
///
/// # Errors
/// When the settings are not valid, there is such a file, or the mirror or the copy cannot be used.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let settings = settings::load(globals, environment)?;
    let shutdown = on_signals()?;
    let reader = SqliteReader::open(&settings.database)?;
    let bars = globals.bars();
    let bar = bars.map_or_else(ProgressBar::hidden, |bars| bars.add(new_bar()));
    let shown = bar.clone();
    let go_on = move |copied, total| {
        shown.set_length(total);
        shown.set_position(copied);
        !shutdown.is_cancelled()
    };
    let size = reader.backup(args.file.clone(), go_on).await;
    bar.finish_and_clear();
    let Some(size) = size? else {
        tracing::warn!("interrupted; there is no copy");
        return Ok(ExitCode::Temporary);
    };
    let (from, to) = (settings.database.display(), args.file.display());
    let size = BinaryBytes(size);
    print(&line(format_args!(
        "copied {from} to {to}: {size}, checked"
    )))?;
    Ok(ExitCode::Ok)
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "copying {bar:32} {binary_bytes:>10} / {binary_total_bytes}  {eta}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style)
}
