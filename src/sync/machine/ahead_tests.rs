//! Polls that read ahead.

use super::base::Machine;
use super::poll_tests::{COMMITTED, NOW, caught_up, quiet_poll};
use crate::sync::page::Listing;
use crate::sync::protocol::{Command, FeedState, Input, OpenRuns, Outcome, Settings};
use crate::sync::testing::{self, List, at, item, settings, stored};

#[test]
fn a_long_catch_up_reads_ahead_and_repeats_little() {
    let (requests, _, feed) = quiet_poll(caught_up(500, 499), &List::of(0..6_000));
    assert_eq!(
        requests,
        [
            "All 479", "All 1477", "All 2467", "All 3457", "All 4447", "All 5445"
        ],
        "the second to the fifth are requested at once"
    );
    assert_eq!(feed.cursor.offset, 6_000);
}

/// Where pages end among equal starts, those that were read ahead lead nowhere: not many are requested then.
#[test]
fn equal_starts_cost_few_requests() {
    for at_once in [1, 4, 20] {
        let items = (0..6_000).map(|n| item(&format!("r{n}"), n / at_once, "SUCCEEDED"));
        let list = List {
            items: items.collect(),
            ..List::of(0..0)
        };
        let settings = Settings {
            page_size: 100,
            read_ahead: 64,
            ..settings()
        };
        let mut machine = Machine::new(settings, FeedState::default());
        let (mut requests, mut pages) = (0, 0);
        loop {
            let answer = |command| match command {
                Command::Read { windows, begun } => {
                    requests += windows.len() - begun;
                    pages += 1;
                    list.pages(&windows[..1])
                }
                other => stored(other),
            };
            if testing::drive(&mut machine, || NOW, answer).1 == Outcome::CaughtUp {
                break;
            }
        }
        // Once as many as may be, until it shows.
        let most = 64 + pages * 8 / 5;
        assert!(requests <= most, "{at_once}: {requests} for {pages} pages");
        assert_eq!(machine.feed().cursor.offset, 6_000);
    }
}

/// While a page is stored, those after it are on their way: each command has what the one before it left, and more.
#[test]
fn pages_that_are_on_their_way_are_waited_for() {
    let list = List::of(0..6_000);
    let feed = FeedState {
        total: Some(6_000),
        ..caught_up(100, 99)
    };
    let mut machine = Machine::new(settings(), feed);
    let mut command = machine.step(Input::Wake, at(NOW));
    let (mut reads, mut asked) = (Vec::new(), Vec::new());
    let mut second = NOW;
    while !matches!(command, Command::Sleep { .. }) {
        let input = match command {
            Command::Read { windows, begun } if windows[0].listing == Listing::All => {
                let offsets: Vec<u64> = windows.iter().map(|window| window.offset).collect();
                reads.push((offsets, begun));
                Input::Pages(vec![list.answer(&windows[0])])
            }
            Command::Commit(commit) => {
                asked.push(commit.judgement.asked_at);
                COMMITTED
            }
            other => stored(other),
        };
        second += 1;
        command = machine.step(input, at(second));
    }
    let expected: [(&[u64], usize); 7] = [
        (&[79], 0),
        (&[1_077, 2_067, 3_057, 4_047], 0),
        (&[2_067, 3_057, 4_047, 5_037], 3),
        (&[3_057, 4_047, 5_037], 3),
        (&[4_047, 5_037], 2),
        (&[5_037], 1),
        (&[5_998], 0),
    ];
    let reads: Vec<(&[u64], usize)> = reads.iter().map(|(all, begun)| (&**all, *begun)).collect();
    assert_eq!(reads[..6], expected[..6]);
    // An answer is as old as its request.
    assert!(asked[1..5].is_sorted() && asked[1] == asked[3], "{asked:?}");
}

#[test]
fn pages_read_ahead_that_do_not_join_are_read_again_from_the_cursor() {
    let list = List::of(0..3_000);
    let mut machine = Machine::new(
        settings(),
        FeedState {
            total: Some(3_000),
            ..caught_up(100, 99)
        },
    );
    let Command::LoadOpen { .. } = machine.step(Input::Wake, at(NOW)) else {
        panic!()
    };
    let Command::Read { windows: first, .. } =
        machine.step(Input::Open(OpenRuns::default()), at(NOW))
    else {
        panic!()
    };
    let Command::Commit(_) = machine.step(Input::Pages(vec![list.answer(&first[0])]), at(NOW))
    else {
        panic!()
    };
    let Command::Read { windows: ahead, .. } = machine.step(COMMITTED, at(NOW)) else {
        panic!()
    };
    assert_eq!(ahead.len(), 2);
    // Between the two reads, 50 runs at the front are deleted: the second page begins behind the first one's end.
    let pages = vec![
        list.answer(&ahead[0]),
        List::of(50..3_000).answer(&ahead[1]),
    ];
    let Command::Commit(commit) = machine.step(Input::Pages(pages), at(NOW)) else {
        panic!()
    };
    assert_eq!(commit.observed.len(), 1_000, "the second page is dropped");
    let Command::Read { windows: again, .. } = machine.step(COMMITTED, at(NOW)) else {
        panic!()
    };
    let offsets: Vec<u64> = again.iter().map(|window| window.offset).collect();
    assert_eq!(offsets, [commit.feed.cursor.offset - 2], "one alone");
}

#[test]
fn pages_are_read_ahead_by_the_servers_page_size_after_one_joined() {
    let mut list = List::of(0..4_500);
    list.cap = 100;
    let (requests, _, feed) = quiet_poll(FeedState::default(), &list);
    assert_eq!(
        requests[1..6],
        ["All 0", "All 98", "All 196", "All 294", "All 392"].map(String::from)
    );
    assert_eq!(feed.total, Some(4_500));
    let (requests, ..) = quiet_poll(
        FeedState {
            total: Some(4_500),
            ..caught_up(100, 99)
        },
        &List::of(2_000..6_500),
    );
    assert_eq!(
        requests[..2],
        ["All 79", "All 59"].map(String::from),
        "one page, until one joins"
    );
}
