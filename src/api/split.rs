//! Divides JSON text into its values without reading them, so that one that cannot be read does not spoil the others, and
//! mends what is not quite JSON.
//!
//! Nothing here recurses: text may be nested to any depth. Nothing here copies more than a short text: it works on the
//! bytes of the body, whose structure is ASCII whatever stands in its strings.

use std::borrow::Cow;

use memchr::memchr2;

/// The longest text of a JSON string, or of a number in its place, that is read: longer keys are unknown ones, and longer
/// ids and counts none. In bytes, as written.
const MAX_TEXT: usize = 1_000;

/// Walks through JSON text, value by value.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Passes over the value that comes next, and returns its text.
    ///
    /// # Errors
    /// When there is none, or the text ends within it.
    pub fn value(&mut self) -> Result<&'a [u8], String> {
        self.skip_space();
        let begin = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' | b']' if depth == 0 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        let value = self.text[begin..self.at].trim_ascii_end();
        if depth > 0 {
            Err("it is cut off".to_owned())
        } else if value.is_empty() {
            Err(self.unexpected("a value"))
        } else {
            Ok(value)
        }
    }

    /// Enters the object that comes next, calls `member` at the value of each member, which it must pass over, and leaves
    /// the object.
    ///
    /// # Errors
    /// When the next value is no object, the text ends within it, or `member` fails.
    pub fn members(
        &mut self,
        mut member: impl FnMut(&str, &mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.expect(b'{', "an object")?;
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.expect(b':', "a colon")?;
            member(&read_text(key).unwrap_or_default(), self)?;
            if self.takes(b'}') {
                return Ok(());
            }
            self.expect(b',', "a comma")?;
        }
    }

    /// Passes over the array that comes next, and returns the text of each element; of more than `most`, that of one more
    /// than those.
    ///
    /// # Errors
    /// When the next value is no array, an element is missing, or the text ends within it.
    pub fn elements(&mut self, most: usize) -> Result<Vec<&'a [u8]>, String> {
        self.expect(b'[', "an array")?;
        let mut elements = Vec::new();
        if self.takes(b']') {
            return Ok(elements);
        }
        loop {
            let element = self.value()?;
            if elements.len() <= most {
                elements.push(element);
            }
            if self.takes(b']') {
                return Ok(elements);
            }
            self.expect(b',', "a comma")?;
        }
    }

    /// Requires that nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn end(&mut self) -> Result<(), String> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end")),
        }
    }

    /// Passes over the string that comes next, and returns its text with the quotes.
    fn string(&mut self) -> Result<&'a [u8], String> {
        self.expect(b'"', "a string")?;
        let begin = self.at - 1;
        let Some(length) = string_length(&self.text[begin..]) else {
            self.at = self.text.len();
            return Err("it is cut off".to_owned());
        };
        self.at = begin + length;
        Ok(&self.text[begin..self.at])
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Passes over `byte`, if that comes next.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), String> {
        if self.takes(byte) {
            Ok(())
        } else {
            Err(self.unexpected(what))
        }
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.peek() {
            None => "it is cut off".to_owned(),
            Some(_) => format!("expected {wanted} at byte {}", self.at),
        }
    }
}

/// How many bytes the string has that `text` begins with, its quotes included; `None` if it does not end.
pub fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)? + 1;
        if text[at - 1] == b'"' {
            return Some(at);
        }
        // Whatever is escaped, its first byte ends no string.
        at += 1;
    }
}

/// The text that a JSON string stands for, mended where it must be; `None` if `json` is no string, or a long one.
pub fn read_text(json: &[u8]) -> Option<String> {
    let json = short(json)?;
    serde_json::from_str(&json)
        .or_else(|_| serde_json::from_str(&mend(&json)))
        .ok()
}

/// `json` as text, if it is short.
pub fn short(json: &[u8]) -> Option<Cow<'_, str>> {
    (json.len() <= MAX_TEXT).then(|| String::from_utf8_lossy(json))
}

/// `json`, with half surrogate pairs replaced by U+FFFD, as in text that was cut in the middle of an emoji, and with null
/// for the numbers that JSON does not have: `NaN`, `Infinity`, `-Infinity`.
pub fn mend(json: &str) -> String {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    let mut in_string = false;
    while let Some(next) = rest.chars().next() {
        let (piece, length) = match next {
            '\\' if in_string => escape(rest),
            'N' | 'I' | '-' if !in_string => number(rest),
            _ => {
                in_string ^= next == '"';
                (&rest[..next.len_utf8()], next.len_utf8())
            }
        };
        mended.push_str(piece);
        rest = &rest[length..];
    }
    mended
}

