//! What is known of the pages that a server gives.

/// How large the server's pages are, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageSizes {
    /// How many entries are requested.
    asked: u32,
    /// The largest page that was given. A page as large as that is never taken for a short one.
    largest: Option<u64>,
    /// The size of the last page that was full, as more of the list seemed to follow it.
    full: Option<u64>,
}

impl PageSizes {
    /// Nothing is known; `asked` entries are requested.
    pub fn new(asked: u32) -> Self {
        Self {
            asked,
            largest: None,
            full: None,
        }
    }

    /// Takes notice of a page of `len` entries.
    pub fn given(&mut self, len: u64) {
        if len > 0 {
            self.largest = self.largest.max(Some(len));
        }
    }

    /// Takes notice that more of the list seems to follow a page of `len` entries.
    pub fn was_full(&mut self, len: u64) {
        if len > 0 {
            self.full = Some(len);
        }
    }

    /// Takes notice that nothing followed the page before.
    pub fn was_not_full(&mut self) {
        self.full = None;
    }

    /// How many entries to request.
    pub fn asked(self) -> u32 {
        self.asked
    }

    /// A page of fewer entries is a short one: the largest that was given, or `asked` before there was any.
    pub fn largest(self) -> u64 {
        self.largest.unwrap_or(u64::from(self.asked))
    }

    /// A page of fewer entries is certainly a short one; 0 before any was given.
    pub fn given_before(self) -> u64 {
        self.largest.unwrap_or(0)
    }

    /// How far apart pages that are read ahead begin, at least 1: each overlaps the one before it by a hundredth, at least two
    /// entries, since it must begin strictly before that one's end, and some starts are equal.
    pub fn stride(self) -> u64 {
        let expected = u64::from(self.expected());
        expected.saturating_sub((expected / 100).max(2)).max(1)
    }

    /// How many entries a page is expected to show.
    pub fn expected(self) -> u32 {
        self.full
            .and_then(|full| u32::try_from(full).ok())
            .map_or(self.asked, |full| full.min(self.asked))
    }
}
