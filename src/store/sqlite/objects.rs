//! The objects of the schema (tables, views, indices, triggers), compared with what this program made.
//!
//! Whoever can write the file could plant a trigger that makes this program write, and then deliver, what never happened,
//! or replace a view by one without end. People's own tables, views and indices are welcome.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::schema::{MIGRATIONS, SCHEMA_VERSION};
use crate::store::error::StoreError;

/// The most objects that are looked at. This program makes a tenth of that.
const MAX_OBJECTS: usize = 1_000;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    /// `table`, `view`, `index` or `trigger`.
    kind: String,
    /// The table it belongs to.
    table: String,
    /// The statement that made it.
    sql: String,
}

/// Objects by name, without those that SQLite makes itself.
type Objects = BTreeMap<String, Object>;

/// Checks that the objects of schema `version` are as this program made them, and that no other trigger is on a table of
/// its. Missing views and indices are no danger; [`restore`] makes them again.
///
/// # Errors
/// [`StoreError::Changed`] for the first that is not, and when SQLite fails.
pub(super) fn check(connection: &Connection, version: i64, path: &Path) -> Result<(), StoreError> {
    let (found, ours) = (read(connection)?, ours(version)?);
    let changed = |name: &str, what, remedy| {
        Err(StoreError::Changed {
            path: path.to_owned(),
            name: name.to_owned(),
            what,
            remedy,
        })
    };
    const RESTORE: &str = "restore a backup, or move the file out of the way and mirror again";
    for (name, object) in ours.iter() {
        match found.get(name) {
            Some(other) if other == object => {}
            Some(_) if object.kind == "table" => {
                return changed(name, "table was changed", RESTORE.to_owned());
            }
            None if object.kind == "table" => {
                return changed(name, "table is missing", RESTORE.to_owned());
            }
            None => {}
            Some(other) => {
                let remedy = format!("`DROP {} \"{name}\"`", other.kind.to_uppercase());
                return changed(name, "view or index was changed", drop_it(&remedy));
            }
        }
    }
    for (name, object) in &found {
        if object.kind == "trigger" && ours.contains_key(&object.table) && !ours.contains_key(name)
        {
            let remedy = format!("`DROP TRIGGER \"{name}\"` removes it");
            return changed(name, "trigger is not apify-mirror's", remedy);
        }
    }
    Ok(())
}

fn drop_it(statement: &str) -> String {
    format!(
        "{statement} removes it, and the next `apify-mirror run` or `sync` makes it as it should be"
    )
}

/// Makes the views and indices of this version that are missing; returns their names.
///
/// # Errors
/// When SQLite fails.
pub(super) fn restore(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let found = read(connection)?;
    let ours = ours(SCHEMA_VERSION)?;
    let mut missing: Vec<(&String, &Object)> = ours
        .iter()
        .filter(|(name, _)| !found.contains_key(*name))
        .collect();
    // A view may be made from others.
    missing.sort_by_key(|(_, object)| object.kind == "view");
    for (_, object) in &missing {
        connection.execute_batch(&object.sql)?;
    }
    Ok(missing.into_iter().map(|(name, _)| name.clone()).collect())
}

/// What is not this program's, e.g. `table notes`.
///
/// # Errors
/// When SQLite fails.
pub(super) fn others(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let ours = ours(SCHEMA_VERSION)?;
    let found = read(connection)?.into_iter();
    Ok(found
        .filter(|(name, _)| !ours.contains_key(name))
        .map(|(name, object)| format!("{} {name}", object.kind))
        .collect())
}

/// The objects that the migrations to `version` make; those of this version are made once in a process.
fn ours(version: i64) -> Result<Cow<'static, Objects>, StoreError> {
    static CURRENT: OnceLock<Objects> = OnceLock::new();
    if let Some(current) = CURRENT.get().filter(|_| version == SCHEMA_VERSION) {
        return Ok(Cow::Borrowed(current));
    }
    let connection = Connection::open_in_memory()?;
    let steps = usize::try_from(version).unwrap_or_default();
    for step in MIGRATIONS.iter().take(steps) {
        connection.execute_batch(step)?;
    }
    let made = read(&connection)?;
    Ok(match version {
        SCHEMA_VERSION => Cow::Borrowed(CURRENT.get_or_init(|| made)),
        _ => Cow::Owned(made),
    })
}

