//! Where settings come from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Map, Source, Value};

use super::reader::{Problem, Problems};
use super::settings::{Overrides, Settings};

/// The process's environment, or one made up for a test.
pub type Environment = HashMap<String, String>;

/// What every variable of ours begins with.
const PREFIX: &str = "APIFY_MIRROR_";

/// Names the configuration file; no key of its own.
const FILE_VARIABLE: &str = "APIFY_MIRROR_CONFIG";

/// Reads and validates the settings; gives the file they come from too, if there is one. A file that is named by
/// `file` or by the environment must exist.
///
/// # Errors
/// Every problem there is, except that a file which cannot be read as TOML at all is a problem by itself.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    overrides: Overrides,
) -> Result<(Settings, Option<PathBuf>), Problems> {
    let found = find_file(file, environment)?;
    let tree = tree(found.as_deref(), environment).map_err(|error| {
        let path = found.as_deref().map_or_else(|| "environment".to_owned(), |path| path.display().to_string());
        // The library begins a line of its own for the place of a syntax error.
        Problems::from(Problem::new(path, error.to_string().trim_end()))
    })?;
    Ok((Settings::from_tree(tree, overrides)?, found))
}

fn find_file(named: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>, Problems> {
    let named = match (named, environment.get(FILE_VARIABLE).filter(|path| !path.is_empty())) {
        (Some(path), _) => Some((path.to_owned(), "--config")),
        (None, Some(path)) => Some((PathBuf::from(path), FILE_VARIABLE)),
        (None, None) => None,
    };
    if let Some((path, by)) = named {
        if path.is_file() {
            return Ok(Some(path));
        }
        let message = format!("there is no file {}; name one that exists, or leave it out", path.display());
        return Err(Problem::new(by, message).into());
    }
    let home = || environment.get("HOME").map(|home| Path::new(home).join(".config"));
    let user = environment.get("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home);
    let places = [
        Some(PathBuf::from("apify-mirror.toml")),
        user.map(|folder| folder.join("apify-mirror/config.toml")),
        Some(PathBuf::from("/etc/apify-mirror/config.toml")),
    ];
    Ok(places.into_iter().flatten().find(|path| path.is_file()))
}

fn tree(file: Option<&Path>, environment: &Environment) -> Result<Map<String, Value>, config::ConfigError> {
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
    if let Some(path) = file {
        // Named with its folder, so that the library does not look for it under other endings.
        builder = builder.add_source(File::from(path).format(FileFormat::Toml));
    }
    builder.add_source(variables).build()?.collect()
}
