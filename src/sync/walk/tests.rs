//! Walks over lists whose servers misbehave.

use std::collections::BTreeSet;

use super::super::testing::{at, entry, undated};
use super::state::MAX_GROUP;
use super::{PageSizes, Start, Step, Walk};
use crate::model::Timestamp;
use crate::sync::cursor::{Cursor, Placed, Watermark};
use crate::sync::page::{Entry, Page, Unreadable, Window};
use crate::sync::protocol::Stall;

/// What an answer says about `total`, of the true one and the end of the page.
type Total = fn(full: u64, end: u64) -> Option<u64>;

/// A list and how its server answers.
struct List {
    entries: Vec<Entry>,
    cap: usize,
    total: Total,
    /// What `offset` says, of the one that was asked for.
    claim: fn(u64) -> Option<u64>,
    ignores_offset: bool,
    /// What `limit` says.
    limit: Option<u64>,
    /// Lists equal starts in another order each time; drawn from this number.
    shuffle: Option<u64>,
}

impl List {
    fn of(entries: Vec<Entry>) -> Self {
        Self {
            entries,
            cap: 1_000,
            total: |full, _| Some(full),
            claim: Some,
            ignores_offset: false,
            limit: None,
            shuffle: None,
        }
    }

    /// Runs that started at these seconds; `r0`, `r1`, …
    fn at(seconds: &[i64]) -> Self {
        let entries = seconds.iter().enumerate();
        Self::of(
            entries
                .map(|(n, second)| entry(&format!("r{n}"), *second))
                .collect(),
        )
    }

    fn answer(&mut self, window: &Window) -> Page {
        let mut entries = self.entries.clone();
        if let Some(state) = &mut self.shuffle {
            for n in (1..entries.len()).rev() {
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let other = (*state >> 33) as usize % (n + 1);
                entries.swap(n, other);
            }
            entries.sort_by_key(Entry::started);
        }
        let offset = if self.ignores_offset {
            0
        } else {
            window.offset
        };
        let full = entries.len() as u64;
        let entries: Vec<Entry> = entries
            .into_iter()
            .skip(offset as usize)
            .take(self.cap.min(window.limit as usize))
            .collect();
        Page {
            offset: (self.claim)(offset),
            limit: self.limit,
            total: (self.total)(full, offset + entries.len() as u64),
            desc: None,
            entries,
        }
    }
}

/// What a walk came to.
struct Walked {
    step: Step,
    cursor: Cursor,
    ids: BTreeSet<String>,
    requests: u32,
    sizes: PageSizes,
    missed: u64,
    corrections: u64,
}

fn begin(cursor: Cursor) -> Walk {
    let start = Start {
        back: 1,
        is_poll: true,
    };
    Walk::new(cursor, start, BTreeSet::new())
}

fn walk(list: &mut List, mut walk: Walk, mut sizes: PageSizes) -> Walked {
    let (mut accepted, mut requests) = (Vec::new(), 0);
    loop {
        let windows = walk.windows(sizes, 1, None, Timestamp::default()).windows;
        requests += windows.len() as u32;
        let pages = windows.iter().map(|window| list.answer(window)).collect();
        let step = walk.take(pages, &mut sizes, &mut accepted);
        if step == Step::ReadOn {
            continue;
        }
        let entries = accepted
            .iter()
            .flat_map(|placed: &Placed| &placed.page.entries);
        return Walked {
            step,
            missed: walk.take_missed(),
            corrections: walk.take_corrections(),
            cursor: walk.cursor,
            ids: entries.filter_map(Entry::id).map(str::to_owned).collect(),
            requests,
            sizes,
        };
    }
}

fn from_the_beginning(list: &mut List, asked: u32) -> Walked {
    walk(list, begin(Cursor::default()), PageSizes::new(asked))
}

/// Walks again from where the last walk ended, in the same process.
fn again(list: &mut List, walked: &Walked) -> Walked {
    walk(list, begin(walked.cursor.clone()), walked.sizes)
}

#[test]
fn a_whole_list_is_read_in_few_requests() {
    let seconds: Vec<i64> = (0..25).collect();
    let mut list = List::at(&seconds);
    let first = from_the_beginning(&mut list, 10);
    assert_eq!((first.step.clone(), first.ids.len()), (Step::End, 25));
    assert_eq!(first.requests, 3);
    assert_eq!((first.cursor.offset, first.cursor.tail), (25, 1));
    let idle = again(&mut list, &first);
    assert_eq!((idle.step, idle.requests), (Step::End, 1));
}

