//! Details of runs: which are due, what becomes of answers, and the events that wait for them.

use serde_json::{Value, json};

use super::builders::{HOOK, LATEST, at, commit, confirmed, of_all, run};
use super::mirror::Mirror;
use crate::model::{
    DETAILS_WAIT, Details, Due, MAX_DETAILS_ATTEMPTS, Order, Retention, Timestamp, Verdict,
};
use crate::store::details::{DetailsAnswer, DetailsDue, DetailsSaved};
use crate::store::pruning::PrunePosition;
use crate::store::reports::Which;
use crate::sync::{Commit, Seen};

/// How long an event waits, in seconds.
const WAIT: i64 = DETAILS_WAIT.as_secs() as i64;

/// A run that failed at `end`, or is in another status.
fn ended(id: &str, status: &str, end: Option<i64>) -> Value {
    let mut item = run(id, 1, status);
    item["finishedAt"] = end.map(|end| at(end).to_string()).into();
    item
}

/// The same, as a single read shows it.
fn read(id: &str, status: &str, end: Option<i64>, message: &str) -> Value {
    let mut item = ended(id, status, end);
    item["statusMessage"] = message.into();
    item["exitCode"] = 1.into();
    item["stats"] = json!({"restartCount": 0});
    item["options"] = json!({"memoryMbytes": 1024, "timeoutSecs": 300});
    item
}

fn found(item: &Value) -> DetailsAnswer {
    DetailsAnswer::Found(Box::new(Seen::from_json(item.clone(), LATEST).unwrap()))
}

/// A commit at `now` of what a list shows, where details are wanted.
fn listed(now: i64, details: Details, items: &[Value]) -> Commit {
    let mut commit = commit(now, 0, items);
    commit.judgement.details = details;
    commit
}

async fn due(mirror: &Mirror, details: Details, now: i64) -> DetailsDue {
    let limits = (10, 10);
    mirror
        .store
        .due_details(details, limits, at(now))
        .await
        .unwrap()
}

async fn overdue(mirror: &Mirror, now: i64) -> (u64, Option<Timestamp>) {
    mirror.store.release_overdue(at(now)).await.unwrap()
}

async fn save(mirror: &Mirror, now: i64, answers: &[(&str, DetailsAnswer)]) -> DetailsSaved {
    let answers = answers.iter();
    let answers = answers.map(|(id, answer)| ((*id).to_owned(), answer.clone()));
    mirror
        .store
        .save_details(answers.collect(), at(now))
        .await
        .unwrap()
}

/// The `statusMessage` in the bodies of events that may be read, by number.
async fn messages(mirror: &Mirror) -> Vec<(i64, Option<String>)> {
    let message = |(seq, body): (i64, String)| {
        let body: Value = serde_json::from_str(&body).unwrap();
        let message = body["resource"]["statusMessage"].as_str();
        (seq, message.map(str::to_owned))
    };
    mirror.events().await.into_iter().map(message).collect()
}

/// The numbers of the events that a stream, and a sink of independent runs, would get.
async fn fetched(mirror: &Mirror, now: i64) -> (Vec<i64>, Vec<i64>) {
    let stream = mirror.fetch(Order::Stream, now, &[]).await.events;
    let runs = mirror.fetch(Order::Run, now, &[]).await.events;
    let seqs = |due: Vec<Due>| due.iter().map(|due| due.seq).collect::<Vec<_>>();
    let (stream, mut runs) = (seqs(stream), seqs(runs));
    runs.sort_unstable();
    (stream, runs)
}

