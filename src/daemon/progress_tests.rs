//! What is counted, and when it is shown.

use super::*;

fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        ..Task::default()
    }
}

/// Progress of so many tasks, in the log.
fn progress(tasks: usize) -> Progress {
    let progress = Progress::new(None);
    progress.expect(tasks);
    progress
}

fn is_shown(progress: &Progress) -> bool {
    progress.lock().bar.is_some()
}

fn counts(progress: &Progress) -> (u64, u64) {
    progress.lock().counts()
}

#[test]
fn all_tasks_make_one_bar_that_counts_what_there_was_to_read() {
    let progress = progress(2);
    progress.show(&task("a"), 100, 100, Some(5_100));
    assert!(is_shown(&progress));
    progress.show(&task("b"), 0, 0, Some(2_000));
    progress.show(&task("a"), 1_100, 1_100, Some(5_200));
    assert_eq!(counts(&progress), (1_000, 7_100));
    progress.show(&task("b"), 2_000, 2_000, Some(2_000));
    progress.done("b");
    assert_eq!(counts(&progress), (3_000, 7_100));
    assert_eq!(progress.lock().tasks(), (1, 2));
    progress.show(&task("a"), 5_200, 5_200, Some(5_200));
    progress.done("a");
    assert!(!is_shown(&progress));
    assert_eq!(counts(&progress), (0, 0));
}

#[test]
fn the_rate_counts_from_the_first_request() {
    let progress = progress(1);
    let ago = Instant::now() - Duration::from_secs(10);
    progress.lock().began = ago;
    progress.show(&task("a"), 0, 1_000, Some(5_000));
    let (rate, left) = progress.lock().rate();
    assert!((95..=100).contains(&rate), "{rate}");
    assert!((40..=43).contains(&left.as_secs()), "{left:?}");
    // Another feed that begins meanwhile changes nothing.
    progress.begin();
    assert_eq!(progress.lock().began, ago);
    progress.done("a");
    progress.begin();
    assert!(progress.lock().began > ago);
}

#[test]
fn what_ends_soon_is_not_shown() {
    let progress = progress(1);
    progress.show(&task("a"), 1_000_000, 1_000_000, Some(1_000_999));
    progress.show(&task("a"), 10, 10, None);
    assert!(!is_shown(&progress));
}

#[test]
fn a_task_that_is_done_may_have_more_to_read_later() {
    let progress = progress(2);
    for id in ["a", "b"] {
        progress.show(&task(id), 5, 5, Some(5));
        progress.done(id);
    }
    assert_eq!(progress.lock().tasks(), (2, 2));
    progress.show(&task("a"), 5, 5, Some(9_005));
    assert!(is_shown(&progress));
    assert_eq!(progress.lock().tasks(), (1, 2));
    progress.forget("a");
    assert!(!is_shown(&progress));
    assert_eq!(progress.lock().tasks(), (1, 1));
}

#[test]
fn an_audit_that_begins_anew_counts_from_its_beginning() {
    let progress = progress(1);
    progress.show(&task("a"), 3_000, 3_000, Some(9_000));
    progress.show(&task("a"), 0, 0, Some(9_000));
    assert_eq!(counts(&progress), (0, 9_000));
    // A server that says less than it has given.
    progress.show(&task("a"), 5_000, 5_000, Some(4_000));
    assert_eq!(counts(&progress), (4_000, 4_000));
}

#[test]
fn trouble_is_told_where_it_is_asked_for_and_ends() {
    let progress = progress(1);
    let trouble = || Some("503".to_owned());
    progress.tell(false, trouble());
    progress.tell(true, None);
    assert_eq!(progress.lock().next_line, FIRST_LINE);
    progress.lock().told = Instant::now() - FIRST_LINE;
    progress.tell(true, trouble());
    assert_eq!(progress.lock().next_line, FIRST_LINE * 2);
}

#[test]
fn counts_beyond_all_bounds_do_no_harm() {
    let progress = progress(3);
    for id in ["a", "b", "c"] {
        progress.show(&task(id), 0, 1, Some(u64::MAX));
    }
    assert_eq!(counts(&progress), (3, u64::MAX));
}
