//! The layers that settings come from.

use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Map, Source, Value};

use super::settings::{Overrides, Settings};
use crate::files::{self, Purpose, Untrusted};
use crate::options::{Environment, LOOKS_LIKE_A_TOKEN, Problem, Problems, looks_like_token};

/// The prefix of the program's environment variables.
const PREFIX: &str = "APIFY_MIRROR_";

/// The variable that names the configuration file; not a key.
const FILE_VARIABLE: &str = "APIFY_MIRROR_CONFIG";

/// Reads and validates the settings; also returns the configuration file, if there is one. A file named by `file` or by
/// the environment must exist.
///
/// # Errors
/// All problems of the settings, or the single problem that the file cannot be read or is not TOML.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    overrides: Overrides,
) -> Result<(Settings, Option<PathBuf>), Problems> {
    let found = find_file(file, environment)?;
    let text = match &found {
        Some(path) => Some(files::read_to_string(path, Purpose::Configuration).map_err(unusable)?),
        None => None,
    };
    let source = || {
        found.as_deref().map_or_else(
            || "environment".to_owned(),
            |path| path.display().to_string(),
        )
    };
    let settings = parse(text.as_deref(), environment, overrides, source)?;
    if let Some(path) = &found {
        settings.check_inline_secrets(|| files::check(path, Purpose::Secret))?;
    }
    Ok((settings, found))
}

/// The configuration file cannot be used.
fn unusable(untrusted: Untrusted) -> Problem {
    const FILE: &str = "configuration file";
    match untrusted {
        Untrusted::Io { path, source } => Problem::new(
            path.display().to_string(),
            format!("cannot be read: {source}; it must be readable, and UTF-8"),
        ),
        other => Problem::new(FILE, other.to_string()),
    }
}

/// Validates the settings in `text`, which is TOML, overridden by `environment` and `overrides`. `source` names the origin
/// of a syntax error.
///
/// # Errors
/// As for [`load`].
pub fn parse(
    text: Option<&str>,
    environment: &Environment,
    overrides: Overrides,
    source: impl FnOnce() -> String,
) -> Result<Settings, Problems> {
    let tree = tree(text, environment)
        .map_err(|error| Problem::new(source(), without_excerpt(&error.to_string())))?;
    let settings = Settings::from_tree(tree, overrides)?;
    Ok(match text {
        Some(_) => settings,
        None => settings.without_file(),
    })
}

/// Removes the excerpt of the file from a syntax error: it may contain a secret.
fn without_excerpt(error: &str) -> String {
    let is_excerpt = |line: &str| {
        line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            .starts_with('|')
    };
    error
        .lines()
        .filter(|line| !is_excerpt(line))
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("; ")
}

fn find_file(named: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>, Problems> {
    let named = match (
        named,
        environment
            .get(FILE_VARIABLE)
            .filter(|path| !path.is_empty()),
    ) {
        (Some(path), _) => Some((path.to_owned(), "--config")),
        (None, Some(path)) => Some((PathBuf::from(path), FILE_VARIABLE)),
        (None, None) => None,
    };
    if let Some((path, by)) = named {
        if path.is_file() {
            return Ok(Some(path));
        }
        if looks_like_token(&path.to_string_lossy()) {
            return Err(Problem::new(by, LOOKS_LIKE_A_TOKEN).into());
        }
        let message = format!(
            "there is no file {}; name one that exists, or leave it out",
            path.display()
        );
        return Err(Problem::new(by, message).into());
    }
    let home = || {
        environment
            .get("HOME")
            .map(|home| Path::new(home).join(".config"))
    };
    let user = environment
        .get("XDG_CONFIG_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(home);
    let places = [
        Some(PathBuf::from("apify-mirror.toml")),
        user.map(|folder| folder.join("apify-mirror/config.toml")),
        Some(PathBuf::from("/etc/apify-mirror/config.toml")),
    ];
    Ok(places.into_iter().flatten().find(|path| path.is_file()))
}

fn tree(
    text: Option<&str>,
    environment: &Environment,
) -> Result<Map<String, Value>, config::ConfigError> {
    let ours: Environment = environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && *name != FILE_VARIABLE)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let variables = config::Environment::with_prefix("APIFY_MIRROR")
        .prefix_separator("_")
        .separator("__")
        .source(Some(ours.into_iter().collect()));
    let mut builder = Config::builder();
    if let Some(text) = text {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    builder.add_source(variables).build()?.collect()
}