#[test]
fn deletions_before_the_cursor_are_found_by_stepping_back() {
    let seconds: Vec<i64> = (0..40).collect();
    let mut list = List::at(&seconds);
    let first = from_the_beginning(&mut list, 10);
    assert_eq!(first.corrections, 0);
    for deleted in [1, 5, 30] {
        let mut shorter = List::at(&seconds);
        shorter.entries.drain(..deleted);
        shorter.entries.push(entry("new", 100));
        let next = again(&mut shorter, &first);
        assert!(next.ids.contains("new"), "{deleted}");
        assert_eq!(next.step, Step::End);
        assert!(next.requests <= 8, "{deleted}: {}", next.requests);
        assert!(next.corrections > 0, "{deleted}");
        shorter.entries.clear();
        let emptied = again(&mut shorter, &first);
        assert_eq!((emptied.step, emptied.cursor.offset), (Step::End, 0));
    }
}

#[test]
fn equal_starts_in_changing_orders_are_all_read() {
    let shapes: [&[i64]; 6] = [
        &[1, 2, 3, 3, 3, 4],
        &[1, 1, 1, 1, 1],
        &[1, 1, 1, 2, 2, 2, 3],
        &[1, 2, 2, 2, 2, 2, 2, 3, 4, 5],
        &[0, 1, 1, 2, 2, 3, 3, 4, 4, 5],
        &[1, 2, 3, 4, 4],
    ];
    for seed in 0..300 {
        for (seconds, asked) in shapes.iter().flat_map(|shape| [(*shape, 3), (*shape, 4)]) {
            let mut list = List::at(seconds);
            list.shuffle = Some(seed);
            let mut walked = from_the_beginning(&mut list, asked);
            let (mut ids, missed) = (walked.ids.clone(), walked.missed);
            // What is unread at the end of the list is before the next walk.
            for _ in 0..10 {
                walked = again(&mut list, &walked);
                ids.extend(walked.ids.clone());
            }
            assert_eq!(walked.step, Step::End);
            // Or it was gone past after five rounds, and told.
            assert!(
                ids.len() == seconds.len() || missed > 0,
                "{seconds:?} by {asked}, seed {seed}: {ids:?}"
            );
        }
    }
}

#[test]
fn the_end_is_found_whatever_totals_say() {
    let totals: [(&str, Total); 6] = [
        ("true", |full, _| Some(full)),
        ("absent", |_, _| None),
        ("zero", |_, _| Some(0)),
        ("too small", |full, _| Some(full / 2)),
        ("too large", |full, _| Some(full + 7)),
        ("the end of the page", |_, end| Some(end)),
    ];
    for (name, total) in totals {
        for (runs, cap) in [
            (0, 10),
            (1, 10),
            (2, 10),
            (3, 10),
            (9, 3),
            (10, 10),
            (25, 10),
            (31, 7),
        ] {
            let seconds: Vec<i64> = (0..runs).collect();
            let mut list = List::at(&seconds);
            (list.total, list.cap) = (total, cap);
            let first = from_the_beginning(&mut list, 100);
            let second = again(&mut list, &first);
            assert_eq!(
                (&first.step, &second.step),
                (&Step::End, &Step::End),
                "{name}"
            );
            let ids: BTreeSet<_> = first.ids.union(&second.ids).collect();
            assert_eq!(ids.len() as i64, runs, "{name}: {runs} runs by {cap}");
            let idle = again(&mut list, &second);
            if runs >= 3 {
                assert_eq!(idle.requests, 1, "{name}: {runs} runs by {cap}");
            }
        }
    }
}

#[test]
fn stretches_without_starts_are_gone_past_and_never_looped_in() {
    for (stretch, asked) in [(1, 3), (2, 3), (3, 3), (7, 3), (7, 4), (4, 10)] {
        for before in 0..3 {
            let mut entries: Vec<Entry> = (0..before).map(|n| entry(&format!("a{n}"), n)).collect();
            entries.extend((0..stretch).map(|n| undated(&format!("u{n}"))));
            entries.extend((10..13).map(|n| entry(&format!("b{n}"), n)));
            entries.extend((0..stretch).map(|n| undated(&format!("v{n}"))));
            let mut list = List::of(entries);
            let first = from_the_beginning(&mut list, asked);
            let name = format!("{before} before {stretch} by {asked}");
            assert_eq!(first.step, Step::End, "{name}");
            assert_eq!(first.ids.len(), list.entries.len(), "{name}");
            assert!(first.requests < 40, "{name}: {}", first.requests);
            list.entries.push(entry("new", 100));
            let next = again(&mut list, &first);
            assert!(next.ids.contains("new"), "{name}");
            let idle = again(&mut list, &next);
            assert!(idle.requests < 20, "{name}: {}", idle.requests);
        }
    }
}

