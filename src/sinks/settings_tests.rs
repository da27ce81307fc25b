//! Sinks, right and wrong.

use std::any::Any;
use std::time::Duration;

use super::options::Place;
use super::secret::SecretSource;
use super::settings::{SinkSettings, Start};
use super::signature::SigningKeys;
use super::webhook::WebhookOptions;
use crate::config::{Overrides, parse};
use crate::options::{Environment, Problems};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn read(sink: &str) -> Result<SinkSettings, Problems> {
    let toml = format!("[[sinks]]\nname = \"a\"\n{sink}");
    parse(
        Some(&toml),
        &Environment::new(),
        Overrides::default(),
        || "config.toml".to_owned(),
    )
    .map(|mut settings| settings.sinks.remove(0))
}

fn problems(sink: &str) -> String {
    read(sink).unwrap_err().to_string()
}

/// The options of a sink, which must be a webhook.
fn webhook(sink: &SinkSettings) -> &WebhookOptions {
    let options: &dyn Any = sink.options.as_ref();
    options.downcast_ref().unwrap()
}

#[test]
fn defaults_of_each_type() {
    let sink = read("type = \"stdout\"").unwrap();
    assert_eq!(
        (sink.options.kind(), sink.start, sink.events),
        ("stdout", Start::Now, None)
    );
    assert_eq!(sink.give_up_after, Duration::from_secs(32 * 3_600));
    let sink =
        read("type = \"file\"\npath = \"x.jsonl\"\nstart = \"beginning\"\ngive_up_after = \"1h\"")
            .unwrap();
    assert_eq!(
        (sink.options.kind(), sink.start),
        ("file", Start::Beginning)
    );
    assert_eq!(sink.options.place(), Some(Place::File("x.jsonl".into())));
    assert_eq!(sink.give_up_after, Duration::from_secs(3_600));
    let sink = read("type = \"webhook\"\nurl = \"https://hook.example/x\"").unwrap();
    let hook = webhook(&sink);
    assert_eq!(
        (hook.timeout, hook.concurrency, &hook.secret),
        (Duration::from_secs(30), 8, &SecretSource::None)
    );
    let sink = read("type = \"exec\"\ncommand = [\"prog\", \"a, b\"]").unwrap();
    assert_eq!(
        format!("{:?}", sink.options),
        r#"ExecOptions { program: "prog", arguments: 1, environment: 0, timeout: 60s, concurrency: 1 }"#
    );
}

#[test]
fn sinks_are_equal_when_they_are_configured_alike() {
    let hook = "type = \"webhook\"\nurl = \"https://hook.example/x\"\n";
    let sinks = [
        "type = \"stdout\"",
        "type = \"file\"\npath = \"x\"",
        "type = \"file\"\npath = \"y\"",
        hook,
        &format!("{hook}timeout = \"1s\""),
        &format!("{hook}start = \"beginning\""),
        &format!("{hook}headers = {{ a = \"b\" }}"),
        &format!("{hook}secret = \"{SECRET}\""),
        "type = \"exec\"\ncommand = [\"prog\"]",
    ]
    .map(|sink| read(sink).unwrap());
    for (n, sink) in sinks.iter().enumerate() {
        let equal: Vec<_> = (0..sinks.len())
            .filter(|other| sinks[*other] == *sink)
            .collect();
        assert_eq!(equal, [n]);
    }
}

#[test]
fn headers_are_taken_and_never_shown() {
    let sink = read(
        "type = \"webhook\"\nurl = \"https://hook.example/T0KEN\"\nheaders = { Authorization = \"Bearer hunter2\", x-a = \"b\" }",
    )
    .unwrap();
    let hook = webhook(&sink);
    assert_eq!(hook.headers["authorization"], "Bearer hunter2");
    assert_eq!(hook.headers["x-a"], "b");
    let shown = format!("{sink:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("T0KEN"),
        "{shown}"
    );
}

