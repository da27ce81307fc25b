//! Audits that commands ask the daemon for.

use super::builders::{FEED, at};
use super::mirror::Mirror;
use crate::store::reports::AuditRequest;

async fn ask(mirror: &Mirror, feed: &str, now: i64) -> i64 {
    mirror.store.request_audit(feed, at(now)).await.unwrap()
}

async fn begin(mirror: &Mirror, feed: &str) -> bool {
    mirror.store.begin_audit(feed, at(50)).await.unwrap()
}

async fn finish(mirror: &Mirror, feed: &str, result: &str, now: i64) {
    let finished = mirror.store.finish_audit(feed, result, at(now)).await;
    finished.unwrap();
}

async fn state(mirror: &Mirror, id: i64) -> Option<AuditRequest> {
    mirror.reader.audit_request(id).await.unwrap()
}

async fn open(mirror: &Mirror) -> Vec<String> {
    mirror.reader.requested_audits().await.unwrap()
}

fn answered(result: &str) -> Option<AuditRequest> {
    Some(AuditRequest {
        begun: true,
        result: Some(result.to_owned()),
    })
}

pub async fn everybody_who_asks_before_an_audit_begins_gets_the_same_one(mirror: Mirror) {
    let first = ask(&mirror, FEED, 1).await;
    assert_eq!(ask(&mirror, FEED, 2).await, first);
    assert_ne!(ask(&mirror, "other", 2).await, first);
    assert_eq!(open(&mirror).await, ["other", FEED]);
    assert!(begin(&mirror, FEED).await);
    // This audit may already have passed what the next one is asked to compare.
    let second = ask(&mirror, FEED, 3).await;
    assert_ne!(second, first);
    finish(&mirror, FEED, "1", 4).await;
    assert_eq!(state(&mirror, first).await, answered("1"));
    let waiting = AuditRequest {
        begun: false,
        result: None,
    };
    assert_eq!(state(&mirror, second).await, Some(waiting));
}

pub async fn an_audit_is_begun_once_and_its_answer_is_kept(mirror: Mirror) {
    assert_eq!(state(&mirror, 1).await, None);
    assert!(!begin(&mirror, FEED).await, "nobody asked");
    let id = ask(&mirror, FEED, 1).await;
    finish(&mirror, FEED, "0", 2).await;
    assert_eq!(open(&mirror).await, [FEED], "it has not begun");
    assert!(begin(&mirror, FEED).await);
    assert!(!begin(&mirror, FEED).await, "it has begun");
    assert_eq!(open(&mirror).await, [FEED]);
    finish(&mirror, FEED, "1", 3).await;
    finish(&mirror, FEED, "2", 4).await;
    assert_eq!(state(&mirror, id).await, answered("1"));
    assert_eq!(open(&mirror).await, [""; 0]);
}

pub async fn an_audit_that_was_interrupted_is_asked_for_again(mirror: Mirror) {
    let first = ask(&mirror, FEED, 1).await;
    let other = ask(&mirror, "other", 1).await;
    assert!(begin(&mirror, FEED).await && begin(&mirror, "other").await);
    let second = ask(&mirror, FEED, 2).await;
    mirror.store.renew_audits(FEED).await.unwrap();
    assert!(!begin(&mirror, "other").await, "that one goes on");
    assert!(begin(&mirror, FEED).await);
    finish(&mirror, FEED, "1", 3).await;
    for id in [first, second] {
        assert_eq!(state(&mirror, id).await, answered("1"));
    }
    assert_eq!(state(&mirror, other).await.unwrap().result, None);

    mirror.store.renew_audits("other").await.unwrap();
    assert!(begin(&mirror, "other").await);
    mirror.store.renew_audits(FEED).await.unwrap();
    assert!(!begin(&mirror, FEED).await, "an answer is final");
}

pub async fn old_requests_are_removed(mirror: Mirror) {
    const DAY: i64 = 24 * 3_600;
    let old = ask(&mirror, FEED, 0).await;
    assert!(begin(&mirror, FEED).await);
    finish(&mirror, FEED, "1", 5).await;
    let forgotten = ask(&mirror, "other", 0).await;
    let now = ask(&mirror, FEED, DAY).await;
    assert!(begin(&mirror, FEED).await);
    finish(&mirror, FEED, "2", DAY).await;
    assert_eq!(state(&mirror, old).await, answered("1"));
    finish(&mirror, FEED, "3", DAY + 1).await;
    assert_eq!(state(&mirror, old).await, None);
    assert_eq!(state(&mirror, forgotten).await, None);
    assert_eq!(state(&mirror, now).await, answered("2"));
}