/// What to write for the escape at the beginning of `text`, and the length of what it stands for.
fn escape(text: &str) -> (&str, usize) {
    /// `\uXXXX`.
    const UNIT: usize = 6;
    let unit = |at: usize| {
        let digits = text.get(at..at + UNIT)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let length = match (unit(0), unit(UNIT)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * UNIT,
        (Some(0xd800..=0xdfff), _) => return ("\u{fffd}", UNIT),
        (Some(_), _) => UNIT,
        (None, _) => 1 + text[1..].chars().next().map_or(0, char::len_utf8),
    };
    (&text[..length], length)
}

/// What to write for the token at the beginning of `text`, and its length.
fn number(text: &str) -> (&str, usize) {
    for token in ["NaN", "Infinity", "-Infinity"] {
        let rest = text.strip_prefix(token);
        if rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric())) {
            return ("null", token.len());
        }
    }
    (&text[..1], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<&str>, String> {
        let elements = Scanner::new(text.as_bytes()).elements(10)?;
        let text = |element| std::str::from_utf8(element).unwrap();
        Ok(elements.into_iter().map(text).collect())
    }

    #[test]
    fn brackets_and_commas_in_strings_divide_nothing() {
        let items = [
            r#"{"a": "]},{[", "b": [1, {"c": "\\"}]}"#,
            r#""\"]""#,
            r#""\\""#,
            "[[], {}]",
            "-1.5e3",
            "null",
        ];
        let text = format!(" [ {} ]", items.join(" ,\n"));
        assert_eq!(elements(&text).unwrap(), items);
        assert_eq!(elements("[]").unwrap(), [""; 0]);
        assert_eq!(elements(" [ ] ").unwrap(), [""; 0]);
    }

    #[test]
    fn text_that_ends_too_early_is_cut_off_wherever_it_ends() {
        let whole = r#"[{"a": "b\"c", "ü": [1, 2]}, "\u00e9"]"#;
        assert_eq!(elements(whole).unwrap().len(), 2);
        for end in 0..whole.len() {
            let Some(part) = whole.get(..end) else {
                continue;
            };
            assert_eq!(elements(part), Err("it is cut off".to_owned()), "{part}");
        }
    }

    #[test]
    fn of_too_many_elements_one_more_is_returned() {
        let scan = |text: &str| Scanner::new(text.as_bytes()).elements(2).map(|it| it.len());
        assert_eq!(scan("[1, 2]"), Ok(2));
        assert_eq!(scan("[1, 2, 3]"), Ok(3));
        assert_eq!(scan("[1, 2, 3, 4]"), Ok(3));
        assert_eq!(scan("[1, 2, 3, 4"), Err("it is cut off".to_owned()));
    }

    #[test]
    fn only_short_texts_are_read() {
        let text = |length| read_text(format!("\"{}\"", "x".repeat(length)).as_bytes());
        assert_eq!(text(998).map(|text| text.len()), Some(998));
        assert_eq!(text(999), None);
    }

    #[test]
    fn depth_is_no_limit() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(elements(&format!("[1, {deep}]")).unwrap()[1], deep);
    }

    #[test]
    fn members_are_passed_with_their_keys() {
        let mut members = Vec::new();
        let mut scanner = Scanner::new(br#" {"a" : 1, "b\u0063": {"a": [2]}, "": "x"} , "#);
        let read = scanner.members(|key, scanner| {
            let value = String::from_utf8_lossy(scanner.value()?).into_owned();
            members.push((key.to_owned(), value));
            Ok(())
        });
        read.unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            pair("a", "1"),
            pair("bc", r#"{"a": [2]}"#),
            pair("", r#""x""#),
        ];
        assert_eq!(members, expected);
        assert!(scanner.end().is_err());
        for wrong in ["", "[]", "{1: 2}", r#"{"a" 1}"#, r#"{"a": }"#, r#"{"a": 1"#] {
            let read =
                Scanner::new(wrong.as_bytes()).members(|_, scanner| scanner.value().map(drop));
            assert!(read.is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_quite_json_is_mended() {
        for (json, mended) in [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, "\"\u{fffd}\""),
            (r#""\ud83dx\ude00""#, "\"\u{fffd}x\u{fffd}\""),
            (r#""\ud83d\ud83d\ude00""#, "\"\u{fffd}\\ud83d\\ude00\""),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, "\"\\\\\u{fffd}\""),
            (r#""\uD83D\n\u00e9""#, "\"\u{fffd}\\n\\u00e9\""),
            (
                r#"["NaN", NaN,-Infinity , Infinity]"#,
                r#"["NaN", null,null , null]"#,
            ),
            (r#"{"a\"": NaN}"#, r#"{"a\"": null}"#),
            ("[NaNa, -1, Inf]", "[NaNa, -1, Inf]"),
            ("\"\\ü\" \\", "\"\\ü\" \\"),
            (r#""\ud8"#, r#""\ud8"#),
            ("\"\\", "\"\\"),
        ] {
            assert_eq!(mend(json), mended, "{json}");
        }
    }
}