#[test]
fn a_list_without_any_start_is_read_by_offset() {
    let mut list = List::of((0..10).map(|n| undated(&format!("u{n}"))).collect());
    let walked = from_the_beginning(&mut list, 3);
    assert_eq!((walked.step, walked.ids.len()), (Step::End, 10));
}

#[test]
fn a_group_of_more_than_can_be_remembered_is_gone_past_in_one_round() {
    let many = MAX_GROUP as i64 + 1_000;
    let group = |at: Option<i64>| -> Vec<Entry> {
        let entry = |n| match at {
            Some(at) => entry(&format!("g{n}"), at),
            None => undated(&format!("g{n}")),
        };
        (0..many).map(entry).collect()
    };
    for at in [Some(5), None] {
        let mut entries = vec![entry("a", 1)];
        entries.extend(group(at));
        entries.push(entry("b", 9));
        let mut list = List::of(entries);
        let walked = from_the_beginning(&mut list, 1_000);
        assert_eq!(walked.step, Step::End, "{at:?}");
        assert!(walked.missed > 0, "{at:?}");
        assert_eq!(walked.ids.len() as i64, many + 2, "{at:?}");
        assert!(walked.requests < 20, "{at:?}: {}", walked.requests);
    }
}

#[test]
fn a_server_that_ignores_offsets_is_found_out() {
    let seconds: Vec<i64> = (0..30).collect();
    for claim in [|_| Some(0), |_| None, |_| Some(8)] as [fn(u64) -> Option<u64>; 3] {
        let mut list = List::at(&seconds);
        (list.cap, list.claim) = (10, claim);
        list.ignores_offset = true;
        list.claim = |_| Some(0);
        let walked = from_the_beginning(&mut list, 10);
        assert_eq!(walked.step, Step::Stuck(Stall::OffsetIgnored));
        assert!(walked.requests <= 4, "{}", walked.requests);
        list.entries.truncate(10);
        let whole = from_the_beginning(&mut list, 10);
        assert_eq!(whole.step, Step::End, "nothing says that more follows");
    }
}

#[test]
fn a_page_of_old_entries_does_not_move_the_cursor_back() {
    let seconds: Vec<i64> = (0..30).collect();
    let mut list = List::at(&seconds);
    list.cap = 10;
    let first = from_the_beginning(&mut list, 10);
    list.ignores_offset = true;
    let stuck = again(&mut list, &first);
    assert_eq!(stuck.step, Step::Stuck(Stall::OffsetIgnored));
    assert_eq!(stuck.cursor, first.cursor);
}

#[test]
fn untrue_offsets_in_answers_do_not_matter() {
    let seconds: Vec<i64> = (0..30).collect();
    for claim in [|_| Some(0), |_| None] as [fn(u64) -> Option<u64>; 2] {
        let mut list = List::at(&seconds);
        (list.cap, list.claim) = (10, claim);
        let walked = from_the_beginning(&mut list, 10);
        assert_eq!((walked.step, walked.ids.len()), (Step::End, 30));
    }
}

#[test]
fn a_page_that_claims_to_lie_elsewhere_is_no_beginning() {
    let mut list = List::at(&(0..30).collect::<Vec<i64>>());
    (list.cap, list.claim) = (10, |asked| Some(asked + 5));
    let walked = from_the_beginning(&mut list, 10);
    assert_eq!(walked.step, Step::Stuck(Stall::OtherPage));
}

#[test]
fn a_cursor_without_a_tail_begins_before_its_watermark() {
    let mut list = List::at(&[0, 1, 2, 3]);
    let cursor = Cursor {
        offset: 4,
        tail: 0,
        watermark: Some(Watermark {
            started: at(3),
            id: "r3".to_owned(),
        }),
    };
    let walked = walk(&mut list, begin(cursor), PageSizes::new(10));
    assert_eq!((walked.step, walked.cursor.tail), (Step::End, 1));
}

