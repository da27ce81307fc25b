//! Rows that tables of other people refer to: those are not pruned.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::objects::{is_ours, quoted};
use crate::store::error::StoreError;

/// The columns of a foreign key: each of the table it is in, and the one that it refers to.
type Columns = Vec<(String, String)>;

/// A condition in SQL: whether a row of `table`, which the statement calls `alias`, is referred to by a table of somebody
/// else's. A key that names no column refers to the column `key`.
pub fn is_referred_to(
    connection: &Connection,
    table: &str,
    alias: &str,
    key: &str,
) -> Result<String, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT s.name, f.id, f.\"from\", coalesce(f.\"to\", ?2) FROM sqlite_schema s, pragma_foreign_key_list(s.name) f
         WHERE s.type = 'table' AND lower(f.\"table\") = ?1 ORDER BY s.name, f.id, f.seq",
    )?;
    let mut keys: BTreeMap<(String, i64), Columns> = BTreeMap::new();
    let rows = statement.query_map((table, key), |row| {
        Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?)))
    })?;
    for row in rows {
        let (of, columns): ((String, i64), _) = row?;
        if !is_ours(&of.0)? {
            keys.entry(of).or_default().push(columns);
        }
    }
    let conditions = keys.iter().map(|((other, _), columns)| {
        let to = columns
            .iter()
            .map(|(_, to)| format!("{alias}.{}", quoted(to)));
        let from: Vec<String> = columns.iter().map(|(from, _)| quoted(from)).collect();
        // A NULL among them would make the answer NULL, and refers to nothing.
        let refers = from.iter().map(|from| format!("{from} IS NOT NULL"));
        format!(
            " OR ({}) IN (SELECT {} FROM {} WHERE {})",
            to.collect::<Vec<_>>().join(", "),
            from.join(", "),
            quoted(other),
            refers.collect::<Vec<_>>().join(" AND ")
        )
    });
    Ok(format!("FALSE{}", conditions.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::super::connection::Db;
    use super::*;

    #[test]
    fn tables_of_others_are_asked_and_no_others() {
        let db = Db::in_memory().unwrap();
        let condition = |table, key| is_referred_to(&db.connection, table, "x", key).unwrap();
        assert_eq!(condition("runs", "id"), "FALSE");
        assert_eq!(condition("events", "seq"), "FALSE");
        db.connection
            .execute_batch(
                "CREATE TABLE \"my \"\"notes\" (run REFERENCES RUNS, seq INTEGER, id TEXT,
                     FOREIGN KEY (seq) REFERENCES events, FOREIGN KEY (id) REFERENCES events (id));
                 CREATE TABLE tags (task REFERENCES tasks)",
            )
            .unwrap();
        assert_eq!(
            condition("runs", "id"),
            r#"FALSE OR (x."id") IN (SELECT "run" FROM "my ""notes" WHERE "run" IS NOT NULL)"#
        );
        assert_eq!(condition("events", "seq").matches(" OR ").count(), 2);
    }

    /// Pruning deletes without SQLite's checks, so it must know of every table whose rows refer to those that it deletes.
    #[test]
    fn no_table_of_ours_refers_to_runs_or_events_but_those_that_pruning_knows() {
        let db = Db::in_memory().unwrap();
        let sql = "SELECT group_concat(s.name || ' ' || f.\"table\", ', ') FROM sqlite_schema s, pragma_foreign_key_list(s.name) f
             WHERE s.type = 'table' AND f.\"table\" IN ('runs', 'events', 'deliveries')";
        let found: String = db.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(found, "events runs, deliveries events, run_details runs");
    }
}
