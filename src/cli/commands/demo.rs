//! `demo`: the real daemon on a simulated account, for people to watch.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::HumanCount;

use crate::api::Token;
use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::Globals;
use crate::cli::help;
use crate::cli::logging;
use crate::cli::output::print;
use crate::cli::setup::{Setup, close, plan, seed};
use crate::config::{LogLevel, Settings};
use crate::daemon::{self, Progress, Scope, on_signals};
use crate::model::{InFlight, Timestamp};
use crate::options::Environment;
use crate::simulator::{Activity, Faults, Server, TOKEN, World};
use crate::sinks::for_people;
use crate::text::{MAX_SHOWN, escape};

/// Runs in the simulated account's past.
const PAST: u64 = 6_000;

/// How long the simulated server takes to answer: long enough for progress to be seen.
const LATENCY: Duration = Duration::from_millis(100);

/// How often something may happen in the simulated account.
const TICK: Duration = Duration::from_millis(100);

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[(
            "half a minute of a simulated account",
            "apify-mirror demo --seconds 30",
        )],
        &[(ExitCode::Storage, None)],
    )
}

/// The flags of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seconds the demo lasts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Takes the place of the global flag, given before `demo` or after it, to hide it from the help and to refuse it.
    #[arg(long, value_name = "FILE", hide = true)]
    config: Option<PathBuf>,
}

/// Mirrors a simulated account for some time, or until SIGTERM or SIGINT, and prints what to look at then.
///
/// # Errors
/// When there is a `--config`, or the named database exists, or there is no free port, or the database cannot be created.
pub async fn execute(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    if args.config.is_some() {
        return Err(CliError::Usage {
            flag: "--config",
            command: "demo",
            why: "its settings are built in; leave the flag out, or use `run` or `sync` with your configuration",
        });
    }
    let settings = settings(globals)?;
    logging::start(globals, &settings);
    demo(settings, args.seconds, globals.progress()).await
}

/// The settings of the demo: every interval is shorter than a real account needs.
///
/// # Errors
/// When the named database exists: the demo's runs must not mix with real ones.
fn settings(globals: &Globals) -> Result<Settings, CliError> {
    let mut settings = Settings::defaults()?;
    settings.database = new_database(globals.database.as_deref())?;
    settings.log_level = LogLevel::Warn;
    settings.log_format = globals.log_format.unwrap_or(settings.log_format);
    settings.api.concurrency = InFlight::Fixed(1);
    settings.sync.read_ahead = 1;
    settings.sync.page_size = 200;
    settings.sync.poll_interval = Duration::from_millis(700);
    settings.sync.watch_interval = Duration::from_secs(2);
    settings.sync.settle = Duration::from_secs(8);
    Ok(settings)
}

fn new_database(named: Option<&Path>) -> io::Result<PathBuf> {
    if let Some(path) = named {
        return if path.exists() {
            let message = format!(
                "{} exists; the demo needs a database of its own, name a new one",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
        } else {
            Ok(path.to_owned())
        };
    }
    let numbered = (2..).map(|n| PathBuf::from(format!("apify-mirror-demo-{n}.db")));
    let mut names = std::iter::once(PathBuf::from("apify-mirror-demo.db")).chain(numbered);
    names
        .find(|path| !path.exists())
        .ok_or_else(|| io::Error::other("no name is left for the demo's database"))
}

async fn demo(
    mut settings: Settings,
    seconds: u64,
    progress: Progress,
) -> Result<ExitCode, CliError> {
    let now = Timestamp::now();
    let mut world = World::new(now.as_millis().unsigned_abs());
    let tasks = vec![
        world.add_task("janedoe", "shop-prices"),
        world.add_task("janedoe", "news-feed"),
    ];
    let mut activity = Activity::new(1, tasks, now);
    activity.fill_past(&mut world, PAST, now);
    let server = Arc::new(Server::start(world).await?);
    server.set_faults(Faults::none().with_latency(LATENCY));
    settings.api.base_url = server.url().parse().map_err(io::Error::other)?;
    settings.discover_tasks = true;
    let database = settings.database.clone();
    let token = Token::new(TOKEN).map_err(io::Error::other)?;
    let mut plan = plan(&settings, &Environment::new(), seed()).await?;
    for sink in &mut plan.sinks {
        sink.replace(for_people());
    }
    let setup = Setup::new(&settings, &token, plan, progress).await?;

    print(&format!(
        "A simulated account with {} runs of two tasks, served on {}.\nMirroring it into {} …\n",
        HumanCount(PAST),
        server.url(),
        escape(database.display(), MAX_SHOWN)
    ))?;
    let result = watch(setup, server, activity, seconds).await;
    print(&farewell(&database))?;
    result
}

async fn watch(
    setup: Setup,
    server: Arc<Server>,
    activity: Activity,
    seconds: u64,
) -> Result<ExitCode, CliError> {
    let Setup { context, writer } = setup;
    let shutdown = on_signals()?;
    let until = tokio::time::sleep(Duration::from_secs(seconds));
    let work = async {
        let began = Instant::now();
        let report = daemon::pass(Arc::clone(&context), Scope::CatchUp).await?;
        let mirrored: u64 = report.feeds.iter().map(|feed| feed.written.added).sum();
        print(&format!(
            "Mirrored {} runs in {:.1} s; they are history and raise no events. Now the daemon watches:\n\n",
            HumanCount(mirrored),
            began.elapsed().as_secs_f64()
        ))?;
        tokio::select! {
            result = daemon::run(context, shutdown.clone(), None) => result?,
            () = live(server, activity) => {}
        }
        Ok::<_, CliError>(())
    };
    let result = tokio::select! {
        result = work => result,
        () = until => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    };
    close(writer).await;
    result.map(|()| ExitCode::Ok)
}

/// Keeps the account busy.
async fn live(server: Arc<Server>, mut activity: Activity) {
    loop {
        activity.advance(&mut server.world(), Timestamp::now());
        tokio::time::sleep(TICK).await;
    }
}

fn farewell(database: &Path) -> String {
    let database = escape(database.display(), MAX_SHOWN);
    // Named as it was called: people try the demo before they install the program.
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "apify-mirror".to_owned());
    let program = escape(program, MAX_SHOWN);
    format!(
        "\nThe mirror is in {database}. Try:\n\n  \
         sqlite3 {database} \"SELECT * FROM task_health\"\n  \
         sqlite3 -box {database} \"SELECT day, task, runs, failures, cost_usd FROM daily_runs ORDER BY day DESC LIMIT 6\"\n  \
         sqlite3 -box {database} \"SELECT seq, type, previous_status, run_id FROM events ORDER BY seq DESC LIMIT 10\"\n  \
         {program} status --db {database}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_database_must_be_new() {
        let dir = tempfile::tempdir().unwrap();
        assert!(new_database(Some(&dir.path().join("new.db"))).is_ok());
        assert!(new_database(Some(dir.path())).is_err());
    }
}
