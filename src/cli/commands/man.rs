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
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    heading(&mut page, "SH", "COMMANDS")?;
    for command in commands {
        add(&mut page, command, &name)?;
    }
    verbatim(&mut page, &after)?;
    String::from_utf8(page).map_err(io::Error::other)
}

/// Adds `command`, which is one of `parent`'s, and its own commands.
fn add(page: &mut Vec<u8>, command: Command, parent: &str) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    let commands: Vec<Command> = command.get_subcommands().cloned().collect();
    let after = after_help_of(&command);
    let command = command.bin_name(name.clone()).disable_help_flag(true);
    let has_options = command.get_arguments().any(|arg| !arg.is_hide_set());
    let man = Man::new(command);
    heading(page, "SS", &name)?;
    page.extend(section(|to| man.render_description_section(to))?);
    page.extend(b".PP\n");
    page.extend(section(|to| man.render_synopsis_section(to))?);
    if has_options {
        page.extend(section(|to| man.render_options_section(to))?);
    }
    page.extend(b".PP\n");
    verbatim(page, &after)?;
    commands
        .into_iter()
        .try_for_each(|command| add(page, command, &name))
}

fn after_help_of(command: &Command) -> String {
    let after = command.get_after_help();
    after.map(ToString::to_string).unwrap_or_default()
}

/// The text of a section, without its heading and what comes before that.
fn section(render: impl Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut rendered = Vec::new();
    render(&mut rendered)?;
    let text = String::from_utf8(rendered).map_err(io::Error::other)?;
    let lines = text.lines().skip_while(|line| !line.starts_with(".SH"));
    let lines = lines.filter(|line| !line.starts_with(".SH"));
    Ok(lines
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .into())
}

fn heading(page: &mut Vec<u8>, level: &str, text: &str) -> io::Result<()> {
    Roff::new().control(level, [text]).to_writer(page)
}

/// Adds `text` with its lines as they are.
fn verbatim(page: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(page)
}
