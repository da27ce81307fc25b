//! What `--help` prints, and which flags each command takes.

use clap::{CommandFactory, Parser};
use insta::{allow_duplicates, assert_snapshot};

use super::Arguments;

/// The head of the part of a help text that all commands share.
const GLOBALS: &str = "Global options:";

/// The head of the end of a help text.
const AFTER: &str = "Examples:";

/// The help of the command at `path`, which is empty for the program itself: its own part, the global flags, and the end.
fn help(path: &[&str]) -> [String; 3] {
    let mut root = Arguments::command().term_width(100);
    root.build();
    let command = path.iter().fold(&mut root, |command, name| {
        command.find_subcommand_mut(name).unwrap()
    });
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let place = |head: &str| lines.iter().position(|line| *line == head);
    let end = place(AFTER).unwrap_or(lines.len());
    let globals = place(GLOBALS).unwrap_or(end);
    let parts = [&lines[..globals], &lines[globals..end], &lines[end..]];
    parts.map(|lines| lines.join("\n"))
}

/// The part of a help text that is the command's own.
fn own(path: &[&str]) -> String {
    let [own, ..] = help(path);
    own
}

/// The global flags in a help text.
fn globals(path: &[&str]) -> String {
    let [_, globals, _] = help(path);
    globals.trim_end().to_owned()
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn the_program() {
    assert_snapshot!(own(&[]), @r"
    Keeps a local SQLite mirror of Apify task runs, and delivers an event when a run changes status.

    The API token comes from the configuration's `api.token_file`, else from the environment variable
    APIFY_TOKEN, else from the systemd credential `apify-token`.

    Usage: apify-mirror [OPTIONS] <COMMAND>

    Commands:
      run          Mirror until SIGTERM or SIGINT
      sync         Mirror once: catch every task up, re-read open runs, deliver due events, print a
                   summary
      audit        Compare the whole mirror with the account: flag removed runs, repair any difference,
                   print what was found
      status       Show the state of every task and sink
      events       Read the event log
      deliveries   List, retry or drop events that could not be delivered
      sinks        List the sinks' subscriptions, or end one for good
      query        Ask a question in SQL, or list the views to ask
      backup       Copy the whole mirror to a file, consistently, also while a daemon writes it
      prune        Remove what `[retention]` no longer keeps, and say what that was
      check        Validate the configuration
      demo         Run the daemon on a built-in simulated account: no token, no network
      completions  Print a script that completes commands and flags in a shell
      man          Print the manual page
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
    assert_snapshot!(globals(&[]), @r"
    Global options:
          --config <FILE>
              The configuration file; else $APIFY_MIRROR_CONFIG, ./apify-mirror.toml, the user's or the
              system's

          --db <PATH>
              The database file

      -v, --verbose...
              Log more; twice for everything

      -q, --quiet...
              Log less; twice for errors only

          --log-format <FORMAT>
              The form of log lines

              Possible values:
              - text: For people
              - json: One JSON object a line

          --color <WHEN>
              Whether to use colours; `auto` does on a terminal, unless NO_COLOR is set

              [default: auto]
              [possible values: auto, always, never]
    ");
}

#[test]
fn commands_that_mirror() {
    assert_snapshot!(own(&["run"]), @r"
    Mirror until SIGTERM or SIGINT

    Usage: apify-mirror run [OPTIONS]

    Options:
          --task <REF>
              A task: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones

          --all-tasks
              Every task of the account, as with `discover_tasks = true`

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["sync"]), @r"
    Mirror once: catch every task up, re-read open runs, deliver due events, print a summary

    Usage: apify-mirror sync [OPTIONS]

    Options:
          --task <REF>
              A task: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones

          --all-tasks
              Every task of the account, as with `discover_tasks = true`

          --json
              Print the summary as JSON, and no event unless a sink is configured for them

          --wait <TIME>
              Wait so long, such as 30s or 10m, while another instance holds the database

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["audit"]), @r"
    Compare the whole mirror with the account: flag removed runs, repair any difference, print what was
    found

    Usage: apify-mirror audit [OPTIONS]

    Options:
          --task <REF>
              A task: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones

          --all-tasks
              Every task of the account, as with `discover_tasks = true`

          --json
              Print what was found as JSON

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn commands_that_read() {
    assert_snapshot!(own(&["status"]), @r"
    Show the state of every task and sink

    Usage: apify-mirror status [OPTIONS]

    Options:
          --json
              Print JSON

          --check
              Exit with 75 when anything is stale or failing, or events were set aside

          --max-age <TIME>
              How old the last success of a task may be before it is stale, such as 10m or 6h; else
              three times the interval between its successes, at least 2m

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["events"]), @r"
    Read the event log

    Usage: apify-mirror events [OPTIONS]

    Options:
          --task <REF>
              Only events of this task: its ID, `username~name` or `~name`; can be repeated

          --follow
              Go on with events as they are raised; waits for a database that does not exist yet

          --since <SEQ|TIME>
              Begin after the event with this number, or with what was observed since a time:
              2026-01-31, 2026-01-31T12:00:00Z (UTC without a zone), or 6h for the last six hours

          --type <T>
              Only events of this type, such as ACTOR.RUN.FAILED or FAILED; can be repeated

          --status <S>
              Only events by which a run came to this status, such as TIMED-OUT; can be repeated

          --limit <N>
              The last N events only; with --since, the first N

          --json
              Print events as delivered: one JSON object a line

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn deliveries() {
    assert_snapshot!(own(&["deliveries"]), @r"
    List, retry or drop events that could not be delivered

    Usage: apify-mirror deliveries [OPTIONS] <COMMAND>

    Commands:
      list   List events that were set aside, or that failed and wait for another attempt
      retry  Retry events at once that were set aside or wait for another attempt
      drop   Give up for good on events that were set aside; they stay in the event log
      help   Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["deliveries", "list"]), @r"
    List events that were set aside, or that failed and wait for another attempt

    Usage: apify-mirror deliveries list [OPTIONS]

    Options:
          --sink <NAME>
              Events for this sink only

          --all
              Also events that have not been attempted yet

          --limit <N>
              At most so many, oldest first

              [default: 1000]

          --json
              Print JSON

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["deliveries", "retry"]), @r"
    Retry events at once that were set aside or wait for another attempt

    Usage: apify-mirror deliveries retry [OPTIONS] [SEQ]...

    Arguments:
      [SEQ]...
              The numbers of the events

    Options:
          --all
              All events, instead of those with the given numbers

          --sink <NAME>
              Events for this sink only

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["deliveries", "drop"]), @r"
    Give up for good on events that were set aside; they stay in the event log

    Usage: apify-mirror deliveries drop [OPTIONS] [SEQ]...

    Arguments:
      [SEQ]...
              The numbers of the events

    Options:
          --all
              All events, instead of those with the given numbers

          --sink <NAME>
              Events for this sink only

          --pending
              With --all: also events that were not set aside, such as those of a sink that is no longer
              configured

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn commands_that_need_no_mirror() {
    assert_snapshot!(own(&["check"]), @r"
    Validate the configuration

    Usage: apify-mirror check [OPTIONS]

    Options:
          --task <REF>
              A task: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones

          --all-tasks
              Every task of the account, as with `discover_tasks = true`

          --online
              Try the token, the tasks and the sinks' addresses too

      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["demo"]), @r"
    Run the daemon on a built-in simulated account: no token, no network

    Usage: apify-mirror demo [OPTIONS]

    Options:
          --seconds <N>
              How many seconds the demo lasts

              [default: 20]

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn what_is_generated() {
    assert_snapshot!(own(&["completions"]), @r"
    Print a script that completes commands and flags in a shell

    Usage: apify-mirror completions <SHELL>

    Arguments:
      <SHELL>
              The shell

              [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help
              Print help
    ");
    assert_snapshot!(own(&["man"]), @r"
    Print the manual page

    Usage: apify-mirror man

    Options:
      -h, --help
              Print help
    ");
}

#[test]
fn every_command_shows_the_global_flags_but_the_demo_no_configuration() {
    let everywhere = globals(&[]);
    for command in [
        &["run"][..],
        &["sync"],
        &["audit"],
        &["status"],
        &["events"],
        &["deliveries", "list"],
        &["deliveries", "retry"],
        &["deliveries", "drop"],
        &["sinks", "list"],
        &["sinks", "remove"],
        &["query"],
        &["backup"],
        &["prune"],
        &["check"],
    ] {
        assert_eq!(globals(command), everywhere, "{command:?}");
    }
    let config = everywhere.split("\n\n").next().unwrap();
    assert!(config.contains("--config"), "{config}");
    let without_config = everywhere.replacen(config, GLOBALS, 1);
    let demo = globals(&["demo"]);
    assert_eq!(demo, without_config.replacen("\n\n", "\n", 1));
}

#[test]
fn commands_that_look_after_the_database() {
    assert_snapshot!(own(&["backup"]), @r"
    Copy the whole mirror to a file, consistently, also while a daemon writes it

    Usage: apify-mirror backup [OPTIONS] <FILE>

    Arguments:
      <FILE>
              The file to make, which must not exist yet

    Options:
      -h, --help
              Print help (see a summary with '-h')
    ");
    assert_snapshot!(own(&["prune"]), @r"
    Remove what `[retention]` no longer keeps, and say what that was

    Usage: apify-mirror prune [OPTIONS]

    Options:
          --dry-run
              Say what would be removed, and change nothing

          --compact
              Then give free space back to the file system; a file of an earlier version is written anew
              for that, once, while no daemon runs

          --json
              Print JSON

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn what_needs_no_mirror_shows_no_global_flags() {
    for command in ["completions", "man"] {
        assert_eq!(globals(&[command]), "", "{command}");
        assert!(!own(&[command]).contains("--color"), "{command}");
    }
}

#[test]
fn every_help_ends_with_examples_that_are_right_and_exit_codes() {
    let root = Arguments::command();
    let names: Vec<&str> = root
        .get_subcommands()
        .map(|command| command.get_name())
        .collect();
    assert!(names.len() > 10);
    for name in names {
        let [_, _, after] = help(&[name]);
        let command = root.find_subcommand(name).unwrap();
        for nested in command.get_subcommands() {
            assert_eq!(help(&[name, nested.get_name()])[2], after);
        }
        let (examples, codes) = after.split_once("\n\nExit codes:\n").unwrap();
        for code in ["  0 ", "  1 ", "  2 "] {
            assert!(
                codes.lines().any(|line| line.starts_with(code)),
                "{name}: {codes}"
            );
        }
        let lines = examples
            .lines()
            .filter(|line| line.contains("apify-mirror "));
        let lines: Vec<&str> = lines.collect();
        assert!(!lines.is_empty(), "{name}: {examples}");
        for line in lines {
            assert!(line.chars().count() <= 100, "is wrapped: {line}");
            let words = shell_words(&line[line.find("apify-mirror ").unwrap()..]);
            let parsed = Arguments::try_parse_from(&words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
    assert_snapshot!(help(&["sync"])[2], @r"
    Examples:
      # mirror a task into a new database
      APIFY_TOKEN=... apify-mirror sync --task janedoe~my-task --db runs.db
      # from cron, every five minutes; mails only when something is wrong
      */5 * * * * /usr/bin/apify-mirror sync -q --config /etc/apify-mirror/config.toml
      # every task of the account, with a summary for programs
      apify-mirror sync --all-tasks --json
      # wait for another instance instead of leaving the work to it
      apify-mirror sync --wait 10m

    Exit codes:
      0   all is well
      1   something unexpected
      2   wrong usage
      65  some task is not found or forbidden; the others were mirrored
      69  another instance holds the database, and does the work; with -q nothing is printed
      74  the database or the disk failed, or standard output cannot be written
      75  temporary: the API is unreachable or throttles, or a sink is still owed events; try again
      77  the token is missing or refused
      78  the configuration is not valid
    ");
    assert_snapshot!(help(&[])[2], @r#"
    Examples:
      # see it work, without a token
      apify-mirror demo
      # mirror a task
      APIFY_TOKEN=... apify-mirror sync --task janedoe~my-task --db runs.db
      # ask a question
      apify-mirror query --db runs.db "SELECT * FROM task_health"

    Exit codes:
      0   all is well
      1   something unexpected
      2   wrong usage
      65  some task is not found or forbidden; the others were mirrored
      69  another instance holds the database
      74  the database or the disk failed, or standard output cannot be written
      75  temporary: the API is unreachable or throttles, or the work was interrupted; try again
      77  the token is missing or refused
      78  the configuration is not valid
    "#);
}

/// The words of a line up to a pipe or a redirection; quotes keep spaces.
fn shell_words(line: &str) -> Vec<String> {
    let line = line.split(['|', '>']).next().unwrap();
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

#[test]
fn no_flag_takes_the_token() {
    let help = Arguments::command().render_long_help().to_string();
    assert!(!help.contains("--token"), "{help}");
}

#[test]
fn global_flags_stand_before_the_command_or_behind_it() {
    for line in [
        "apify-mirror --db x.db --config c.toml -v --log-format json --color never sync --task a~b --task c",
        "apify-mirror sync --task a~b --task c --db x.db --config c.toml -v --log-format json --color never",
        "apify-mirror --db x.db -v sync --config c.toml --task a~b --color never --task c --log-format json",
    ] {
        let Arguments { globals, command } = Arguments::parse_from(line.split(' '));
        allow_duplicates!(
            assert_snapshot!(format!("{globals:?} {command:?}"), @r#"Globals { config: Some("c.toml"), database: Some("x.db"), verbose: 1, quiet: 0, log_format: Some(Json), color: Never } Sync(Args { tasks: TaskArgs { tasks: ["a~b", "c"], all_tasks: false }, json: false, wait: None })"#)
        );
    }
}

#[test]
fn only_commands_that_work_on_tasks_take_a_task() {
    let takes_task = |command: &str| {
        let line = format!("apify-mirror {command} --task a~b");
        match Arguments::try_parse_from(line.split(' ')) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{command}");
                assert!(error.to_string().contains("'--task'"), "{error}");
                false
            }
        }
    };
    for command in ["run", "sync", "audit", "events", "check"] {
        assert!(takes_task(command), "{command}");
    }
    let all_tasks = |command: &str| {
        let line = format!("apify-mirror {command} --all-tasks");
        Arguments::try_parse_from(line.split(' ')).is_ok()
    };
    for (command, takes) in [
        ("run", true),
        ("sync", true),
        ("audit", true),
        ("check", true),
        ("sync --task a~b", false),
        ("events", false),
        ("status", false),
        ("demo", false),
    ] {
        assert_eq!(all_tasks(command), takes, "{command}");
    }
    for command in [
        "status",
        "deliveries list",
        "deliveries retry 1",
        "deliveries drop 1",
        "query",
        "backup x",
        "prune",
        "demo",
        "completions bash",
        "man",
    ] {
        assert!(!takes_task(command), "{command}");
    }
}