pub async fn the_event_of_a_run_that_failed_waits_for_its_details(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "RUNNING"), ("b", "RUNNING")]).await;
    let failed = [ended("a", "FAILED", Some(18)), run("c", 2, "READY")];
    mirror.commit(&listed(20, Details::Failed, &failed)).await;
    assert_eq!(
        fetched(&mirror, 20).await,
        (vec![1, 2], vec![1, 2, 4]),
        "a stream keeps its order"
    );
    assert_eq!(messages(&mirror).await, [(1, None), (2, None)]);
    let wanted = due(&mirror, Details::Failed, 20).await;
    assert_eq!(wanted.urgent, ["a"]);
    assert_eq!(wanted.others, [""; 0]);

    let mut notified = mirror.store.notifications();
    notified.mark_unchanged();
    let answer = found(&read("a", "FAILED", Some(18), "no memory"));
    let saved = save(&mirror, 21, &[("a", answer)]).await;
    assert_eq!((saved.read, saved.released), (1, 1));
    assert!(notified.has_changed().unwrap(), "workers hear of it");
    // The event before it is still owed.
    assert_eq!(
        fetched(&mirror, 21).await,
        (vec![1, 2, 3, 4], vec![1, 2, 4])
    );
    mirror.settle(21, 1, "a", Verdict::Delivered).await;
    assert_eq!(fetched(&mirror, 21).await.1, [2, 3, 4]);
    let message = Some("no memory".to_owned());
    let all = [(1, None), (2, None), (3, message), (4, None)];
    assert_eq!(messages(&mirror).await, all);
    let body = mirror.events().await.remove(2).1;
    assert!(body.starts_with(r#"{"id":"evt_"#), "{body}");
    let resource = &serde_json::from_str::<Value>(&body).unwrap()["resource"];
    assert_eq!(resource["options"]["memoryMbytes"], 1024);
    assert_eq!(resource["meta"]["origin"], "API", "as it was listed");
}

pub async fn an_event_waits_no_longer_than_it_may_and_stays_as_it_went(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let failed = [ended("a", "TIMED-OUT", Some(8))];
    mirror.commit(&listed(10, Details::All, &failed)).await;
    assert_eq!(overdue(&mirror, 11).await, (0, Some(at(10 + WAIT))));
    assert_eq!(overdue(&mirror, 9 + WAIT).await.0, 0);
    assert_eq!(fetched(&mirror, 10 + WAIT).await, (vec![1], vec![1]));
    assert_eq!(overdue(&mirror, 10 + WAIT).await, (1, None));
    assert_eq!(fetched(&mirror, 10 + WAIT).await.0, [1, 2]);
    let late = found(&read("a", "TIMED-OUT", Some(8), "late"));
    let saved = save(&mirror, 11 + WAIT, &[("a", late)]).await;
    assert_eq!((saved.read, saved.released), (1, 0));
    assert_eq!(messages(&mirror).await, [(1, None), (2, None)]);

    // A clock that was set back does not make it wait longer.
    let failed = [ended("b", "FAILED", Some(8))];
    mirror.commit(&listed(1_000, Details::All, &failed)).await;
    assert_eq!(overdue(&mirror, 500).await, (1, None));
    // And what a pass leaves undone waits for nothing.
    let failed = [ended("c", "FAILED", Some(8))];
    mirror.commit(&listed(1_000, Details::All, &failed)).await;
    assert_eq!(mirror.store.release_events(at(1_000)).await.unwrap(), 1);
    assert_eq!(mirror.store.release_events(at(1_000)).await.unwrap(), 0);
}

pub async fn details_of_a_later_end_are_not_those_of_an_earlier_one(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let first = listed(10, Details::Failed, &[ended("a", "FAILED", Some(8))]);
    mirror.commit(&first).await;
    let again = [ended("a", "RUNNING", None)];
    let running = confirmed(listed(11, Details::Failed, &again));
    mirror.commit(&running).await;
    // The answer shows what is not stored yet.
    let second = read("a", "FAILED", Some(12), "second");
    let saved = save(&mirror, 13, &[("a", found(&second))]).await;
    assert_eq!((saved.put_off, saved.read, saved.released), (1, 0, 1));
    let ended = [ended("a", "FAILED", Some(12))];
    mirror.commit(&listed(13, Details::Failed, &ended)).await;
    assert_eq!(due(&mirror, Details::Failed, 13).await.urgent, ["a"]);
    save(&mirror, 14, &[("a", found(&second))]).await;
    let messages = messages(&mirror).await;
    assert_eq!(messages[1], (2, None), "the first end");
    assert_eq!(messages[3], (4, Some("second".to_owned())));
    // Nor is another end with the same status.
    let third = read("a", "FAILED", Some(15), "third");
    let saved = save(&mirror, 16, &[("a", found(&third))]).await;
    assert_eq!((saved.put_off, saved.read), (1, 0));
}

pub async fn figures_that_are_not_final_are_read_again(mirror: Mirror) {
    mirror.start(&[]).await;
    mirror.see(10, &[("a", "RUNNING"), ("b", "RUNNING")]).await;
    let ended = [
        ended("a", "FAILED", Some(18)),
        ended("b", "SUCCEEDED", Some(18)),
    ];
    mirror.commit(&listed(20, Details::All, &ended)).await;
    assert_eq!(due(&mirror, Details::All, 21).await.others, [""; 0]);
    let answer = found(&read("a", "FAILED", Some(18), "early"));
    save(&mirror, 21, &[("a", answer.clone())]).await;
    let next = due(&mirror, Details::All, 22).await;
    assert_eq!((next.urgent, next.others), (vec![], vec![]));
    assert_eq!(next.next, Some(at(80)), "when they are final");
    let mut others = due(&mirror, Details::All, 80).await.others;
    others.sort();
    assert_eq!(others, ["a", "b"]);
    save(&mirror, 81, &[("a", answer)]).await;
    assert_eq!(due(&mirror, Details::All, 82).await.others, ["b"]);
    assert_eq!(due(&mirror, Details::Failed, 82).await.others, [""; 0]);
    let next = due(&mirror, Details::All, 90).await;
    assert_eq!(next.others, [""; 0], "no longer wanted, so forgotten");
}

pub async fn a_single_read_by_a_poll_gives_details_at_once(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "RUNNING"), ("b", "RUNNING")]).await;
    let shown = read("a", "FAILED", Some(18), "by a poll");
    mirror
        .commit(&confirmed(listed(20, Details::Failed, &[shown])))
        .await;
    let message = Some("by a poll".to_owned());
    assert_eq!(messages(&mirror).await[2], (3, message));
    assert_eq!(due(&mirror, Details::Failed, 21).await.urgent, [""; 0]);
    // One that a list showed first, and a poll then reads.
    let failed = [ended("b", "FAILED", Some(18))];
    mirror.commit(&listed(21, Details::Failed, &failed)).await;
    assert_eq!(messages(&mirror).await.len(), 3);
    let shown = read("b", "FAILED", Some(18), "afterwards");
    let committed = mirror
        .commit_all(&confirmed(listed(22, Details::Failed, &[shown])))
        .await;
    assert_eq!(committed.released, 1);
    let message = Some("afterwards".to_owned());
    assert_eq!(messages(&mirror).await[3], (4, message));
}

