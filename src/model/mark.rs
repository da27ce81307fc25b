//! What tells entries of a list from each other, in little memory.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A digest of an entry's id, or of what it looks like. Ids may have a hundred characters, and what has none looks like up
/// to four KiB of text; a list can have very many of either. Two that differ have different marks, unless somebody looks
/// for a pair that has not, and gains nothing but that one of them is taken for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark(u64, u64);

impl Mark {
    /// The mark of `text`.
    pub fn of(text: &str) -> Self {
        let half = |half: u8| {
            let mut hasher = DefaultHasher::new();
            (half, text).hash(&mut hasher);
            hasher.finish()
        };
        Self(half(0), half(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_mark() {
        assert_eq!(Mark::of("a"), Mark::of("a"));
        assert_ne!(Mark::of("a"), Mark::of("b"));
        assert_ne!(Mark::of(""), Mark::default());
    }
}
