//! Seeded pseudo-random numbers, the same on every platform.

/// A small generator of pseudo-random numbers (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator. The same seed results in the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.next_u64() % bound
        }
    }

    /// True with a probability of `percent`.
    pub fn chance(&mut self, percent: f64) -> bool {
        // A double holds 53 bits exactly.
        let unit = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        unit * 100.0 < percent
    }

    /// An id of 17 letters and digits, like Apify's.
    pub fn id(&mut self) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..17)
            .map(|_| char::from(LETTERS[self.below(LETTERS.len() as u64) as usize]))
            .collect()
    }
}
