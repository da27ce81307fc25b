//! Being killed, at any moment.

use std::process::Stdio;

use crate::support::{Setup, wait_until};

#[test]
fn a_first_sync_that_is_killed_a_dozen_times_is_exact_and_silent() {
    let setup = Setup::with_runs(40_000);
    // Small pages: many commits to be killed between and within.
    setup.server.world().set_max_limit(400);
    let mut progress = 0;
    for kill in 0..12 {
        setup.server.take_requests();
        let mut child = setup
            .command(&["sync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A different number of answers each time, so that the blow falls into different moments.
        let mut seen = 0;
        wait_until("requests", || {
            seen += setup.server.take_requests().len();
            seen > 3 + kill
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let rows: u64 = setup
            .db()
            .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
            .unwrap();
        assert!(rows >= progress, "what was committed stays");
        progress = rows;
    }
    assert!(
        progress < 40_000,
        "the kills came too late to mean anything"
    );
    setup.sync();
    setup.assert_exact();
    let events: u64 = setup
        .db()
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(events, 0, "history raised events");
}
