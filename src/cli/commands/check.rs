//! `check`: validates the configuration, and with `--online` what it refers to.

use std::path::Path;

use crate::api::Client;
use crate::cli::error::{CliError, code_of};
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, TaskArgs};
use crate::cli::help;
use crate::cli::output::{line, print, show_error, show_warning, shown};
use crate::cli::{logging, settings, setup};
use crate::config::{Settings, find_read_token, find_token};
use crate::options::Environment;
use crate::sinks::{CheckError, SinkSettings};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "whether the configuration is valid, and there is a token",
                "apify-mirror check",
            ),
            (
                "also try the token, the tasks and the sinks' addresses",
                "apify-mirror check --online",
            ),
        ],
        &[
            (ExitCode::SomeTasksFailed, None),
            (ExitCode::Temporary, None),
            (ExitCode::Token, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Try the token, the tasks and the sinks' addresses too
    #[arg(long)]
    online: bool,
}

/// Prints the settings in effect; with `--online`, also tries the token, the tasks and the sinks' addresses.
///
/// # Errors
/// When the settings are not valid or name no task, or when there is no token.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let (settings, file) = settings::read(globals, environment, &args.tasks)?;
    logging::start(globals, &settings);
    settings.require_tasks()?;
    let sinks = settings.resolved_sinks(environment)?;
    if let Some(path) = &settings.http.read_token_file {
        find_read_token(path, environment)?;
    }
    let token = find_token(settings.api.token_file.as_deref(), environment);
    let found = match &token {
        Ok(_) => "found".to_owned(),
        Err(error) => format!("none; {error}"),
    };
    print(&describe(&settings, file.as_deref(), &found))?;
    for sink in &sinks {
        if let Some(warning) = sink.options.warning() {
            show_warning(&shown(format_args!("sink {}: {warning}", sink.name)));
        }
    }
    if let Some(warning) = settings.http.warning() {
        show_warning(&shown(warning));
    }
    let token = token?;
    if !args.online {
        return Ok(ExitCode::Ok);
    }
    let client = setup::client(&settings, &token)?;
    // What the API says comes first.
    match try_tasks(&client, &settings).await? {
        ExitCode::Ok => try_sinks(&sinks, environment).await,
        code => {
            try_sinks(&sinks, environment).await?;
            Ok(code)
        }
    }
}

fn describe(settings: &Settings, file: Option<&Path>, token: &str) -> String {
    let file = file.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    let mut tasks: Vec<&str> = settings.tasks.iter().map(String::as_str).collect();
    if settings.discover_tasks {
        tasks.push("every task of the account");
    }
    let sync = &settings.sync;
    let audit_interval = sync.audit_interval;
    let audit_interval =
        audit_interval.map_or_else(|| "none".to_owned(), |interval| format!("{interval:?}"));
    let sinks: Vec<String> = settings.sinks.iter().map(describe_sink).collect();
    let sinks = if sinks.is_empty() {
        "none".to_owned()
    } else {
        sinks.join(", ")
    };
    let lines = [
        ("file", file),
        ("tasks", tasks.join(", ")),
        ("api", settings.api.base_url.to_string()),
        ("token", token.to_owned()),
        ("database", settings.database.display().to_string()),
        ("poll interval", format!("{:?}", sync.poll_interval)),
        ("watch interval", format!("{:?}", sync.watch_interval)),
        ("audit interval", audit_interval),
        ("details", sync.details.name().to_owned()),
        ("sinks", sinks),
        ("http", settings.http.describe()),
    ];
    let mut text = String::from("configuration ok\n");
    for (name, value) in lines {
        text.push_str(&line(format_args!("  {name:<15}{value}")));
    }
    text
}

fn describe_sink(sink: &SinkSettings) -> String {
    format!("{} ({})", sink.name, sink.options.kind())
}

/// Asks the API for every task, which also tests the token; returns the code of the last error.
async fn try_tasks(client: &Client, settings: &Settings) -> Result<ExitCode, CliError> {
    let mut code = ExitCode::Ok;
    for reference in &settings.tasks {
        match client.task(reference).await {
            Ok(task) => print(&line(format_args!(
                "  task ok        {reference} is {} ({})",
                task.label(),
                task.id
            )))?,
            Err(error) => {
                show_error(&shown(format_args!("{reference}: {error}")));
                code = code_of(&error);
            }
        }
    }
    if settings.discover_tasks {
        match client.tasks().await {
            Ok(tasks) => print(&format!("  discovery ok   {} tasks\n", tasks.len()))?,
            Err(error) => {
                show_error(&shown(&error));
                code = code_of(&error);
            }
        }
    }
    Ok(code)
}

/// Looks whether every sink can be reached, without delivering anything; returns the code of the first error.
async fn try_sinks(
    sinks: &[SinkSettings],
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let mut code = ExitCode::Ok;
    for sink in sinks {
        match sink.options.check(environment).await {
            Ok(found) => print(&line(format_args!(
                "  sink ok        {} {found}",
                sink.name
            )))?,
            Err(error) => {
                show_error(&shown(format_args!("sink {}: {error}", sink.name)));
                if code == ExitCode::Ok {
                    code = match error {
                        CheckError::Configuration(_) => ExitCode::Configuration,
                        CheckError::Unreachable(_) => ExitCode::Temporary,
                    };
                }
            }
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};
    use insta::assert_snapshot;

    fn settings(toml: &str) -> Settings {
        let none = Environment::new();
        parse(Some(toml), &none, Overrides::default(), String::new).unwrap()
    }

    #[test]
    fn the_settings_in_effect() {
        let all = r#"
            tasks = ["janedoe~my-task", "~other"]
            discover_tasks = true
            [database]
            path = "/var/lib/runs.db"
            [sync]
            poll_interval = "5s"
            audit_interval = "2h"
            [[sinks]]
            name = "log"
            type = "file"
            path = "events.jsonl"
            [[sinks]]
            name = "out"
            type = "stdout"
        "#;
        let file = Path::new("/etc/apify-mirror/config.toml");
        assert_snapshot!(describe(&settings(all), Some(file), "found"), @r"
        configuration ok
          file           /etc/apify-mirror/config.toml
          tasks          janedoe~my-task, ~other, every task of the account
          api            https://api.apify.com/
          token          found
          database       /var/lib/runs.db
          poll interval  5s
          watch interval 60s
          audit interval 7200s
          details        none
          sinks          log (file), out (stdout)
          http           off
        ");
        let least = settings("discover_tasks = true\nsinks = []");
        assert_snapshot!(describe(&least, None, "none; there is no API token"), @r"
        configuration ok
          file           none
          tasks          every task of the account
          api            https://api.apify.com/
          token          none; there is no API token
          database       apify-mirror.db
          poll interval  15s
          watch interval 60s
          audit interval 21600s
          details        none
          sinks          none
          http           off
        ");
    }
}
