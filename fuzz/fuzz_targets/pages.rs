//! Whatever a server answers: decoding never panics, and what was decoded can be judged and stored.

#![no_main]

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use apify_mirror::api::wire;
use apify_mirror::model::{Task, Timestamp, is_usable_id};
use apify_mirror::store::{Reader, SqliteReader, SqliteStore, Store};
use apify_mirror::sync::{
    Audit, Baseline, Commit, Covered, Cursor, Entry, FeedState, Judgement, Observed, Placed,
    Source, Watermark,
};
use libfuzzer_sys::fuzz_target;

/// No start is too late to be believed.
const LATEST: Timestamp = Timestamp::from_millis(i64::MAX);

/// Executions between two databases: rows must not pile up.
const FRESH_EVERY: u32 = 2_000;

thread_local! {
    static MIRROR: RefCell<(Mirror, u32)> = RefCell::new((mirror(), 0));
}

type Mirror = (SqliteStore, SqliteReader);

/// The result of a call to a store in memory, which never waits.
fn ready<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a store in memory waits"),
    }
}

fn mirror() -> Mirror {
    let (store, reader) = SqliteStore::in_memory().expect("a database in memory");
    let task = Task {
        id: "task".into(),
        ..Task::default()
    };
    ready(store.save_task(&task, Timestamp::from_millis(0))).expect("a task");
    (store, reader)
}

fn store(placed: Placed) {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let feed = FeedState {
        cursor: Cursor::default().after(&placed, 0),
        baseline: Some(Baseline::Nothing),
        ..FeedState::default()
    };
    let covered = Covered::by(&placed);
    let (mut observed, mut unreadable) = (Vec::new(), Vec::new());
    for (position, entry) in (0..).zip(placed.page.entries) {
        match entry {
            Entry::Run(seen) => observed.push(Observed {
                seen,
                source: Source::List,
            }),
            Entry::Unreadable(item) => unreadable.push((position, item)),
        }
    }
    let judgement = Judgement {
        history: Baseline::Nothing,
        settle: Duration::from_secs(60),
        now,
        asked_at: now,
    };
    let commit = Commit {
        observed,
        gone: Vec::new(),
        unreadable,
        covered,
        feed: feed.clone(),
        judgement,
        finished: true,
    };
    MIRROR.with_borrow_mut(|(current, executions)| {
        *executions += 1;
        if *executions % FRESH_EVERY == 0 {
            *current = mirror();
        }
        let (store, reader) = current;
        ready(store.commit("task", commit.clone())).expect("what was decoded can be stored");
        assert_eq!(
            ready(reader.feed("task"))
                .expect("a feed")
                .expect("a row")
                .cursor,
            feed.cursor,
            "and read again"
        );
        let again = ready(store.commit("task", commit.clone())).expect("twice");
        let written = again.written;
        assert_eq!(
            (written.added, written.changed(), written.events),
            (0, 0, 0),
            "the same page changes nothing"
        );
        assert_eq!(again.unreadable, 0, "and tells nothing twice");
    });
}

fuzz_target!(|body: &[u8]| {
    let _ = wire::run(body, LATEST);
    let _ = wire::task(body);
    let _ = wire::task_page(body);
    let Ok(page) = wire::run_page(body, LATEST) else {
        return;
    };
    let watermark = Watermark {
        started: Timestamp::from_millis(1_575_099_264_202),
        id: "a".into(),
    };
    let cursor = Cursor {
        offset: 5,
        tail: 0,
        watermark: Some(watermark),
    };
    let _ = cursor.joins(&page);
    let ids = page.entries.iter().filter_map(Entry::id);
    ids.for_each(|id| assert!(is_usable_id(id), "{id:?}"));
    let placed = Placed {
        place: 0,
        begins: true,
        page,
    };
    let audit = Audit {
        cursor,
        decided: Some(Timestamp::from_millis(0)),
        ..Audit::begin(Timestamp::from_millis(0))
    };
    assert!(audit.decided_by(&placed) >= audit.decided);
    for doubt in audit.gaps(Some(&placed), true) {
        assert!(doubt.from.is_none() || doubt.to.is_none() || doubt.from <= doubt.to);
    }
    store(placed);
});
