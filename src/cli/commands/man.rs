//! `man`: the manual page, one for all commands.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;
use roff::{Roff, roman};

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::NoGlobals;
use crate::cli::help;
use crate::cli::output::{Unwritable, print};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            ("read it", "apify-mirror man | man -l -"),
            (
                "install it",
                "apify-mirror man > /usr/local/share/man/man1/apify-mirror.1",
            ),
        ],
        &[(ExitCode::Storage, None)],
    )
}

/// The flags of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    globals: NoGlobals,
}

/// Prints the manual page of `program`.
///
/// # Errors
/// When a global flag is given, or standard output cannot be written.
pub fn execute(args: &Args, program: Command) -> Result<ExitCode, CliError> {
    args.globals.refuse("man")?;
    print(&page(program).map_err(Unwritable::from)?)?;
    Ok(ExitCode::Ok)
}

/// The page, in roff: the program, then each command, then what holds for all.
fn page(program: Command) -> io::Result<String> {
    let commands: Vec<Command> = program.get_subcommands().cloned().collect();
    let name = program.get_name().to_owned();
    let version = program.get_version().unwrap_or_default().to_owned();
    let after = after_help_of(&program);
    let man = Man::new(program).source(format!("{name} {version}"));
    let mut page = PREAMBLE.to_owned();
    page += &rendered(|to| man.render_title(to))?;
    page += &rendered(|to| man.render_name_section(to))?;
    page += &rendered(|to| man.render_synopsis_section(to))?;
    page += &rendered(|to| man.render_description_section(to))?;
    page += &rendered(|to| man.render_options_section(to))?;
    page += ".SH COMMANDS\n";
    for command in commands {
        page += &section(command, &name, "")?;
    }
    page += ".SH EXAMPLES AND EXIT STATUS\n";
    page += &verbatim(&after)?;
    Ok(page)
}

/// The part of `command`, which is one of `parent`'s, and of its own commands. The end of its help is left out where it is
/// `said` before.
fn section(command: Command, parent: &str, said: &str) -> io::Result<String> {
    let name = format!("{parent} {}", command.get_name());
    let commands: Vec<Command> = command.get_subcommands().cloned().collect();
    let after = after_help_of(&command);
    let command = command.bin_name(name.clone()).disable_help_flag(true);
    let has_options = command.get_arguments().any(|arg| !arg.is_hide_set());
    let man = Man::new(command);
    let mut section = format!(".SS \"{}\"\n", name.replace('-', "\\-"));
    section += &without_heading(&rendered(|to| man.render_description_section(to))?);
    section += ".PP\n";
    section += &without_heading(&rendered(|to| man.render_synopsis_section(to))?);
    if has_options {
        section += &without_heading(&rendered(|to| man.render_options_section(to))?);
    }
    if after != said {
        section += ".PP\n";
        section += &verbatim(&after)?;
    }
    for command in commands {
        section += &self::section(command, &name, &after)?;
    }
    Ok(section)
}

fn after_help_of(command: &Command) -> String {
    let after = command.get_after_help();
    after.map(ToString::to_string).unwrap_or_default()
}

/// What everything that is rendered begins with: it defines the apostrophe. Once for the page is enough.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// What `render` writes, without the preamble.
fn rendered(render: impl Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<String> {
    let mut text = Vec::new();
    render(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(text.strip_prefix(PREAMBLE).unwrap_or(&text).to_owned())
}

fn without_heading(section: &str) -> String {
    let lines = section.lines().filter(|line| !line.starts_with(".SH"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// `text` with its lines as they are.
fn verbatim(text: &str) -> io::Result<String> {
    let mut roff = Roff::new();
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    rendered(|to| roff.to_writer(to))
}