fn read(connection: &Connection) -> Result<Objects, StoreError> {
    let mut statement = connection.prepare(
        "SELECT name, type, tbl_name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND NOT (type = 'table' AND name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4'))
         LIMIT ?1",
    )?;
    let rows = statement.query_map([MAX_OBJECTS as u64 + 1], |row| {
        let object = Object {
            kind: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        };
        Ok((row.get(0)?, object))
    })?;
    let objects = rows.collect::<Result<Objects, _>>()?;
    if objects.len() > MAX_OBJECTS {
        return Err(StoreError::Corrupt {
            what: "the number of tables, views, indices and triggers",
            value: format!("more than {MAX_OBJECTS}"),
        });
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::super::connection::Db;
    use super::*;

    /// A database that was made here and then changed by `sql`; and what is wrong with it.
    fn changed(sql: &str) -> (Db, Option<String>) {
        let db = Db::in_memory().unwrap();
        db.connection.execute_batch(sql).unwrap();
        let problem = check(&db.connection, SCHEMA_VERSION, Path::new("runs.db")).err();
        (db, problem.map(|error| error.to_string()))
    }

    #[test]
    fn foreign_triggers_and_changed_objects_are_named() {
        for (sql, parts) in [
            (
                "CREATE TRIGGER forge AFTER UPDATE ON runs BEGIN DELETE FROM events; END",
                ["trigger is not apify-mirror's", "DROP TRIGGER \"forge\""],
            ),
            (
                "CREATE TRIGGER forge INSTEAD OF DELETE ON open_runs BEGIN SELECT 1; END",
                ["trigger is not apify-mirror's", "DROP TRIGGER \"forge\""],
            ),
            (
                "DROP VIEW open_runs; CREATE VIEW open_runs AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT * FROM n",
                ["view or index was changed", "DROP VIEW \"open_runs\""],
            ),
            (
                "DROP VIEW open_runs; CREATE TABLE open_runs (id)",
                ["view or index was changed", "DROP TABLE \"open_runs\""],
            ),
            (
                "DROP INDEX runs_listed; CREATE INDEX runs_listed ON runs (id)",
                ["view or index was changed", "DROP INDEX \"runs_listed\""],
            ),
            (
                "ALTER TABLE runs ADD COLUMN mine TEXT",
                ["table was changed", "restore a backup"],
            ),
            (
                "DROP TABLE account",
                ["table is missing", "restore a backup"],
            ),
        ] {
            let (_, problem) = changed(sql);
            let problem = problem.unwrap_or_else(|| panic!("{sql} was accepted"));
            for part in parts.iter().chain(&["runs.db"]) {
                assert!(problem.contains(part), "{sql}: {problem}");
            }
        }
    }

    /// SQLite refuses such names, but not where its schema is written by hand.
    #[test]
    fn a_trigger_with_a_name_of_sqlites_own_is_found() {
        let (_, problem) = changed(
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_hidden', 'feeds', 0,
                 'CREATE TRIGGER sqlite_hidden AFTER UPDATE ON feeds BEGIN SELECT 1; END')",
        );
        assert!(problem.is_some_and(|problem| problem.contains("sqlite_hidden")));
    }

    #[test]
    fn what_people_add_is_allowed_and_listed() {
        let (db, problem) = changed(
            "CREATE TABLE notes (run_id TEXT, note TEXT);
             CREATE TRIGGER dated AFTER INSERT ON notes BEGIN SELECT 1; END;
             CREATE INDEX runs_by_user ON runs (user_id);
             CREATE VIEW noted AS SELECT * FROM runs JOIN notes ON run_id = id;
             ANALYZE",
        );
        assert_eq!(problem, None);
        let mut found = others(&db.connection).unwrap();
        found.sort();
        let names = [
            "index runs_by_user",
            "table notes",
            "trigger dated",
            "view noted",
        ];
        assert_eq!(found, names);
    }

    #[test]
    fn missing_views_and_indices_are_made_again() {
        let (db, problem) =
            changed("DROP VIEW open_runs; DROP VIEW daily_runs; DROP INDEX runs_listed");
        assert_eq!(problem, None);
        let mut restored = restore(&db.connection).unwrap();
        restored.sort();
        assert_eq!(restored, ["daily_runs", "open_runs", "runs_listed"]);
        assert!(restore(&db.connection).unwrap().is_empty());
        let all = read(&db.connection).unwrap();
        assert_eq!(&all, ours(SCHEMA_VERSION).unwrap().as_ref());
    }
}
