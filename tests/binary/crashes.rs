//! Processes killed at any moment.

use std::process::Stdio;

use crate::support::{Setup, wait_until};

#[test]
fn a_first_sync_killed_a_dozen_times_is_exact_and_raises_no_events() {
    let setup = Setup::with_runs(40_000);
    // Small pages make many commits.
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
        // Kill after a different number of requests each time.
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
    assert!(progress < 40_000, "the sync ended before the kills");
    setup.sync();
    setup.assert_exact();
    let events: u64 = setup
        .db()
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(events, 0, "history raised events");
}
