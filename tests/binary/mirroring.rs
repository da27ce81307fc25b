//! `sync` on an account that changes.

use apify_mirror::model::{RunStatus, Timestamp};

use crate::cases::Case;
use crate::support::{PAST, Setup, events, stderr, stdout};

#[test]
fn history_is_mirrored_without_events() {
    let setup = Setup::with_runs(2_500);
    let output = setup.sync();
    assert_eq!(stdout(&output), "", "no events");
    assert!(
        stderr(&output).contains("janedoe~my-task  up to date"),
        "{}",
        stderr(&output)
    );
    setup.assert_exact();
    assert_eq!(setup.column("SELECT id FROM events"), [""; 0]);
}

#[test]
fn deletions_of_old_runs_neither_lose_nor_invent_runs() {
    for deleted in [300, 1_000, 1_999, 2_400] {
        for added in [1, 20, 1_500] {
            let mut setup = Setup::with_runs(2_500);
            setup.sync();
            let task = setup.task.clone();
            setup.server.world().retain_newest(&task, 2_500 - deleted);
            let new = setup.add_runs(added);
            setup.sync();
            setup.assert_exact();
            assert_eq!(
                setup.runs_with("CREATED"),
                new,
                "{deleted} deleted, {added} added"
            );
            assert_eq!(
                setup.column("SELECT id FROM runs").len(),
                2_500 + added,
                "rows of deleted runs stay"
            );
        }
    }
}

#[test]
fn an_idle_poll_is_one_request() {
    let setup = Setup::with_runs(1_200);
    setup.sync();
    setup.server.take_requests();
    setup.sync();
    assert_eq!(
        setup.server.take_requests(),
        [format!(
            "/v2/actor-tasks/{}/runs?offset=1179&limit=1000",
            setup.task
        )]
    );
}

#[test]
fn runs_that_end_far_behind_the_cursor_are_updated_by_the_next_poll() {
    let mut setup = Setup::with_runs(100);
    let open: Vec<String> = {
        let mut world = setup.server.world();
        let runs: Vec<String> = world.runs(&setup.task).map(|run| run.id.clone()).collect();
        let open: Vec<String> = runs.into_iter().step_by(10).collect();
        open.iter().for_each(|id| world.resurrect(id));
        open
    };
    setup.add_runs(5_000);
    setup.sync();
    {
        let mut world = setup.server.world();
        for id in &open {
            world.finish(
                id,
                RunStatus::TimedOut,
                Timestamp::from_millis(PAST + 9_000_000),
            );
        }
    }
    setup.server.take_requests();
    setup.sync();
    let requests = setup.server.take_requests();
    assert!(requests.len() <= open.len() + 2, "{requests:?}");
    setup.assert_exact();
    assert_eq!(setup.runs_with("TIMED_OUT").len(), open.len());
}

#[test]
fn open_runs_that_are_deleted_are_marked_and_kept() {
    let mut setup = Setup::with_runs(10);
    let id = setup.listed()[0].clone();
    setup.server.world().resurrect(&id);
    setup.add_runs(3_000);
    setup.sync();
    setup.server.world().delete(&id);
    setup.sync();
    assert_eq!(
        setup.column("SELECT id FROM runs WHERE removed_at IS NOT NULL"),
        [id]
    );
    setup.assert_exact();
}

#[test]
fn figures_are_read_again_until_they_settle() {
    let setup = Setup::with_runs(10);
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    setup.sync();
    setup
        .server
        .world()
        .finish(&id, RunStatus::Succeeded, Timestamp::now());
    setup.sync();
    setup.server.world().settle_usage(&id);
    setup.sync();
    setup.assert_exact();
    assert_eq!(setup.runs_with("SUCCEEDED"), [id]);
}

#[test]
fn events_are_json_lines_in_apifys_form() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    let new = setup.add_runs(1).remove(0);
    let output = setup.sync();
    let events = events(&stdout(&output));
    let types: Vec<_> = events
        .iter()
        .map(|event| event["eventType"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"]);
    assert_eq!(events[1]["eventData"]["actorRunId"], new);
    assert_eq!(events[1]["eventData"]["actorTaskId"], setup.task);
    let listed = setup
        .server
        .world()
        .list(&setup.task, 3, 1, false, None)
        .items
        .remove(0);
    assert_eq!(events[1]["resource"], listed, "the run as listed");
    let stored = setup.column("SELECT payload FROM events ORDER BY seq");
    assert_eq!(
        stdout(&output),
        stored.join("\n") + "\n",
        "exactly the stored bytes"
    );
    assert_eq!(
        setup.column("SELECT sink FROM deliveries"),
        [""; 0],
        "and nothing is left to deliver"
    );
}

#[test]
fn history_raises_events_if_configured() {
    let setup = Setup::with_runs(3);
    let output = Case::of(&["sync"])
        .env("APIFY_MIRROR_SYNC__HISTORY_EVENTS", "true")
        .check(&setup);
    assert_eq!(stdout(&output).lines().count(), 6);
    assert_eq!(setup.runs_with("CREATED"), setup.listed());
}

#[test]
fn two_names_of_a_task_make_one_feed_and_a_renamed_task_keeps_its_own() {
    let setup = Setup::with_runs(5);
    let three_names = [
        "sync",
        "--task",
        "janedoe~my-task",
        "--task",
        "~my-task",
        "--task",
        &setup.task,
    ];
    Case::of(&three_names).check(&setup);
    assert_eq!(
        setup.column("SELECT task_id FROM cursors"),
        [setup.task.as_str()]
    );
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.name = "renamed".to_owned());
    Case::of(&["sync", "--task", "~renamed"]).check(&setup);
    assert_eq!(setup.column("SELECT name FROM tasks"), ["renamed"]);
    assert_eq!(setup.column("SELECT id FROM events"), [""; 0]);
}

#[test]
fn every_task_of_the_account_is_discovered() {
    let setup = Setup::with_runs(5);
    let other = setup.server.world().add_task("bob", "other");
    setup
        .server
        .world()
        .create(&other, Timestamp::from_millis(PAST));
    Case::of(&["sync"])
        .bare()
        .env("APIFY_MIRROR_DISCOVER_TASKS", "true")
        .check(&setup);
    assert_eq!(
        setup.column("SELECT name FROM tasks ORDER BY name"),
        ["my-task", "other"]
    );
    assert_eq!(setup.column("SELECT id FROM runs").len(), 6);
}

#[test]
fn a_server_with_small_pages_is_mirrored() {
    let mut setup = Setup::with_runs(950);
    setup.server.world().set_max_limit(100);
    setup.sync();
    setup.add_runs(310);
    setup.sync();
    setup.assert_exact();
    assert_eq!(setup.runs_with("CREATED").len(), 310);
}