pub async fn what_cannot_be_read_is_put_off_and_then_given_up(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let failed = [ended("a", "FAILED", Some(8)), ended("b", "FAILED", Some(8))];
    mirror.commit(&listed(10, Details::Failed, &failed)).await;
    let answers = [
        ("a", DetailsAnswer::Unreadable),
        ("b", DetailsAnswer::Unavailable),
        ("nobody", DetailsAnswer::Unreadable),
    ];
    let saved = save(&mirror, 11, &answers).await;
    let expected = DetailsSaved {
        put_off: 2,
        gone: 1,
        released: 2,
        ..DetailsSaved::default()
    };
    assert_eq!(saved, expected);
    let next = due(&mirror, Details::Failed, 12).await;
    assert_eq!((next.others, next.next), (vec![], Some(at(11 + 30))));
    let (mut now, mut given_up) = (at(41), 0);
    for _ in 1..MAX_DETAILS_ATTEMPTS {
        let seconds = now.as_millis() / 1_000;
        assert_eq!(due(&mirror, Details::Failed, seconds).await.others.len(), 2);
        given_up += save(&mirror, seconds, &answers[..2]).await.given_up;
        let next = due(&mirror, Details::Failed, seconds).await.next;
        now = next.unwrap();
    }
    assert_eq!(given_up, 1);
    let left = due(&mirror, Details::Failed, now.as_millis() / 1_000).await;
    assert_eq!(left.others, ["b"], "an outage does not count");
    let far = Timestamp::from_millis(now.as_millis() - 400_000_000);
    let left = due(&mirror, Details::Failed, far.as_millis() / 1_000).await;
    assert_eq!(left.others, ["b"], "nor does a clock that was set back");
    // Until the run ends again.
    let running = confirmed(listed(50, Details::Failed, &[ended("a", "RUNNING", None)]));
    mirror.commit(&running).await;
    let failed = [ended("a", "FAILED", Some(51))];
    mirror.commit(&listed(52, Details::Failed, &failed)).await;
    assert_eq!(due(&mirror, Details::Failed, 52).await.urgent, ["a"]);
}

