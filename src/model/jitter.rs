//! Deterministic jitter from a [`Seed`].
//!
//! The pure modules draw no random numbers. The process draws one seed at start, and every feed, sink and delivery
//! derives its own from it.

use std::time::Duration;

/// How far [`Seed::jittered`] may deviate from the nominal duration, in percent.
const SPREAD_PERCENT: u64 = 10;

/// Spreads the waits of one feed, sink or delivery from those of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed for `name`, derived from this one.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        let fold = |seed, byte: &u8| mix(seed ^ u64::from(*byte));
        Self(name.as_bytes().iter().fold(mix(self.0), fold))
    }

    /// `nominal` ± 10 %. `n` is the number of the wait.
    pub(crate) fn jittered(self, nominal: Duration, n: u64) -> Duration {
        let millis = u64::try_from(nominal.as_millis()).unwrap_or(u64::MAX / 200);
        let spread = (millis.saturating_mul(SPREAD_PERCENT) / 100).min(u64::MAX / 4);
        let drawn = self.draw(n) % (2 * spread + 1);
        Duration::from_millis((millis - spread).saturating_add(drawn))
    }

    /// From `least` up to, but not including, twice that. `n` is the number of the wait.
    pub(crate) fn doubled(self, least: Duration, n: u64) -> Duration {
        least.saturating_add(self.part(least, n))
    }

    /// From zero up to, but not including, `whole`. `n` is the number of the wait.
    pub(crate) fn part(self, whole: Duration, n: u64) -> Duration {
        let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.draw(n) % millis.max(1))
    }

    fn draw(self, n: u64) -> u64 {
        mix(self.0 ^ mix(n))
    }
}

/// The finalizer of SplitMix64: every input bit affects every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn extremes(draw: impl Fn(u64) -> Duration) -> (Duration, Duration) {
        let waits: Vec<_> = (0..1_000).map(draw).collect();
        (*waits.iter().min().unwrap(), *waits.iter().max().unwrap())
    }

    #[test]
    fn jittered_waits_stay_within_ten_percent_and_fill_that_range() {
        let (least, most) = extremes(|n| Seed(7).jittered(TEN, n));
        assert!(least >= TEN * 9 / 10 && most <= TEN * 11 / 10);
        assert!(
            most - least > Duration::from_millis(1_900),
            "{least:?} {most:?}"
        );
        assert_eq!(Seed(1).jittered(Duration::ZERO, 1), Duration::ZERO);
    }

    #[test]
    fn doubled_waits_and_parts_fill_their_range() {
        let (least, most) = extremes(|n| Seed(n).doubled(TEN, 1));
        assert!(least >= TEN && least < TEN * 21 / 20, "{least:?}");
        assert!(most < TEN * 2 && most > TEN * 39 / 20, "{most:?}");
        let (least, most) = extremes(|n| Seed(n).part(TEN, 0));
        assert!(
            least < TEN / 20 && most > TEN * 19 / 20 && most < TEN,
            "{least:?} {most:?}"
        );
        assert_eq!(Seed(1).part(Duration::ZERO, 0), Duration::ZERO);
    }

    #[test]
    fn waits_depend_on_seed_and_name_and_are_reproducible() {
        let of = |seed: Seed| (0..20).map(|n| seed.jittered(TEN, n)).collect::<Vec<_>>();
        assert_ne!(of(Seed(1)), of(Seed(2)));
        assert_ne!(of(Seed(1).of("a")), of(Seed(1).of("b")));
        assert_ne!(of(Seed(1).of("a")), of(Seed(2).of("a")));
        assert_eq!(of(Seed(1).of("a")), of(Seed(1).of("a")));
    }
}
