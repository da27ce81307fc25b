//! Waits that do not fall into step: deterministic, from a seed.

use std::time::Duration;

/// How far a wait may lie from its nominal length, in percent.
const SPREAD_PERCENT: u64 = 10;

/// `nominal`, give or take ten percent, by `seed` and the number `n` of the wait.
pub fn jittered(nominal: Duration, seed: u64, n: u64) -> Duration {
    let millis = u64::try_from(nominal.as_millis()).unwrap_or(u64::MAX / 200);
    let spread = (millis.saturating_mul(SPREAD_PERCENT) / 100).min(u64::MAX / 4);
    let drawn = mix(seed ^ mix(n)) % (2 * spread + 1);
    Duration::from_millis((millis - spread).saturating_add(drawn))
}

/// A part of `whole`, anywhere from nothing to nearly all of it, by `seed`: sets feeds apart that would otherwise do the
/// same at once.
pub fn staggered(whole: Duration, seed: u64) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(mix(seed) % millis.max(1))
}

/// The finalizer of SplitMix64: every bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_ten_percent_and_spread_over_it() {
        let waits: Vec<_> = (0..1_000)
            .map(|n| jittered(Duration::from_secs(10), 7, n))
            .collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(
            *least >= Duration::from_secs(9) && *most <= Duration::from_secs(11),
            "{least:?} {most:?}"
        );
        assert!(
            *most - *least > Duration::from_millis(1_900),
            "they fill the range: {least:?} {most:?}"
        );
        assert_eq!(jittered(Duration::ZERO, 1, 1), Duration::ZERO);
    }

    #[test]
    fn staggering_spreads_over_the_whole() {
        let parts: Vec<_> = (0..1_000)
            .map(|seed| staggered(Duration::from_secs(10), seed))
            .collect();
        let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
        assert!(
            *least < Duration::from_millis(500) && *most > Duration::from_millis(9_500),
            "{least:?} {most:?}"
        );
        assert!(*most < Duration::from_secs(10));
        assert_eq!(staggered(Duration::ZERO, 1), Duration::ZERO);
    }

    #[test]
    fn two_seeds_fall_out_of_step() {
        let of = |seed| {
            (0..20)
                .map(|n| jittered(Duration::from_secs(10), seed, n))
                .collect::<Vec<_>>()
        };
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), of(1));
    }
}