#[test]
fn problems_are_reported_by_their_path_without_a_secret() {
    let webhook = "type = \"webhook\"\nurl = \"https://hook.example/\"\n";
    let with = |more: &str| format!("{webhook}{more}");
    for (sink, expected) in [
        ("type = \"file\"".to_owned(), "sinks[0].path: is missing; name the file"),
        ("type = \"exec\"".to_owned(), "sinks[0].command: is missing or empty; name a program"),
        ("type = \"exec\"\ncommand = \"prog arg\"".to_owned(), "sinks[0].command: is text; it must be a list"),
        ("type = \"exec\"\ncommand = []".to_owned(), "sinks[0].command: is missing or empty"),
        (
            "type = \"exec\"\ncommand = [\"x\"]\nconcurrency = 0".to_owned(),
            "sinks[0].concurrency: is 0; it must be a whole number",
        ),
        ("type = \"webhook\"".to_owned(), "sinks[0].url: is missing"),
        ("type = \"webhook\"\nurl = \"hunter2\"".to_owned(), "sinks[0].url: is not an address"),
        ("type = \"webhook\"\nurl = \"ftp://hunter2\"".to_owned(), "sinks[0].url: must begin with https://"),
        ("type = \"webhook\"\nurl = \"https://me:hunter2@x/\"".to_owned(), "sinks[0].url: has a user or a password"),
        (
            "type = \"webhook\"\nurl = \"http://hook.example/\"\nheaders = { authorization = \"hunter2\" }".to_owned(),
            "sinks[0].url: is plain http, which would expose the headers to everyone on the way; use https",
        ),
        (
            format!("type = \"webhook\"\nurl = \"http://hook.example/\"\nsecret = \"{SECRET}\""),
            "sinks[0].url: is plain http, which would expose signed events",
        ),
        (
            "type = \"webhook\"\nurl = \"http://hook.example/\"\nheaders_file = \"x\"".to_owned(),
            "sinks[0].url: is plain http, which would expose the headers",
        ),
        (with("url_file = \"hunter2\""), "sinks[0].url: is given twice; keep one of `url` and `url_file`"),
        ("type = \"webhook\"\nurl = \"https://apify_api_hunter2/\"".to_owned(), "sinks[0].url: looks like an API token"),
        (with("secret = \"hunter2\""), "sinks[0].secret: must begin with `whsec_`"),
        (with("secret = 7"), "sinks[0].secret: must be text in quotes"),
        (with(&format!("secret = \"{SECRET}\"\nsecret_env = \"X\"")), "sinks[0].secret: is given more than once"),
        (with("headers = { webhook-id = \"x\" }"), "sinks[0].headers.webhook-id: is set by apify-mirror itself"),
        (with("headers = { \"a b\" = \"hunter2\" }"), "sinks[0].headers.a b: is not the name of a header"),
        (with("headers = { a = \"hunter2\\n\" }"), "sinks[0].headers.a: has a value that no header can have"),
        (with("headers = { a = 2 }"), "sinks[0].headers.a: must be text in quotes"),
        (with("headers = \"hunter2\""), "sinks[0].headers: must be a table"),
        (with("path = \"x\""), "sinks[0].path: is no known key"),
        (with("conurrency = 3"), "sinks[0].conurrency: is no known key; did you mean `sinks[0].concurrency`?"),
        (with("give_up_after = \"0s\""), "sinks[0].give_up_after: is 0s; it must be a time from 1s"),
        (with("start = \"later\""), "sinks[0].start: is \"later\"; it must be one of `now`, `beginning`"),
        (with("events = []"), "sinks[0].events: is empty"),
    ] {
        let message = problems(&sink);
        assert!(message.lines().any(|line| line.starts_with(expected)), "{sink}:\n{message}");
        assert!(!message.contains("hunter2") && !message.contains(SECRET), "{message}");
    }
}

