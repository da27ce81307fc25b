//! The settings that a command works with, and the log that goes with them.

use std::path::PathBuf;

use super::error::CliError;
use super::globals::{Globals, TaskArgs};
use super::logging;
use super::output::to_journal;
use crate::config::{self, Settings};
use crate::options::Environment;

/// The settings in effect: from the configuration file, the environment and the flags, those of `tasks` among them. Also gives
/// the file, if there is one.
///
/// # Errors
/// When any setting is not valid; the error lists all that are not.
pub fn read(
    globals: &Globals,
    environment: &Environment,
    tasks: &TaskArgs,
) -> Result<(Settings, Option<PathBuf>), CliError> {
    let overrides = globals.overrides(tasks);
    let (settings, file) = config::load(globals.config.as_deref(), environment, overrides)?;
    let settings = match to_journal().stdout {
        true => settings.for_the_journal(),
        false => settings,
    };
    Ok((settings, file))
}

/// The settings in effect, for a command that reads or changes an existing mirror; starts the log.
///
/// # Errors
/// As for [`read`].
pub fn load(globals: &Globals, environment: &Environment) -> Result<Settings, CliError> {
    let (settings, _) = read(globals, environment, &TaskArgs::default())?;
    logging::start(globals, &settings);
    Ok(settings)
}