#[test]
fn an_empty_page_whose_total_says_otherwise_is_read_again() {
    let mut list = List::at(&(0..30).collect::<Vec<i64>>());
    let mut walk = begin(Cursor::default());
    let (mut sizes, mut accepted) = (PageSizes::new(100), Vec::new());
    let windows = walk.windows(sizes, 1, None, Timestamp::default()).windows;
    let empty = Page {
        entries: Vec::new(),
        ..list.answer(&windows[0])
    };
    let step = walk.take(vec![empty], &mut sizes, &mut accepted);
    assert_eq!(step, Step::ReadOn);
    let windows = walk.windows(sizes, 1, None, Timestamp::default()).windows;
    let page = list.answer(&windows[0]);
    let step = walk.take(vec![page], &mut sizes, &mut accepted);
    assert_eq!(
        (step, accepted.last().map(Placed::end)),
        (Step::End, Some(30))
    );
}

#[test]
fn a_first_page_that_is_full_by_its_own_words_is_not_the_end_though_its_total_says_so() {
    let mut list = List::at(&(0..10).collect::<Vec<i64>>());
    (list.cap, list.total, list.limit) = (3, |_, end| Some(end), Some(3));
    let walked = from_the_beginning(&mut list, 1_000);
    assert_eq!((walked.step, walked.ids.len()), (Step::End, 10));
}

/// An entry that cannot be read at all.
fn nameless() -> Entry {
    Entry::Unreadable(Unreadable {
        id: None,
        reason: "it is no run".to_owned(),
        body: "null".to_owned(),
    })
}

#[test]
fn stretches_of_what_is_no_run_stop_nothing() {
    for (stretch, asked) in [
        (3, 10),
        (9, 10),
        (10, 10),
        (15, 10),
        (17, 10),
        (30, 10),
        (5, 4),
    ] {
        for before in 0..3 {
            let mut entries: Vec<Entry> = (0..before).map(|n| entry(&format!("a{n}"), n)).collect();
            entries.extend((0..stretch).map(|_| nameless()));
            entries.extend((10..30).map(|n| entry(&format!("b{n}"), n)));
            let mut list = List::of(entries);
            let name = format!("{before} before {stretch} by {asked}");
            let first = from_the_beginning(&mut list, asked);
            assert_eq!(
                (&first.step, first.ids.len()),
                (&Step::End, 20 + before as usize),
                "{name}"
            );
            list.entries.extend((0..stretch).map(|_| nameless()));
            list.entries.push(entry("new", 100));
            let next = again(&mut list, &first);
            assert!(next.ids.contains("new"), "{name}: {:?}", next.step);
            assert!(next.requests < 40, "{name}: {}", next.requests);
        }
    }
    let mut list = List::of((0..25).map(|_| nameless()).collect());
    let whole = from_the_beginning(&mut list, 10);
    assert_eq!(whole.step, Step::End);
    list.entries.push(entry("new", 100));
    assert!(again(&mut list, &whole).ids.contains("new"));
}

#[test]
fn a_server_that_shows_the_same_nameless_items_for_ever_is_found_out() {
    for total in [|_, _| None, |full, _| Some(full), |_, end| Some(end + 9)] as [Total; 3] {
        let mut list = List::of((0..25).map(|_| nameless()).collect());
        (list.cap, list.ignores_offset, list.claim, list.total) = (10, true, |_| None, total);
        let walked = from_the_beginning(&mut list, 10);
        assert_eq!(walked.step, Step::Stuck(Stall::OffsetIgnored));
        assert!(walked.requests <= 15, "{}", walked.requests);
    }
    // A list that is long, and moves, is read to its end.
    let mut list = List::of((0..500).map(|_| nameless()).collect());
    list.entries.push(entry("last", 100));
    let walked = from_the_beginning(&mut list, 10);
    assert_eq!(walked.step, Step::End);
    assert!(walked.ids.contains("last"));
}

#[test]
fn a_server_that_ignores_offsets_is_found_out_by_later_walks_too() {
    let mut list = List::at(&(0..30).collect::<Vec<i64>>());
    (list.cap, list.ignores_offset) = (20, true);
    for claim in [|_| Some(0), |_| None] as [fn(u64) -> Option<u64>; 2] {
        list.claim = claim;
        let first = from_the_beginning(&mut list, 20);
        assert_eq!(first.step, Step::Stuck(Stall::OffsetIgnored));
        let next = again(&mut list, &first);
        assert_eq!(next.step, Step::Stuck(Stall::OffsetIgnored));
        let start = begin(first.cursor);
        let restarted = walk(&mut list, start, PageSizes::new(20));
        assert_eq!(restarted.step, Step::Stuck(Stall::OffsetIgnored));
    }
}

