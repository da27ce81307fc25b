//! Questions in SQL, on a connection that can only read.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, Rows};

use super::connection::Db;
use crate::store::error::StoreError;
use crate::store::query::{Cell, Part, QueryError, VIEWS, View};

/// Pragmas that only tell something.
const PRAGMAS: [&str; 9] = [
    "application_id",
    "collation_list",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "table_info",
    "table_list",
    "table_xinfo",
];

impl Db {
    /// Answers `sql`, one statement that only reads: calls `each` with the columns, then with every row, until it returns
    /// false. From then on the connection does nothing else.
    ///
    /// # Errors
    /// When the statement is wrong, does more than read, or the database fails.
    pub fn query(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(Part) -> bool,
    ) -> Result<(), QueryError> {
        self.connection
            .authorizer(Some(authorize))
            .map_err(failure)?;
        let mut statement = self.connection.prepare(sql).map_err(failure)?;
        // What the authorizer does not ask about, such as VACUUM.
        if !statement.readonly() {
            return Err(QueryError::NotReading);
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let count = columns.len();
        if !each(Part::Columns(columns)) {
            return Ok(());
        }
        let mut rows = statement.query([]).map_err(failure)?;
        while let Some(row) = next(&mut rows, count)? {
            if !each(Part::Row(row)) {
                break;
            }
        }
        Ok(())
    }
}

/// The views for people, each with its columns.
///
/// # Errors
/// When SQLite fails.
pub fn views() -> Result<Vec<View>, StoreError> {
    let db = Db::in_memory()?;
    let mut columns = db
        .connection
        .prepare("SELECT name FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let views = VIEWS.map(|[view, about, example]| {
        let columns = columns.query_map([view], |row| row.get(0))?;
        Ok(View {
            view,
            about,
            columns: columns.collect::<Result<_, _>>()?,
            example,
        })
    });
    views.into_iter().collect()
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    let is_reading = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => function_name != "load_extension",
        AuthAction::Pragma { pragma_name, .. } => {
            PRAGMAS.contains(&pragma_name) || is_asked(pragma_name, &context)
        }
        _ => false,
    };
    if is_reading {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

/// Whether a pragma that can also be set is only asked for.
fn is_asked(pragma: &str, context: &AuthContext<'_>) -> bool {
    let is_set = matches!(
        context.action,
        AuthAction::Pragma {
            pragma_value: Some(_),
            ..
        }
    );
    !is_set
        && [
            "user_version",
            "journal_mode",
            "page_size",
            "page_count",
            "freelist_count",
        ]
        .contains(&pragma)
}

fn next(rows: &mut Rows<'_>, count: usize) -> Result<Option<Vec<Cell>>, QueryError> {
    let Some(row) = rows.next().map_err(failure)? else {
        return Ok(None);
    };
    let cells = (0..count).map(|n| Ok(cell(row.get_ref(n).map_err(failure)?)));
    cells.collect::<Result<_, QueryError>>().map(Some)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

/// A mistake in the statement, or a failure of the database.
fn failure(error: rusqlite::Error) -> QueryError {
    match error.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
            QueryError::NotReading
        }
        Some(
            ErrorCode::Unknown
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange,
        )
        | None => QueryError::Sql(error.to_string()),
        Some(_) => QueryError::Store(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::builders::{FEED, at, commit, run};
    use serde_json::json;

    fn db() -> Db {
        let mut db = Db::in_memory().unwrap();
        let task = crate::store::conformance::builders::task(FEED);
        db.open_feed(&task, at(1)).unwrap();
        let mut ended = run("a", 1, "SUCCEEDED");
        ended["finishedAt"] = json!(at(3).to_string());
        db.commit(FEED, &commit(10, 1, &[ended])).unwrap();
        db
    }

    fn ask(db: &mut Db, sql: &str) -> Result<Vec<Part>, QueryError> {
        let mut parts = Vec::new();
        db.query(sql, &mut |part| {
            parts.push(part);
            parts.len() < 3
        })?;
        Ok(parts)
    }

    #[test]
    fn an_answer_is_its_columns_and_rows_as_far_as_they_are_wanted() {
        let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n)
            SELECT n, n / 2.0 AS half, 'x' AS x, NULL AS none, x'00ff' AS bytes FROM n";
        let parts = ask(&mut db(), sql).unwrap();
        let names = ["n", "half", "x", "none", "bytes"].map(str::to_owned);
        assert_eq!(parts[0], Part::Columns(names.to_vec()));
        let text = Cell::Text("x".to_owned());
        let bytes = Cell::Blob(vec![0, 255]);
        let row = vec![Cell::Integer(1), Cell::Real(0.5), text, Cell::Null, bytes];
        assert_eq!(parts[1], Part::Row(row));
        assert_eq!(parts.len(), 3);
    }

    #[test]
    fn whatever_is_more_than_reading_is_refused() {
        for sql in [
            "DELETE FROM runs",
            "UPDATE runs SET status = 'x'",
            "INSERT INTO tasks (id) VALUES ('x')",
            "CREATE TABLE x (x)",
            "CREATE TEMP TABLE x (x)",
            "CREATE TEMP VIEW x AS SELECT 1",
            "DROP VIEW open_runs",
            "ATTACH 'x.db' AS x",
            "VACUUM",
            "VACUUM INTO 'x.db'",
            "PRAGMA user_version = 7",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA writable_schema = ON",
            "PRAGMA wal_checkpoint",
            "BEGIN IMMEDIATE",
            "REINDEX",
            "ANALYZE",
        ] {
            let refused = ask(&mut db(), sql);
            assert!(
                matches!(refused, Err(QueryError::NotReading)),
                "{sql}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_mistake_is_told_as_one() {
        for (sql, part) in [
            ("SELEC 1", "near \"SELEC\": syntax error"),
            ("SELECT * FROM nowhere", "no such table: nowhere"),
            ("SELECT 1; SELECT 2", "Multiple statements"),
            ("", "not an error"),
            ("SELECT load_extension('x')", "not authorized"),
            ("SELECT abs(-9223372036854775808)", "integer overflow"),
        ] {
            match ask(&mut db(), sql) {
                Err(QueryError::Sql(message)) => {
                    assert!(message.contains(part) || sql.is_empty(), "{sql}: {message}");
                }
                other => panic!("{sql}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_tells_about_the_database_is_reading() {
        for sql in [
            "PRAGMA user_version",
            "PRAGMA table_info(runs)",
            "SELECT name FROM pragma_table_list",
            "EXPLAIN QUERY PLAN SELECT * FROM runs",
            "SELECT sql FROM sqlite_schema",
            "SELECT * FROM runs, json_each('[1]') ORDER BY started_at",
        ] {
            assert!(ask(&mut db(), sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn every_view_is_documented_and_its_example_runs() {
        let views = views().unwrap();
        let made = "SELECT group_concat(name, ' ') FROM (
            SELECT name FROM sqlite_schema WHERE type = 'view' AND name <> 'cursors' ORDER BY name)";
        let mut named: Vec<&str> = views.iter().map(|view| view.view).collect();
        named.sort_unstable();
        let found = ask(&mut db(), made).unwrap();
        assert_eq!(found[1], Part::Row(vec![Cell::Text(named.join(" "))]));
        for view in views {
            assert!(view.columns.len() > 3, "{}", view.view);
            ask(&mut db(), view.example).unwrap();
        }
    }
}
