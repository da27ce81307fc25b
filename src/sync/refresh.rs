//! How to re-read runs behind the cursor in the fewest requests.

use super::page::{Listing, Window};

/// How much of a page is relied on to cover runs by their estimated positions, in percent. Estimates err to the front
/// of the list (the mirror also holds runs that were deleted since), so the rest is left as slack at the end.
const RELIED_ON_PERCENT: u64 = 75;

/// Entries read before the first run's estimated position, for runs registered late.
const LEAD: u64 = 5;

/// Windows of the list that each cover two or more of the runs lying `distances` entries behind `offset`, in list
/// order. A run covered by no window is read singly: one request either way. `page` is the size of a page.
pub fn windows(distances: &[u64], offset: u64, page: u32) -> Vec<Window> {
    let reach = (u64::from(page) * RELIED_ON_PERCENT / 100)
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
    fn neighbours_share_a_window_and_loners_get_none() {
        assert_eq!(offsets(&[900, 905, 910], 1_000, 100), [85]);
        assert_eq!(offsets(&[900, 500, 100], 1_000, 100), [0; 0]);
        assert_eq!(offsets(&[900, 901, 500, 100, 99], 1_000, 100), [94, 895]);
        assert_eq!(offsets(&[], 1_000, 100), [0; 0]);
    }

    #[test]
    fn five_thousand_neighbours_take_a_handful_of_windows() {
        let distances: Vec<u64> = (1..=5_000).collect();
        assert_eq!(windows(&distances, 5_000, 1_000).len(), 7);
    }

    #[test]
    fn the_lists_beginning_and_tiny_pages_are_no_special_case() {
        assert_eq!(offsets(&[10, 9, 8], 10, 100), [0]);
        assert_eq!(
            offsets(&[99_999, 99_998], 10, 100),
            [0],
            "distances may exceed the offset"
        );
        assert_eq!(
            offsets(&[3, 2, 1], 10, 2),
            [0; 0],
            "a page of two covers no two runs for certain"
        );
    }
}
