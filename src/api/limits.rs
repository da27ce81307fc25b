//! What an answer may cost: limits of its size, of its items, and of the memory that these take once they are read.
//!
//! Text that is small can become large when it is parsed: a number in an array takes two bytes of text and a hundred of
//! memory. So an item is weighed before it is parsed. With these limits no answer makes the program take more memory than
//! four times [`MAX_BODY`], all of its own included.

use super::split::string_length;

/// The largest body that is read, in bytes after decompression. A full page of runs takes a twentieth of that.
pub const MAX_BODY: usize = 16 << 20;

/// The largest body of an answer without success that is read, in bytes after decompression. Apify's errors are a
/// hundredth of that.
pub const MAX_ERROR_BODY: usize = 64 << 10;

/// The most headers of an answer over HTTP/2, in bytes. Over HTTP/1, hyper reads at most 100 headers, and 408 KiB of them.
pub const MAX_HEADERS: u32 = 64 << 10;

/// The most items of a page: ten times the most that is ever asked for.
pub const MAX_ITEMS: usize = 10_000;

/// The most that an item may weigh, in bytes. A run weighs twelve kilobytes.
pub const MAX_ITEM: usize = 1 << 20;

/// The most that a page may weigh, its body and its items, in bytes. A full page of runs weighs half of that.
const MAX_PAGE: usize = MAX_BODY / 2 * 3;

/// How often the text of an item takes its size in memory, beside the body: read, as the JSON of an event, in the cache of
/// the database, and in what the allocator keeps of an earlier page for another thread.
const COPIES: usize = 6;

/// How deep a value may be nested. `serde_json` reads 127 levels; an event has an item one level deeper.
const MAX_DEPTH: usize = 100;

/// What the keys begin with that mean something to `serde_json` itself: the text below them would be parsed as JSON, without
/// having been weighed.
const RESERVED: &str = "$serde_json::private::";

/// What any item weighs: the parts of a run that are always there.
const ITEM: usize = 1_500;

/// What a key or a value weighs beside its text.
const VALUE: usize = 100;

/// What an object weighs beside its keys and values.
const OBJECT: usize = 700;

/// What an item weighs of which the beginning is kept, unread.
const UNREAD: usize = ITEM + COPIES * (4 << 10);

/// The memory that an item takes when it is read, in bytes: an upper estimate, from its text.
pub fn weigh(json: &[u8]) -> usize {
    let mut weight = ITEM + COPIES * json.len();
    structure(json, |part| {
        weight += match part {
            b"," | b":" | b"[" => VALUE,
            b"{" => OBJECT,
            _ => 0,
        };
        true
    });
    weight
}

/// Why text must not be parsed, whatever it weighs; `None` for all other text.
pub fn refuse(json: &[u8]) -> Option<&'static str> {
    let (mut depth, mut problem) = (0_usize, None);
    structure(json, |part| {
        match part {
            b"{" | b"[" => depth += 1,
            b"}" | b"]" => depth = depth.saturating_sub(1),
            string if string.len() > 1 && is_reserved(string) => {
                problem = Some("it has a key that is reserved");
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            problem = Some("it is nested more than 100 levels deep");
        }
        problem.is_none()
    });
    problem
}

/// Calls `part` with each bracket, comma and colon outside of strings, and with each string with its quotes, until that returns
/// false.
fn structure<'a>(json: &'a [u8], mut part: impl FnMut(&'a [u8]) -> bool) {
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let end = match byte {
            b'"' => at + string_length(&json[at..]).unwrap_or(json.len() - at),
            _ => at + 1,
        };
        let is_part = b"\"{}[],:".contains(&byte);
        if is_part && !part(&json[at..end]) {
            return;
        }
        at = end;
    }
}

/// Whether a string, as written with its quotes, is a key that is reserved.
fn is_reserved(quoted: &[u8]) -> bool {
    // As long as the longest of them if every character is escaped.
    const MOST: usize = 6 * 40;
    let begins = quoted.get(1).is_some_and(|first| b"$\\".contains(first));
    begins
        && quoted.len() <= MOST
        && serde_json::from_slice::<String>(quoted).is_ok_and(|key| key.starts_with(RESERVED))
}

/// What the items of a page may still weigh.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// The budget of a page with a body of `bytes`.
    pub fn of_page(bytes: usize) -> Self {
        Self(MAX_PAGE.saturating_sub(bytes))
    }

    /// Takes an item from the budget; returns whether it was within. One that weighs more than [`MAX_ITEM`] is not read.
    pub fn takes(&mut self, weight: usize) -> bool {
        let weight = if weight > MAX_ITEM { UNREAD } else { weight };
        let left = self.0.checked_sub(weight);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_structure_weighs_more_than_its_text() {
        for (json, beside) in [
            ("7", 0),
            (r#""a,[{:\"{""#, 0),
            ("[1,2]", 2 * VALUE),
            (r#"{"a":[],"b":"\\"}"#, OBJECT + 4 * VALUE),
        ] {
            let expected = ITEM + COPIES * json.len() + beside;
            assert_eq!(weigh(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn a_full_page_of_runs_with_twice_as_many_fields_is_within_the_budget() {
        let fields: String = (0..46)
            .map(|n| format!(r#""field{n}":"{n:020}","#))
            .collect();
        let item = format!(r#"{{{fields}"meta":{{"a":1}},"stats":{{"b":2}},"id":"a"}}"#);
        let mut budget = Budget::of_page(1_000 * item.len());
        assert!((0..1_000).all(|_| budget.takes(weigh(item.as_bytes()))));
    }

    #[test]
    fn text_that_would_be_parsed_within_itself_or_too_deep_is_refused() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(refuse(nested(MAX_DEPTH).as_bytes()), None);
        assert!(refuse(nested(MAX_DEPTH + 1).as_bytes()).is_some());
        let brackets = format!(r#"["{}", "\"{}"]"#, nested(200), nested(200));
        assert_eq!(refuse(brackets.as_bytes()), None);
        for key in [
            "$serde_json::private::RawValue",
            "$serde_json::private::Number",
            r"\u0024serde_json::private::RawValue",
            r"$\u0073erde_json::private::\u0052awValue",
        ] {
            let item = format!(r#"{{"id":"a","x":{{"{key}":"[0,0]"}}}}"#);
            assert!(refuse(item.as_bytes()).is_some(), "{key}");
        }
        assert_eq!(refuse(br#"{"$serde_json":1,"\"$":2,"x":"\\"}"#), None);
    }

    #[test]
    fn what_is_not_read_weighs_little() {
        let mut budget = Budget::of_page(MAX_BODY);
        assert!((0..300).all(|_| budget.takes(MAX_ITEM + 1)));
        assert!(!(0..20).all(|_| budget.takes(MAX_ITEM)));
        assert!(!budget.takes(1));
    }
}
