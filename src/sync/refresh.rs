//! How to read runs behind the cursor again in few requests.

use super::page::{Listing, Window};

/// How much of a page may hold estimated positions, in percent. The rest is slack: estimates are too low, because the
/// mirror also counts runs that were deleted since.
const USABLE_PERCENT: u64 = 75;

/// Entries to read before the first run's estimated position, for runs registered late.
const LEAD: u64 = 5;

/// Windows of the list, in list order, that each cover two or more of the runs that lie `distances` entries behind
/// `offset`. `page` is the page size. Runs outside all windows are read singly: one request each, as a window would be.
pub(super) fn windows(distances: &[u64], offset: u64, page: u32) -> Vec<Window> {
    let reach = (u64::from(page) * USABLE_PERCENT / 100)
        .saturating_sub(LEAD)
        .max(1);
    let mut positions: Vec<u64> = distances
        .iter()
        .map(|distance| offset.saturating_sub(*distance))
        .collect();
    positions.sort_unstable();
    let mut windows = Vec::new();
    let mut rest = positions.as_slice();
    while let Some(&first) = rest.first() {
        let covered = rest.partition_point(|&position| position < first.saturating_add(reach));
        if covered > 1 {
            windows.push(Window {
                listing: Listing::All,
                offset: first.saturating_sub(LEAD),
                limit: page,
            });
        }
        rest = &rest[covered..];
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(distances: &[u64], offset: u64, page: u32) -> Vec<u64> {
        windows(distances, offset, page)
            .iter()
            .map(|window| window.offset)
            .collect()
    }

    #[test]
    fn runs_close_together_share_a_window_and_others_get_none() {
        assert_eq!(offsets(&[900, 905, 910], 1_000, 100), [85]);
        assert_eq!(offsets(&[900, 500, 100], 1_000, 100), [0; 0]);
        assert_eq!(offsets(&[900, 901, 500, 100, 99], 1_000, 100), [94, 895]);
        assert_eq!(offsets(&[], 1_000, 100), [0; 0]);
    }

    #[test]
    fn five_thousand_runs_in_a_row_take_seven_windows() {
        let distances: Vec<u64> = (1..=5_000).collect();
        assert_eq!(windows(&distances, 5_000, 1_000).len(), 7);
    }

    #[test]
    fn windows_at_the_beginning_of_the_list_and_with_tiny_pages() {
        assert_eq!(offsets(&[10, 9, 8], 10, 100), [0]);
        assert_eq!(
            offsets(&[99_999, 99_998], 10, 100),
            [0],
            "distances may exceed the offset"
        );
        assert_eq!(
            offsets(&[3, 2, 1], 10, 2),
            [0; 0],
            "a page of two may miss one of two runs"
        );
    }
}
