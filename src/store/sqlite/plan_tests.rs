//! What the queries of a poll read: rows of removed runs must cost it nothing, however many there are.

use rusqlite::params_from_iter;
use rusqlite::types::Null;

use super::connection::Db;
use super::reads::{COUNT, COUNT_BEFORE, NTH_BEFORE};
use super::rows::{STARTED_WITHIN, WITHOUT_START};

/// The steps by which SQLite answers a query.
pub fn plan(db: &Db, sql: &str) -> Vec<String> {
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
    let mut statement = db.connection.prepare(&explain).unwrap();
    let nulls = vec![Null; statement.parameter_count()];
    let steps = statement.query_map(params_from_iter(nulls), |row| row.get(3));
    steps.unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_queries_of_a_poll_read_the_index_of_listed_runs() {
    let db = Db::in_memory().unwrap();
    for sql in [
        NTH_BEFORE,
        COUNT,
        COUNT_BEFORE,
        STARTED_WITHIN,
        WITHOUT_START,
    ] {
        let plan = plan(&db, sql);
        assert!(
            plan.len() == 1 && plan[0].contains("runs_listed (feed_id=? AND started_at"),
            "{sql}: {plan:?}"
        );
    }
}
