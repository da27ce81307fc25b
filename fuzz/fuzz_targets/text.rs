//! Whatever others write: what is shown of it is inert, of the stated length, and as JSON means the same.

#![no_main]

use apify_mirror::text::{cut, escape, escape_json, is_active};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str)| {
    let (most, text) = (usize::from(input.0).max(1), input.1);
    let shown = escape(text, most);
    assert!(!shown.contains(is_active));
    assert!(shown.chars().count() <= most);
    assert_eq!(escape(&shown, most), shown, "twice");
    let fits = text.chars().nth(most).is_none();
    if fits && !text.contains(is_active) {
        assert_eq!(shown, text, "what is inert and fits stays");
    }
    let beginning = cut(text, most);
    assert!(beginning.chars().count() <= most);
    assert!(!fits || beginning == text);
    let json = serde_json::to_string(text).expect("text is JSON");
    let escaped = escape_json(&json);
    assert!(!escaped.contains(is_active));
    let read: String = serde_json::from_str(&escaped).expect("it stays JSON");
    assert_eq!(read, text, "and means the same");
});
