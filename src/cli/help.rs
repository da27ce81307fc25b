//! The end of a command's help: examples and exit codes.

use std::fmt::Write as _;

use anstyle::Style;
use clap::builder::Styles;

use super::exit::ExitCode;

/// What an example does, and the line to type.
pub type Example = (&'static str, &'static str);

/// The end of the help of a command with these examples, which ends with these codes, and those that every command may end
/// with. A code means what it always does unless something else is said.
pub fn after(examples: &[Example], codes: &[(ExitCode, Option<&str>)]) -> String {
    let heading: Style = *Styles::styled().get_header();
    let mut text = String::new();
    // Writing to a string never fails.
    let _ = writeln!(text, "{heading}Examples:{heading:#}");
    for (what, line) in examples {
        let _ = writeln!(text, "  # {what}\n  {line}");
    }
    let mut codes = codes.to_vec();
    let everywhere = [ExitCode::Ok, ExitCode::Unexpected, ExitCode::Usage];
    for code in everywhere {
        if !codes.iter().any(|(known, _)| *known == code) {
            codes.push((code, None));
        }
    }
    codes.sort_by_key(|(code, _)| *code as u8);
    let _ = write!(text, "\n{heading}Exit codes:{heading:#}");
    for (code, meaning) in codes {
        let meaning = meaning.unwrap_or_else(|| code.meaning());
        let _ = write!(text, "\n  {:<3} {meaning}", code as u8);
    }
    text
}