/// Between the two pages of a group that ends the list, a deletion and another order hide an entry from both, and the
/// totals do not tell.
#[test]
fn the_last_group_is_read_again_unless_one_page_showed_it_all() {
    let lists: [&[(&str, i64)]; 4] = [
        &[("b", 20), ("c", 30), ("d", 30)],
        &[("d", 30), ("c", 30)],
        &[("d", 30), ("c", 30)],
        &[("d", 30), ("c", 30)],
    ];
    let mut walk = begin(Cursor::default());
    let (mut sizes, mut accepted) = (PageSizes::new(2), Vec::new());
    let mut answers = lists.into_iter().chain(std::iter::repeat(lists[3]));
    for _ in 0..20 {
        let windows = walk.windows(sizes, 1, None, Timestamp::default()).windows;
        let runs = answers.next().unwrap();
        let mut list = List::of(runs.iter().map(|(id, at)| entry(id, *at)).collect());
        (list.total, list.limit) = (|_, end| Some(end), Some(2));
        let pages = vec![list.answer(&windows[0])];
        if walk.take(pages, &mut sizes, &mut accepted) == Step::End {
            break;
        }
    }
    let mut entries = accepted.iter().flat_map(|placed| &placed.page.entries);
    assert!(entries.any(|entry| entry.id() == Some("d")), "{accepted:?}");
}

/// Bursts of equal starts, among them items that are null, listed in another order each time, by a server whose totals
/// lie now and then.
#[test]
fn null_items_among_equal_starts_stop_no_walk() {
    let seeds: u64 = std::env::var("WALK_SEEDS").map_or(100, |text| text.parse().unwrap());
    for seed in 1_300..1_300 + seeds {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = move |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let page = [10, 20, 50][below(3) as usize];
        let mut items: Vec<(i64, Entry)> = Vec::new();
        let mut second = 0;
        while items.len() < 400 {
            second += 1;
            for _ in 0..[1, 1, 1, 2, 5, u64::from(page) / 3][below(6) as usize] {
                let entry = match below(50) {
                    0 => Entry::Unreadable(Unreadable {
                        id: None,
                        reason: String::new(),
                        body: "null".to_owned(),
                    }),
                    _ => entry(&format!("r{}", items.len()), second),
                };
                items.push((second, entry));
            }
        }
        let full = items.len() as u64;
        let start = Start {
            back: 1,
            is_poll: false,
        };
        let mut walk = Walk::new(Cursor::default(), start, BTreeSet::new());
        let (mut sizes, mut accepted) = (PageSizes::new(page), Vec::new());
        let mut log = Vec::new();
        loop {
            let window = walk.windows(sizes, 1, None, Timestamp::default()).windows[0];
            let mut order: Vec<(i64, u64, usize)> = (0..items.len())
                .map(|n| (items[n].0, below(1 << 20), n))
                .collect();
            order.sort_unstable();
            let entries: Vec<Entry> = order
                .iter()
                .skip(window.offset as usize)
                .take(window.limit as usize)
                .map(|(.., n)| items[*n].1.clone())
                .collect();
            let end = window.offset + entries.len() as u64;
            let total = match below(40) {
                0 => None,
                1 => Some(end),
                2 => Some(full + 7),
                3 => Some(0),
                _ => Some(full),
            };
            let shown: Vec<String> = entries
                .iter()
                .map(|entry| format!("{:?}", entry.started().map(|at| at.as_millis() / 1_000)))
                .collect();
            log.push(format!("{window:?} {total:?} {}", shown.join(" ")));
            let answer = Page {
                offset: Some(window.offset),
                limit: Some(u64::from(window.limit)),
                total,
                desc: Some(false),
                entries,
            };
            match walk.take(vec![answer], &mut sizes, &mut accepted) {
                Step::ReadOn => {}
                Step::End => break,
                Step::Stuck(stall) => {
                    let last = log.len().saturating_sub(25);
                    panic!("seed {seed}: {stall:?}\n{}", log[last..].join("\n"));
                }
            }
        }
    }
}
