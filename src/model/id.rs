//! Ids, and other names that become part of addresses.

/// The longest id of a run or a task, in characters. Apify's have 17.
pub const MAX_ID: usize = 100;

/// Whether `text` can be the id of a run or a task: a part of a path, of at most [`MAX_ID`] characters.
pub fn is_usable_id(text: &str) -> bool {
    text.len() <= MAX_ID && is_path_part(text)
}

/// Whether `text` can be a part of the path of a URL as it is: it has unreserved characters only (RFC 3986: ASCII letters,
/// digits, `-`, `_`, `.` and `~`), and not only dots. Escaping other text is not enough, since servers and proxies undo it:
/// `%2e%2e` leads to the folder above.
pub fn is_path_part(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().all(is_unreserved) && text.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_short_part_of_a_path() {
        let long = "x".repeat(MAX_ID);
        for id in [
            "HG7ML7M8z78YcAPEB",
            "a",
            "a.b",
            "janedoe~my-task",
            "~x_y",
            &long,
        ] {
            assert!(is_usable_id(id), "{id}");
        }
        let longer = "x".repeat(MAX_ID + 1);
        for id in [
            "",
            ".",
            "..",
            "...",
            "a/b",
            "../x",
            "a\\b",
            "a b",
            "a\n",
            "a\u{0}",
            "%2e%2e",
            "a?b",
            "a#b",
            "ä",
            "\u{202e}a",
            &longer,
        ] {
            assert!(!is_usable_id(id), "{id:?}");
        }
    }
}