#[test]
fn programs_get_no_secret_by_its_name() {
    let exec = |names: &str| {
        format!(
            "type = \"exec\"\ncommand = [\"prog\"]\nenvironment = [{names}]\n\
             [[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"https://x/\"\nsecret_env = \"HOOK_SECRET\""
        )
    };
    for (names, expected) in [
        (
            "\"A\", \"APIFY_TOKEN\"",
            "sinks[0].environment[1]: holds the API token",
        ),
        (
            "\"CREDENTIALS_DIRECTORY\"",
            "sinks[0].environment[0]: holds the API token, or leads to it",
        ),
        (
            "\"A\", \"HOOK_SECRET\"",
            "sinks[0].environment[1]: holds the secret of a sink",
        ),
        (
            "\"APIFY_RUN_ID\"",
            "sinks[0].environment[0]: is set by apify-mirror itself",
        ),
        (
            "\"A=hunter2\"",
            "sinks[0].environment[0]: is no name of a variable",
        ),
        ("\"\"", "sinks[0].environment[0]: is no name of a variable"),
        (
            "\"apify_api_hunter2\"",
            "sinks[0].environment[0]: looks like an API token",
        ),
    ] {
        let message = problems(&exec(names));
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let sink = read(&exec("\"SLACK_TOKEN\", \"HTTPS_PROXY\"")).unwrap();
    assert_eq!(
        sink.options.passed_variables(),
        ["SLACK_TOKEN", "HTTPS_PROXY"]
    );
}

#[test]
fn secrets_in_the_configuration_itself_are_known() {
    let hook = "type = \"webhook\"\nurl = \"https://hook.example/x\"\n";
    for (more, key) in [
        (String::new(), None),
        (format!("secret = \"{SECRET}\""), Some("secret")),
        ("secret_env = \"X\"\nheaders_file = \"x\"".to_owned(), None),
        (
            "secret_file = \"x\"\nheaders = { user-agent = \"x\" }".to_owned(),
            None,
        ),
        (
            "headers = { Authorization = \"x\" }".to_owned(),
            Some("headers"),
        ),
        (
            "headers = { x-a = \"b\", X-API-Key = \"x\" }".to_owned(),
            Some("headers"),
        ),
        ("headers = { cookie = \"x\" }".to_owned(), Some("headers")),
        (
            "headers = { x-gitlab-token = \"x\" }".to_owned(),
            Some("headers"),
        ),
    ] {
        let sink = read(&format!("{hook}{more}")).unwrap();
        assert_eq!(sink.options.inline_secret(), key, "{more}");
    }
    for sink in [
        "type = \"stdout\"",
        "type = \"exec\"\ncommand = [\"x\", \"secret\"]",
    ] {
        assert_eq!(read(sink).unwrap().options.inline_secret(), None);
    }
}

#[test]
fn plain_http_is_warned_of_unless_it_stays_on_this_machine() {
    for (url, is_warned) in [
        ("https://hook.example/T0KEN", false),
        ("http://hook.example/T0KEN", true),
        ("http://127.0.0.1:8080/T0KEN", false),
        ("http://localhost/T0KEN", false),
    ] {
        let sink = read(&format!("type = \"webhook\"\nurl = \"{url}\"")).unwrap();
        let warning = sink.options.warning();
        assert_eq!(warning.is_some(), is_warned, "{url}");
        assert!(!warning.unwrap_or_default().contains("T0KEN"));
    }
}

#[test]
fn lines_of_two_sinks_must_not_mix() {
    let message = problems("type = \"stdout\"\n[[sinks]]\nname = \"b\"\ntype = \"stdout\"");
    assert!(
        message.starts_with("sinks[1].type: is another sink's too"),
        "{message}"
    );
    let file = "type = \"file\"\npath = \"x\"\n";
    let message = problems("type = \"file\"\npath = \"apify-mirror.db\"\n");
    assert!(
        message.starts_with("sinks[0].path: is the database"),
        "{message}"
    );
    let message = problems(&format!("{file}[[sinks]]\nname = \"b\"\n{file}"));
    assert!(
        message.starts_with("sinks[1].path: is another sink's too"),
        "{message}"
    );
}

#[test]
fn a_sink_with_problems_takes_no_place() {
    let message = problems("type = \"stdout\"\n[[sinks]]\nname = \"b\"\ntype = \"webhook\"");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn what_is_in_the_wrong_place_is_not_repeated() {
    let read = |toml: &str, variable: Option<(&str, &str)>| {
        let environment = variable
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        parse(Some(toml), &environment, Overrides::default(), || {
            "config.toml".to_owned()
        })
        .unwrap_err()
        .to_string()
    };
    let inside = format!(
        "secret = \"{SECRET}\"\nurl = \"https://x/T0KEN\"\nheaders = {{ authorization = \"hunter2\" }}\n"
    );
    let array = "[[sinks]]\nname = \"a\"\ntype = \"webhook\"\nurl = \"https://x/\"\n";
    for message in [
        read(&format!("[sinks]\n{inside}"), None),
        read(
            &format!("[api]\ntimeout = \"{SECRET}\"\nbase_url = [\"hunter2\"]"),
            None,
        ),
        read(&format!("[log.level]\n{inside}"), None),
        read(
            "sync = [\"hunter2\"]\ntasks = { a = \"hunter2\" }\ndiscover_tasks = [\"hunter2\"]",
            None,
        ),
        read(&format!("{array}secret_file = {{ x = \"hunter2\" }}"), None),
        read(&format!("{array}secret_env = \"hunter2=\""), None),
        read(&format!("{array}secret_env = [\"{SECRET}\"]"), None),
        read(
            &format!("{array}timeout = {{ x = \"hunter2\" }}\nconcurrency = [\"hunter2\"]"),
            None,
        ),
        read(
            "[[sinks]]\nname = \"a\"\ntype = \"exec\"\ncommand = \"curl -H authorization:hunter2\"",
            None,
        ),
        read(array, Some(("APIFY_MIRROR_SINKS__0__SECRET", SECRET))),
        read(array, Some(("APIFY_MIRROR_SINKS", "hunter2"))),
    ] {
        assert!(
            !["hunter2", "T0KEN", SECRET]
                .iter()
                .any(|secret| message.contains(secret)),
            "{message}"
        );
    }
    let message = read(array, Some(("APIFY_MIRROR_SINKS__0__SECRET", SECRET)));
    assert!(
        message.contains("an environment variable cannot set them"),
        "{message}"
    );
}

#[test]
fn secrets_are_read_from_where_the_settings_point_when_they_are_needed() {
    let toml = "[[sinks]]\nname = \"a\"\ntype = \"stdout\"\n[[sinks]]\nname = \"b\"\ntype = \"webhook\"\n\
                url = \"http://127.0.0.1:1/\"\nsecret_env = \"HOOK_SECRET\"";
    let settings = |toml: &str| {
        let none = Environment::new();
        parse(Some(toml), &none, Overrides::default(), String::new).unwrap()
    };
    let problem = |toml: &str| {
        let resolved = settings(toml).resolved_sinks(&Environment::new());
        resolved.unwrap_err().to_string()
    };
    assert_eq!(settings(toml).secret_variables(), ["HOOK_SECRET"]);
    let expected = "sinks[1].secret_env: the environment variable HOOK_SECRET is not set";
    assert_eq!(problem(toml), expected);
    assert_eq!(
        problem(&toml.replace("HOOK_SECRET", "hunter2")),
        "sinks[1].secret_env: the environment variable is not set",
        "it may be a secret in the wrong place"
    );
    let environment = Environment::from([("HOOK_SECRET".to_owned(), SECRET.to_owned())]);
    let resolved = settings(toml).resolved_sinks(&environment).unwrap();
    let keys = SigningKeys::parse(SECRET).unwrap();
    assert_eq!(webhook(&resolved[1]).secret, SecretSource::Keys(keys));
    assert_ne!(
        resolved,
        settings(toml).sinks,
        "a changed secret makes another sink"
    );
}

#[tokio::test]
async fn a_webhook_is_not_built_before_its_secret_is_read() {
    let sink = read("type = \"webhook\"\nurl = \"https://x/\"\nsecret_env = \"X\"").unwrap();
    assert!(sink.options.build(&[]).await.is_err());
}
