//! Ids of events, made of what happened, so that a rebuilt or restored database gives the same id to what it sees again.
//!
//! `evt_`, then parts separated by `_`: the run, the status that it entered or `CREATED` or `RESURRECTED`, then whatever
//! else makes the transition the one it is. No part contains `_`, so different parts make different ids. All of it is
//! valid in an HTTP header and without a dot, which separates the parts of a signed message. Long parts end in a digest.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::model::Timestamp;

/// Characters that a part keeps, besides letters and digits. Others are encoded.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-');

/// The length up to which a part is kept whole, and what a longer one keeps before its digest.
const MAX_PART: usize = 64;
const KEPT: usize = 32;

/// What makes a transition of a run the one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// A run is created once.
    Created,
    /// It entered a terminal status, and ended then.
    Ended {
        /// The status.
        status: &'a str,
        /// When.
        end: Option<&'a str>,
    },
    /// It became active again.
    Resurrected {
        /// When the life before that ended.
        end: Option<&'a str>,
    },
    /// It entered any other status.
    Other {
        /// The status.
        status: &'a str,
        /// When the run last ended before that.
        end: Option<&'a str>,
        /// How many such transitions there have been since that end, this one included.
        nth: u64,
    },
}

/// The id of the event of a transition of the run `run_id`.
pub fn event_id(run_id: &str, identity: Identity<'_>) -> String {
    let run = part(run_id);
    match identity {
        Identity::Created => format!("evt_{run}_CREATED"),
        Identity::Ended { status, end } => format!("evt_{run}_{}_{}", part(status), instant(end)),
        Identity::Resurrected { end } => format!("evt_{run}_RESURRECTED_{}", instant(end)),
        Identity::Other { status, end, nth } => {
            format!("evt_{run}_{}_{}_{nth}", part(status), instant(end))
        }
    }
}

/// The id of another transition that would have the id `id`: the `nth` event of its run.
pub fn another(id: &str, nth: u64) -> String {
    format!("{id}_x{nth}")
}

/// A number by which an id is remembered whose event was pruned. Two ids that share one by chance cost no more than a
/// number at the end of the second.
pub fn digest(id: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// A time in milliseconds, `-` for none, or `~` and the text where it is no time.
fn instant(at: Option<&str>) -> String {
    match at.map(|text| (text, Timestamp::parse(text))) {
        None => "-".to_owned(),
        Some((_, Some(at))) => at.as_millis().to_string(),
        Some((text, None)) => format!("~{}", part(text)),
    }
}

fn part(text: &str) -> String {
    let encoded = utf8_percent_encode(text, PLAIN).to_string();
    if encoded.len() <= MAX_PART {
        return encoded;
    }
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}~{digest}", &encoded[..KEPT])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const T: Option<&str> = Some("2026-01-02T03:04:05.678Z");

    /// Databases hold such numbers.
    #[test]
    fn the_number_by_which_an_id_is_remembered_stays_the_same() {
        assert_eq!(
            digest("evt_HG7ML7M8z78YcAPEB_CREATED"),
            -6_355_498_281_686_873_182
        );
    }

    #[test]
    fn ids_are_made_of_what_happened() {
        let id = |identity| event_id("HG7ML7M8z78YcAPEB", identity);
        assert_eq!(id(Identity::Created), "evt_HG7ML7M8z78YcAPEB_CREATED");
        let status = "TIMED-OUT";
        assert_eq!(
            id(Identity::Ended { status, end: T }),
            "evt_HG7ML7M8z78YcAPEB_TIMED-OUT_1767323045678"
        );
        assert_eq!(
            id(Identity::Resurrected { end: None }),
            "evt_HG7ML7M8z78YcAPEB_RESURRECTED_-"
        );
        let status = "RUNNING";
        assert_eq!(
            id(Identity::Other {
                status,
                end: T,
                nth: 2
            }),
            "evt_HG7ML7M8z78YcAPEB_RUNNING_1767323045678_2"
        );
        assert_eq!(another("evt_a_CREATED", 7), "evt_a_CREATED_x7");
    }

    #[test]
    fn different_transitions_have_different_ids() {
        let runs = [
            "a",
            "a_CREATED",
            "a_RUNNING",
            "a%5F",
            "a~b",
            "a.b",
            "a_b",
            "a-b",
            "a\u{e9}",
        ];
        let long: Vec<String> = (0..3)
            .map(|n| format!("{}{n}", "x".repeat(5_000)))
            .collect();
        let runs = runs.into_iter().chain(long.iter().map(String::as_str));
        let statuses = [
            "SUCCEEDED",
            "CREATED",
            "RESURRECTED",
            "A_B",
            "A-B",
            "x1",
            "1",
        ];
        let ends = [None, T, Some("soon"), Some("-"), Some("1"), Some("soon_1")];
        let mut ids = HashSet::new();
        for run in runs {
            assert!(ids.insert(event_id(run, Identity::Created)));
            for end in ends {
                assert!(ids.insert(event_id(run, Identity::Resurrected { end })));
                for status in statuses {
                    // `RESURRECTED` is no terminal status.
                    if status != "RESURRECTED" {
                        assert!(ids.insert(event_id(run, Identity::Ended { status, end })));
                    }
                    for nth in [1, 12] {
                        let other = event_id(run, Identity::Other { status, end, nth });
                        assert!(ids.insert(other.clone()), "{other}");
                    }
                }
            }
        }
        for id in ids {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_%~".contains(c);
            assert!(id.chars().all(plain) && id.len() < 300, "{id}");
        }
    }
}
