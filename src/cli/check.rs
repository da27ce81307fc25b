//! `check`: what the configuration comes to, before anything relies on it.

use std::fmt::Write as _;
use std::path::Path;

use tokio::runtime::Runtime;

use super::error::{CliError, code_of};
use super::exit::ExitCode;
use super::output::print;
use super::probe::probe;
use super::setup;
use crate::config::{Environment, Settings, find_token};

/// Prints the settings in effect. Problems with them have been told by then; with an `online` runtime, the token,
/// the tasks and the sinks' addresses are tried too.
///
/// # Errors
/// When there is nothing to mirror, no token for the online part, or standard output cannot be written.
pub fn check(
    settings: &Settings,
    file: Option<&Path>,
    environment: &Environment,
    online: Option<&Runtime>,
) -> Result<ExitCode, CliError> {
    settings.require_tasks()?;
    settings.signing_keys(environment)?;
    let token = find_token(settings.api.token_file.as_deref(), environment);
    let token = token.map_or_else(|error| format!("none; {error}"), |_| "found".to_owned());
    print(&describe(settings, file, token))?;
    match online {
        Some(runtime) => runtime.block_on(try_out(settings, environment)),
        None => Ok(ExitCode::Ok),
    }
}

fn describe(settings: &Settings, file: Option<&Path>, token: String) -> String {
    let mut text = String::from("configuration ok\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<15}{value}");
    };
    line(
        "file",
        file.map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
    );
    let discovered = if settings.discover_tasks {
        "every task of the account"
    } else {
        ""
    };
    let tasks: Vec<&str> = settings
        .tasks
        .iter()
        .map(String::as_str)
        .chain(Some(discovered))
        .filter(|t| !t.is_empty())
        .collect();
    line("tasks", tasks.join(", "));
    line("api", settings.api.base_url.to_string());
    line("token", token);
    line("database", settings.database.display().to_string());
    let sync = &settings.sync;
    line("poll interval", format!("{:?}", sync.poll_interval));
    line("watch interval", format!("{:?}", sync.watch_interval));
    line(
        "audit interval",
        sync.audit_interval
            .map_or_else(|| "none".to_owned(), |interval| format!("{interval:?}")),
    );
    let sinks: Vec<String> = settings
        .sinks
        .iter()
        .map(|sink| format!("{} ({})", sink.name, sink.target.name()))
        .collect();
    line(
        "sinks",
        if sinks.is_empty() {
            "none".to_owned()
        } else {
            sinks.join(", ")
        },
    );
    text
}

/// Asks for every task by its name, which needs the token, and looks whether every sink can be reached.
async fn try_out(settings: &Settings, environment: &Environment) -> Result<ExitCode, CliError> {
    let token = find_token(settings.api.token_file.as_deref(), environment)?;
    let client = setup::client(settings, &token)?;
    let mut code = ExitCode::Ok;
    for reference in &settings.tasks {
        match client.task(reference).await {
            Ok(task) => print(&format!(
                "  task ok        {reference} is {} ({})\n",
                task.label(),
                task.id
            ))?,
            Err(error) => {
                eprintln!("error: {reference}: {error}");
                code = code_of(&error);
            }
        }
    }
    if settings.discover_tasks {
        match client.tasks().await {
            Ok(tasks) => print(&format!("  discovery ok   {} tasks\n", tasks.len()))?,
            Err(error) => {
                eprintln!("error: {error}");
                code = code_of(&error);
            }
        }
    }
    for sink in &settings.sinks {
        match probe(sink, environment).await {
            Ok(found) => print(&format!("  sink ok        {} {found}\n", sink.name))?,
            Err((problem, worse)) => {
                eprintln!("error: sink {}: {problem}", sink.name);
                // What the API says comes first.
                code = if code == ExitCode::Ok { worse } else { code };
            }
        }
    }
    Ok(code)
}
