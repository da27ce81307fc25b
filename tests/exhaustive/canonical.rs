//! Brings the `Debug` text of a machine into a form that is the same for machines that go on alike.
//!
//! A machine has times and numbers that only grow. What it does next depends on how they compare with now and with one
//! another, so that the search would take states for different that are not. Whatever a machine comes to hold is in its
//! `Debug` text, so nothing can be forgotten here: a new field makes more states, not fewer.

/// A number in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number<'a> {
    /// A duration, in milliseconds, with the name of its field.
    Duration(&'a str, i64),
    /// An instant, in milliseconds, with the name of its field.
    Instant(&'a str, i64),
    /// Another number in parentheses, with the name of its type.
    Wrapped(&'a str, i64),
    /// Another number, with the name of the field that it is in.
    Plain(&'a str, i64),
}

/// Copies `text` to `to` without the names of fields, and with each [`Number`] replaced by what `of` makes of it.
pub fn write(text: &str, to: &mut String, mut of: impl FnMut(Number<'_>) -> i64) {
    let bytes = text.as_bytes();
    let (mut at, mut copied) = (0, 0);
    // The last field and the last word, where a word is what stands before `(` or `:`.
    let (mut field, mut word) = ("", "");
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = after_string(bytes, at),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let end = end_of(bytes, at, |byte| {
                    byte.is_ascii_alphanumeric() || byte == b'_'
                });
                word = &text[at..end];
                at = end;
                if bytes.get(end) == Some(&b':') {
                    field = word;
                    to.push_str(&text[copied..end - word.len()]);
                    copied = end + 1;
                }
            }
            b'0'..=b'9' => {
                let end = end_of(bytes, at, |byte| byte.is_ascii_digit() || byte == b'.');
                let unit_end = end_of(bytes, end, |byte| {
                    byte.is_ascii_alphabetic() || !byte.is_ascii()
                });
                let unit = &text[end..unit_end];
                let wrapped = at > 0 && bytes[at - 1] == b'(' && unit.is_empty();
                let number = match (wrapped, unit) {
                    (true, _) if word == "Timestamp" => {
                        Number::Instant(field, parse(&text[at..end], 1.0))
                    }
                    (true, _) => Number::Wrapped(word, parse(&text[at..end], 1.0)),
                    (false, "") => Number::Plain(field, parse(&text[at..end], 1.0)),
                    (false, _) => Number::Duration(field, parse(&text[at..end], factor(unit))),
                };
                to.push_str(&text[copied..at]);
                push(to, of(number));
                (at, copied) = (unit_end, unit_end);
            }
            _ => at += 1,
        }
    }
    to.push_str(&text[copied..]);
}

/// Writes `number` in decimal.
pub fn push(to: &mut String, number: i64) {
    use std::fmt::Write;
    let _ = write!(to, "{number}");
}

fn after_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn end_of(bytes: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let mut end = start;
    while end < bytes.len() && belongs(bytes[end]) {
        end += 1;
    }
    end
}

/// Milliseconds in a unit of `Duration`'s `Debug` text.
fn factor(unit: &str) -> f64 {
    match unit {
        "s" => 1_000.0,
        "ms" => 1.0,
        "µs" => 1e-3,
        "ns" => 1e-6,
        _ => panic!("{unit} is no unit of time"),
    }
}

fn parse(digits: &str, factor: f64) -> i64 {
    if factor == 1.0
        && let Ok(number) = digits.parse()
    {
        return number;
    }
    let number: f64 = digits.parse().expect("digits are a number");
    (number * factor).round() as i64
}

#[test]
fn numbers_are_found_with_their_names() {
    let text = r#"M { a: 1.5s, n: 3, s: "b: 2s (7)", at: Some(Timestamp(42)), id: Id(9), m: {Id(1): [2]} }"#;
    let mut seen = Vec::new();
    let mut to = String::new();
    write(text, &mut to, |number| {
        seen.push(format!("{number:?}"));
        0
    });
    assert_eq!(
        seen,
        [
            r#"Duration("a", 1500)"#,
            r#"Plain("n", 3)"#,
            r#"Instant("at", 42)"#,
            r#"Wrapped("Id", 9)"#,
            r#"Wrapped("Id", 1)"#,
            r#"Plain("m", 2)"#
        ]
    );
    assert_eq!(
        to,
        r#"M {  0,  0,  "b: 2s (7)",  Some(Timestamp(0)),  Id(0),  {Id(0): [0]} }"#
    );
}