pub async fn runs_from_before_details_were_wanted_are_found_the_newest_first(mirror: Mirror) {
    mirror.start(&[]).await;
    let status = |n: usize| {
        if n.is_multiple_of(2) {
            "FAILED"
        } else {
            "SUCCEEDED"
        }
    };
    let items: Vec<Value> = (0..2_500)
        .map(|n| ended(&format!("r{n}"), status(n), Some(n as i64)))
        .collect();
    mirror.commit(&commit(10_000, 0, &items)).await;
    let mut found_runs = Vec::new();
    for _ in 0..1_000 {
        let due = due(&mirror, Details::Failed, 20_000).await;
        if due.others.is_empty() && due.next.is_none_or(|next| next > at(20_000)) {
            break;
        }
        let ids = due.others.iter();
        let answers: Vec<_> = ids
            .clone()
            .map(|id| {
                let end = id[1..].parse().unwrap();
                (id.as_str(), found(&read(id, "FAILED", Some(end), "")))
            })
            .collect();
        save(&mirror, 20_000, &answers).await;
        found_runs.extend(due.others);
    }
    let newest_first: Vec<String> = (0..1_250).rev().map(|n| format!("r{}", 2 * n)).collect();
    assert_eq!(found_runs, newest_first);
    // Another policy finds what is left, and nothing twice.
    let mut left = due(&mirror, Details::All, 20_001).await;
    while left.others.is_empty() {
        assert!(left.next.is_some(), "nothing was found");
        left = due(&mirror, Details::All, 20_001).await;
    }
    assert_eq!(left.others[..2], ["r2499", "r2497"]);
}

pub async fn another_end_takes_its_details_even_if_nobody_wanted_any_then(mirror: Mirror) {
    mirror.start(&[]).await;
    let first = [ended("a", "FAILED", Some(8))];
    mirror.commit(&listed(10, Details::Failed, &first)).await;
    let answer = found(&read("a", "FAILED", Some(8), "first"));
    save(&mirror, 100, &[("a", answer)]).await;
    assert_eq!(
        due(&mirror, Details::None, 100).await,
        DetailsDue::default()
    );
    let running = confirmed(commit(110, 0, &[ended("a", "RUNNING", None)]));
    mirror.commit(&running).await;
    let again = [ended("a", "FAILED", Some(120))];
    mirror.commit(&commit(130, 0, &again)).await;
    // The first looks through the older runs.
    due(&mirror, Details::Failed, 1_000).await;
    let wanted = due(&mirror, Details::Failed, 1_000).await;
    assert_eq!(wanted.others, ["a"]);
}

pub async fn what_waits_is_not_pruned_and_details_go_with_their_runs(mirror: Mirror) {
    mirror.start(&[]).await;
    let items = [ended("a", "FAILED", Some(8))];
    mirror.commit(&listed(10, Details::Failed, &items)).await;
    let nothing = Retention {
        removed_runs: Some(std::time::Duration::ZERO),
        events: Some(std::time::Duration::ZERO),
        dead_deliveries: None,
    };
    let prune = async || {
        let (mut next, mut events, mut runs) = (Some(PrunePosition::default()), 0, 0);
        while let Some(from) = next {
            let step = mirror
                .store
                .prune(&nothing, &from, at(1_000))
                .await
                .unwrap();
            (events, runs) = (events + step.pruned.events, runs + step.pruned.runs);
            next = step.next;
        }
        (events, runs)
    };
    assert_eq!(prune().await, (1, 0), "CREATED");
    let answer = found(&read("a", "FAILED", Some(8), "x"));
    save(&mirror, 11, &[("a", answer)]).await;
    assert_eq!(prune().await, (1, 0));
    let gone = Commit {
        gone: vec!["a".into()],
        ..listed(12, Details::Failed, &[])
    };
    mirror.commit(&gone).await;
    assert_eq!(prune().await, (0, 1));
    // It is listed again, and its details are read again.
    mirror.commit(&listed(2_000, Details::Failed, &items)).await;
    assert_eq!(due(&mirror, Details::Failed, 2_000).await.others, ["a"]);
    assert_eq!(mirror.deliveries(&of_all(Which::All)).await, []);
}
