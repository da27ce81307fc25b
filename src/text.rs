//! Text that others wrote, made harmless: names, statuses, ids and errors reach terminals, logs and programs that must not
//! be steered by them.
//!
//! Active characters are those that a reader does not see but that change what it does or shows: control characters (C0,
//! DEL, C1), line and paragraph separators, bidirectional controls, and whatever else Unicode says is not to be drawn
//! (`Default_Ignorable_Code_Point`: characters without width, the byte order mark, variation selectors, tags). The ranges
//! are those of Unicode 17.

use std::fmt::{self, Write as _};

/// The most characters of one value that people are shown: a cell, a line, a field of the log.
pub const MAX_SHOWN: usize = 2_000;

/// Ends text of which not all is shown.
pub const CUT: char = '…';

/// `value` on one line of at most `most` characters, with every active character escaped as Rust writes it (`\n`,
/// `\u{1b}`). What does not fit is replaced by `…`. Text that was escaped once stays as it is: a backslash is no active
/// character.
///
/// Takes time and memory for `most` characters, however long `value` is, if `value` stops at the first error in writing
/// itself, as those made with [`write!`] do.
pub fn escape(value: impl fmt::Display, most: usize) -> String {
    Limited::write(value, most, true)
}

/// `value` in at most `most` characters, for where active characters are escaped later. What does not fit is replaced by
/// `…`.
pub fn cut(value: impl fmt::Display, most: usize) -> String {
    Limited::write(value, most, false)
}

/// JSON text with every active character beyond ASCII, and DEL, as `\uXXXX`. Such characters stand only in strings, where
/// an escape means the same. Those of ASCII are escaped in strings by whatever writes JSON, and between values they are
/// layout.
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c >= '\u{7f}' && is_active(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string never fails.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether `c` is an active character.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Line and paragraph separators, interlinear annotations.
            '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}'
            // Soft hyphen, grapheme joiner, Arabic letter mark, fillers, Khmer vowels, Mongolian selectors.
            | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
            // Spaces and joiners without width, marks, embeddings, overrides, isolates, invisible operators.
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Variation selectors, the byte order mark, and what is reserved to be ignored.
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fff8}'
            // Shorthand and musical format controls, tags and more variation selectors.
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Collects text up to a limit.
struct Limited {
    text: String,
    /// How many characters it may still get.
    left: usize,
    /// Where to cut: the last place at which `…` still fits.
    end: usize,
    escapes: bool,
}

impl Limited {
    fn write(value: impl fmt::Display, most: usize, escapes: bool) -> String {
        let mut limited = Self {
            text: String::new(),
            left: most,
            end: 0,
            escapes,
        };
        // An error means that not all fits, or that `value` cannot write itself; what it wrote is shown.
        let _ = write!(limited, "{value}");
        limited.text
    }

    /// Adds what stands for one character, as a whole.
    fn add(&mut self, piece: impl ExactSizeIterator<Item = char>) -> fmt::Result {
        let Some(left) = self.left.checked_sub(piece.len()) else {
            self.left = 0;
            self.text.truncate(self.end);
            self.text.push(CUT);
            return Err(fmt::Error);
        };
        self.left = left;
        self.text.extend(piece);
        if left > 0 {
            self.end = self.text.len();
        }
        Ok(())
    }
}

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            if self.escapes && is_active(c) {
                self.add(c.escape_default())
            } else {
                self.add(std::iter::once(c))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_characters_are_escaped_and_others_stay() {
        for (text, shown) in [
            ("", ""),
            (
                "my-task ä 日本 🎉 e\u{301} \u{a0}",
                "my-task ä 日本 🎉 e\u{301} \u{a0}",
            ),
            ("a\n<0>b\r\tc", r"a\n<0>b\r\tc"),
            ("\u{1b}[2J\u{0}\u{7f}", r"\u{1b}[2J\u{0}\u{7f}"),
            ("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            (
                "\u{202e}txt\u{2066}\u{200f}\u{61c}",
                r"\u{202e}txt\u{2066}\u{200f}\u{61c}",
            ),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("a\u{200b}b\u{feff}\u{ad}", r"a\u{200b}b\u{feff}\u{ad}"),
            ("\u{e0041}\u{fe0f}\u{e0101}", r"\u{e0041}\u{fe0f}\u{e0101}"),
            (r"C:\n \u{1b}", r"C:\n \u{1b}"),
        ] {
            assert_eq!(escape(text, 100), shown);
            assert_eq!(escape(shown, 100), shown, "twice");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_visibly() {
        for (text, most, shown) in [
            ("abcd", 4, "abcd"),
            ("abcde", 4, "abc…"),
            ("äöü日本", 4, "äöü…"),
            ("abc\n", 4, "abc…"),
            ("ab\n", 4, r"ab\n"),
            ("ab\u{1b}x", 4, "ab…"),
            ("ab", 1, "…"),
            ("", 0, ""),
        ] {
            assert_eq!(escape(text, most), shown, "{text:?} {most}");
        }
        assert_eq!(cut("a\n\u{1b}cd", 4), "a\n\u{1b}…");
    }

    #[test]
    fn a_long_value_is_not_written_to_its_end() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("\u{1b}x")?;
                }
            }
        }
        assert_eq!(escape(Endless, 9), r"\u{1b}x…");
        assert_eq!(escape(format_args!("{Endless}"), 3), "…");
    }

    #[test]
    fn json_means_the_same_when_it_is_escaped() {
        let text = "a\u{1b}\n\u{7f}\u{9b}\u{202e}\u{2028}\u{feff}\u{e0041}ü🎉\\\"";
        let json = serde_json::to_string_pretty(&[text, "x"]).unwrap();
        let escaped = escape_json(&json);
        for shown in [
            "\\u007f",
            "\\u009b",
            "\\u202e",
            "\\u2028",
            "\\udb40\\udc41",
            "ü🎉",
            "\n  ",
        ] {
            assert!(escaped.contains(shown), "{shown}: {escaped}");
        }
        assert!(
            !escaped.chars().any(|c| c != '\n' && is_active(c)),
            "{escaped}"
        );
        let read: Vec<String> = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, [text, "x"]);
        assert_eq!(escape_json(&escaped), escaped, "twice");
    }
}
