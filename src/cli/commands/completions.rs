//! `completions`: a script that completes commands and flags in a shell.

use clap_complete::Shell;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::NoGlobals;
use crate::cli::help;
use crate::cli::output::{Unwritable, print};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "for the current user of bash",
                "apify-mirror completions bash > ~/.local/share/bash-completion/completions/apify-mirror",
            ),
            (
                "for all users of zsh",
                "apify-mirror completions zsh > /usr/local/share/zsh/site-functions/_apify-mirror",
            ),
        ],
        &[(ExitCode::Storage, None)],
    )
}

/// The flags of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
    #[command(flatten)]
    globals: NoGlobals,
}

/// Prints the script for `program`.
///
/// # Errors
/// When a global flag is given, or standard output cannot be written.
pub fn execute(args: &Args, mut program: clap::Command) -> Result<ExitCode, CliError> {
    args.globals.refuse("completions")?;
    let mut script = Vec::new();
    let name = program.get_name().to_owned();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    let script = String::from_utf8(script);
    print(&script.map_err(|error| Unwritable::from(std::io::Error::other(error)))?)?;
    Ok(ExitCode::Ok)
}
