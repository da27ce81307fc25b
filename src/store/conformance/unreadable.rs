//! Items of lists that cannot be stored as runs.

use super::builders::{FEED, at, commit, confirmed, run, task};
use super::mirror::Mirror;
use crate::store::traits::MAX_UNREADABLE;
use crate::sync::{Commit, Covered, Unreadable};

/// An item with an id.
fn named(id: &str) -> Unreadable {
    Unreadable {
        id: Some(id.into()),
        ..nameless("{")
    }
}

/// An item without one.
fn nameless(body: &str) -> Unreadable {
    Unreadable {
        id: None,
        reason: "no reason".into(),
        body: body.into(),
    }
}

/// The last step of a poll at `now` that found these items.
fn odd(now: i64, items: &[(u64, Unreadable)]) -> Commit {
    Commit {
        unreadable: items.to_vec(),
        ..commit(now, 1, &[])
    }
}

async fn count(mirror: &Mirror) -> u64 {
    mirror.task_status(0).await.unreadable_items
}

pub async fn what_cannot_be_read_is_counted_once_wherever_it_is(mirror: Mirror) {
    mirror.start(&[]).await;
    let items = |shift: u64| {
        let items = [named("a"), nameless("{}"), nameless("null")];
        (shift..).zip(items).collect::<Vec<_>>()
    };
    let first = mirror.commit_all(&odd(10, &items(5))).await;
    assert_eq!((first.unreadable, count(&mirror).await), (3, 3));
    for (now, shift) in [(11, 5), (12, 4), (99_999, 0), (13, 0)] {
        let again = mirror.commit_all(&odd(now, &items(shift))).await;
        assert_eq!((again.unreadable, count(&mirror).await), (0, 3));
    }
    let twice = [(7, nameless("[]")), (8, nameless("[]"))];
    assert_eq!(mirror.commit_all(&odd(14, &twice)).await.unreadable, 1);
    mirror.store.open_feed(&task("other"), at(0)).await.unwrap();
    let other = mirror.store.commit("other", odd(15, &items(0))).await;
    assert_eq!(other.unwrap().unreadable, 3, "each feed has its own");
    assert_eq!(count(&mirror).await, 4);
}

pub async fn an_item_that_can_be_read_again_is_forgotten(mirror: Mirror) {
    mirror.start(&[]).await;
    let read = |now, status| commit(now, 1, &[run("a", 1, status)]);
    let items = [(0, named("a")), (1, named("b"))];
    mirror.commit_all(&odd(10, &items)).await;
    mirror.commit(&read(11, "SUCCEEDED")).await;
    assert_eq!(count(&mirror).await, 1, "stored");
    mirror.commit_all(&odd(12, &items)).await;
    let lagging = mirror.commit_all(&read(13, "RUNNING")).await;
    assert_eq!(lagging.unconfirmed, ["a"]);
    assert_eq!(count(&mirror).await, 2, "not stored");
    mirror.commit(&read(14, "SUCCEEDED")).await;
    assert_eq!(count(&mirror).await, 1, "unchanged");
    let both = Commit {
        unreadable: items.to_vec(),
        ..read(15, "SUCCEEDED")
    };
    assert_eq!(mirror.commit_all(&both).await.unreadable, 0);
    assert_eq!(count(&mirror).await, 1, "read beside it");
    let page = Commit {
        readable: ["a".to_owned()].into(),
        ..odd(17, &items)
    };
    assert_eq!(mirror.commit_all(&page).await.unreadable, 0);
    assert_eq!(count(&mirror).await, 1, "read singly before it");
}

pub async fn what_cannot_be_read_is_not_absent(mirror: Mirror) {
    mirror.start(&[]).await;
    let runs = ["a", "b", "c"].map(|id| run(id, 1, "READY"));
    mirror.commit(&commit(10, 3, &runs)).await;
    let covered = Covered {
        after: None,
        before: at(2),
    };
    let step = Commit {
        covered: Some(covered),
        unreadable: vec![(1, named("b")), (2, nameless("null"))],
        ..commit(11, 3, &runs[..1])
    };
    let committed = mirror.commit_all(&step).await;
    assert_eq!((committed.written.removed, committed.unreadable), (1, 2));
    for (id, removed) in [("a", false), ("b", false), ("c", true)] {
        assert_eq!(mirror.run(id).await.removed, removed, "{id}");
    }
}

pub async fn of_too_many_items_the_newest_are_kept(mirror: Mirror) {
    mirror.start(&[]).await;
    let most = MAX_UNREADABLE as u64;
    mirror.commit_all(&odd(10, &[(0, named("oldest"))])).await;
    let many: Vec<_> = (0..most).map(|n| (n, named(&format!("r{n}")))).collect();
    let committed = mirror.commit_all(&odd(11, &many)).await;
    assert_eq!((committed.unreadable, count(&mirror).await), (most, most));
    let again = mirror.commit_all(&odd(12, &many)).await;
    assert_eq!(again.unreadable, 0, "only the oldest went");
    let oldest = mirror.commit_all(&odd(13, &[(0, named("oldest"))])).await;
    assert_eq!((oldest.unreadable, count(&mirror).await), (1, most));
    let read = confirmed(commit(14, 1, &[run("oldest", 1, "READY")]));
    mirror.commit(&read).await;
    assert_eq!(count(&mirror).await, most - 1, "of {FEED}");
}
