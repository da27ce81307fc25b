//! Settings from all their sources, right and wrong.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::Retention;
use crate::options::{Environment, Problems};

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn from_toml(toml: &str) -> Result<Settings, Problems> {
    parse(
        Some(toml),
        &Environment::new(),
        Overrides::default(),
        || "config.toml".to_owned(),
    )
}

/// The problems of a file, as `path: message`.
fn problems(toml: &str) -> Vec<String> {
    from_toml(toml)
        .unwrap_err()
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_example_says_the_defaults_and_nothing_wrong() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let (settings, found) = load(Some(&path), &Environment::new(), Overrides::default()).unwrap();
    assert_eq!(settings, Settings::defaults().unwrap());
    assert_eq!(found, Some(path.clone()));

    // Every key, the commented ones too, is one that is known.
    let text = std::fs::read_to_string(path).unwrap();
    let is_key = |line: &str| {
        line.starts_with("[[")
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let uncomment = |line: &str| {
        line.strip_prefix("# ")
            .filter(|line| is_key(line))
            .unwrap_or(line)
            .to_owned()
    };
    let complete = from_toml(&text.lines().map(uncomment).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(
        complete
            .sinks
            .iter()
            .map(|sink| sink.options.kind())
            .collect::<Vec<_>>(),
        ["stdout", "file", "webhook", "exec"]
    );
    assert_eq!(complete.sinks[0].events.as_ref().unwrap().len(), 2);
    // And the values shown are the defaults.
    let fewer = "[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"https://example.com/apify\"\n\
        secret_file = \"/etc/apify-mirror/hook-secret\"\nheaders = { x-source = \"apify-mirror\" }\n\
        headers_file = \"/etc/apify-mirror/hook-headers\"\n\
        [[sinks]]\nname = \"notify\"\ntype = \"exec\"\ncommand = [\"/usr/local/bin/notify\", \"--quiet\"]\n\
        environment = [\"HTTPS_PROXY\"]\n";
    assert_eq!(from_toml(fewer).unwrap().sinks, complete.sinks[2..]);
}

#[test]
fn later_layers_override_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(
        &path,
        "tasks = [\"a~file\"]\n[sync]\npoll_interval = \"1s\"\noverlap = 7\n[database]\npath = \"file.db\"",
    )
    .unwrap();
    let variables = environment(&[
        ("APIFY_MIRROR_CONFIG", path.to_str().unwrap()),
        ("APIFY_MIRROR_TASKS", "b~variable, c~variable"),
        ("APIFY_MIRROR_SYNC__POLL_INTERVAL", "2s"),
        ("APIFY_MIRROR_SYNC__HISTORY_EVENTS", "true"),
        ("APIFY_MIRROR_API__CONCURRENCY", "8"),
        ("UNRELATED", "x"),
    ]);
    let (settings, found) = load(None, &variables, Overrides::default()).unwrap();
    assert_eq!(found, Some(path));
    assert_eq!(settings.tasks, ["b~variable", "c~variable"]);
    assert_eq!(
        (settings.sync.poll_interval, settings.sync.overlap),
        (Duration::from_secs(2), 7)
    );
    assert!(settings.sync.history_events);
    assert_eq!(
        (settings.api.concurrency.most(), settings.sync.read_ahead),
        (8, 8)
    );

    let overrides = Overrides {
        tasks: vec!["d~flag".into()],
        database: Some("flag.db".into()),
        ..Overrides::default()
    };
    let (settings, _) = load(None, &variables, overrides).unwrap();
    assert_eq!(
        (settings.tasks, settings.database),
        (vec!["d~flag".to_owned()], "flag.db".into())
    );
}

#[test]
fn everything_is_kept_forever_or_for_a_time() {
    let retention = |toml: &str| from_toml(toml).unwrap().retention;
    assert!(retention("").is_forever());
    let some =
        "[retention]\nremoved_runs = \"90d\"\nevents = \"12h\"\ndead_deliveries = \"forever\"";
    let expected = Retention {
        removed_runs: Some(Duration::from_secs(90 * 86_400)),
        events: Some(Duration::from_secs(12 * 3_600)),
        dead_deliveries: None,
    };
    assert_eq!(retention(some), expected);
    let variables = environment(&[("APIFY_MIRROR_RETENTION__EVENTS", "36500d")]);
    let (settings, _) = load(None, &variables, Overrides::default()).unwrap();
    let century = Duration::from_secs(36_500 * 86_400);
    assert_eq!(settings.retention.events, Some(century));
}

#[test]
fn every_problem_is_reported_by_its_path_with_a_remedy() {
    let cases = [
        (
            "task = [\"a\"]",
            "task: is no known key; did you mean `tasks`?",
        ),
        (
            "[sync]\noverlaps = 3",
            "sync.overlaps: is no known key; did you mean `sync.overlap`?",
        ),
        (
            "[sync]\nxyz = 3",
            "sync.xyz: is no known key; known here: poll_interval, page_size",
        ),
        ("sync = 3", "sync: is 3; it must be a section, `[sync]`"),
        (
            "[sync]\npoll_interval = 15",
            "sync.poll_interval: is 15; it must be a time from 100ms to 24h, with its unit: \"15s\"",
        ),
        (
            "[sync]\npoll_interval = \"15\"",
            "sync.poll_interval: is 15; it must be a time",
        ),
        (
            "[sync]\npoll_interval = \"-5s\"",
            "sync.poll_interval: is -5s; it must be a time",
        ),
        (
            "[sync]\npage_size = 1",
            "sync.page_size: is 1; it must be a whole number from 2 to 1000",
        ),
        (
            "[sync]\npage_size = 20\noverlap = 20",
            "sync.overlap: is 20; it must be less than `sync.page_size`",
        ),
        (
            "[sync]\nhistory_events = \"yes\"",
            "sync.history_events: is yes; it must be true or false",
        ),
        (
            "[api]\nrequests_per_second = 4001",
            "api.requests_per_second: is 4001; it must be a whole number from 1 to 4000",
        ),
        (
            "[api]\nbase_url = \"http://api.apify.com\"",
            "api.base_url: is plain http; use https",
        ),
        (
            "[api]\nbase_url = \"ftp://x\"",
            "api.base_url: must begin with https://",
        ),
        (
            "[api]\nbase_url = \"https://x/?a=1\"",
            "api.base_url: has a `?` or a `#` in it; leave out",
        ),
        (
            "[api]\nbase_url = \"nowhere\"",
            "api.base_url: is not an address",
        ),
        (
            "tasks = \"a b\"",
            "tasks[0]: is no task; name one by its ID, by `username~task-name`",
        ),
        (
            "tasks = [\"a/b\", \"..\", \"~\", \"a~\"]",
            "tasks[0]: is no task; name one",
        ),
        ("tasks = [3]", "tasks[0]: is 3; it must be text in quotes"),
        (
            "[http]\nlisten = \"9464\"",
            "http.listen: is \"9464\"; it must be an address with a port",
        ),
        (
            "[retention]\nevents = \"never\"",
            "retention.events: is never; it must be \"forever\" or a time from 1s to 36500d, with its unit: \"12h\", \"90d\"",
        ),
        (
            "[retention]\nremoved_runs = \"0d\"",
            "retention.removed_runs: is 0d; it must be \"forever\" or",
        ),
        (
            "[retention]\ndead_deliveries = 90",
            "retention.dead_deliveries: is 90; it must be \"forever\" or",
        ),
        (
            "[retention]\nruns = \"90d\"",
            "retention.runs: is no known key",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "log.level: is \"loud\"; it must be one of `off`, `error`",
        ),
        (
            "[[sinks]]\nname = \"a\"\ntype = \"webhook\"",
            "sinks[0].url: is missing; it is the address",
        ),
        (
            "[[sinks]]\nname = \"a\"\ntype = \"smtp\"",
            "sinks[0].type: is \"smtp\"; it must be `stdout`, `file`, `webhook` or `exec`",
        ),
        (
            "[[sinks]]\ntype = \"stdout\"",
            "sinks[0].name: is \"\"; a sink needs a name",
        ),
        (
            "[sinks]\nname = \"a\"",
            "sinks: must be sections of their own",
        ),
        (
            "[[sinks]]\nname = \"a\"\ntype = \"stdout\"\nevents = [\"ACTOR.RUN.DONE\"]",
            "sinks[0].events: has \"ACTOR.RUN.DONE\"; known are",
        ),
    ];
    for (toml, expected) in cases {
        let message = problems(toml);
        assert!(
            message.iter().any(|problem| problem.starts_with(expected)),
            "{toml}:\n{message:#?}"
        );
    }
    assert_eq!(
        problems("tasks = [\"a/b\", \"..\", \"~\", \"a~\"]").len(),
        4,
        "all of them"
    );
    let twice =
        "[[sinks]]\nname = \"a\"\ntype = \"stdout\"\n[[sinks]]\nname = \"a\"\ntype = \"stdout\"";
    assert!(problems(twice)[0].starts_with("sinks[1].name: is \"a\", as another sink's"));
}

#[test]
fn an_address_with_a_password_is_refused_without_repeating_it() {
    let message = problems("[api]\nbase_url = \"https://me:hunter2@api.apify.com\"");
    assert!(
        message[0].starts_with("api.base_url: has a user or a password"),
        "{message:?}"
    );
    assert!(!message[0].contains("hunter2"));
}

#[test]
fn loopback_may_be_plain() {
    for address in [
        "http://127.0.0.1:8080",
        "http://localhost",
        "http://[::1]:1",
    ] {
        assert!(
            from_toml(&format!("[api]\nbase_url = \"{address}\"")).is_ok(),
            "{address}"
        );
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_with_the_line() {
    let message = from_toml("tasks = [\n[sync]\n").unwrap_err().to_string();
    assert!(
        message.contains("config.toml") && message.contains("line 2"),
        "{message}"
    );
}

#[test]
fn a_named_file_must_exist() {
    let missing = Path::new("/nonexistent/config.toml");
    let message = load(Some(missing), &Environment::new(), Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("--config: there is no file /nonexistent/config.toml"),
        "{message}"
    );
    let variables = environment(&[("APIFY_MIRROR_CONFIG", "/nonexistent/config.toml")]);
    let message = load(None, &variables, Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("APIFY_MIRROR_CONFIG: there is no file"),
        "{message}"
    );
}

#[test]
fn an_unknown_variable_is_reported_as_the_key_it_would_be() {
    let variables = environment(&[("APIFY_MIRROR_SYNC__POL_INTERVAL", "1s")]);
    let message = load(None, &variables, Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        message
            .starts_with("sync.pol_interval: is no known key; did you mean `sync.poll_interval`?"),
        "{message}"
    );
}

#[test]
fn the_users_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("apify-mirror");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "discover_tasks = true").unwrap();
    let variables = environment(&[("XDG_CONFIG_HOME", dir.path().to_str().unwrap())]);
    let (settings, found) = load(None, &variables, Overrides::default()).unwrap();
    assert!(settings.discover_tasks);
    assert_eq!(found, Some(folder.join("config.toml")));
}

#[test]
fn something_must_be_mirrored_only_where_that_is_asked_for() {
    let settings = Settings::defaults().unwrap();
    assert!(
        settings
            .require_tasks()
            .unwrap_err()
            .to_string()
            .contains("--task")
    );
    assert!(
        from_toml("discover_tasks = true")
            .unwrap()
            .require_tasks()
            .is_ok()
    );
}
