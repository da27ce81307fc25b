//! The objects of the schema (tables, views, indices, triggers), compared with what this program made.
//!
//! Whoever can write the file could plant a trigger that makes this program write, and then deliver, what never happened,
//! or replace a view by one without end. People's own tables, views and plain indices are welcome; their triggers are not,
//! as our writes can reach those through foreign keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::schema::{MIGRATIONS, SCHEMA_VERSION};
use crate::store::error::StoreError;

/// What to do about a table that is not as it was made.
pub(super) const RESTORE: &str =
    "restore a backup, or move the file out of the way and mirror again";

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

/// Objects by name in small letters, as SQLite compares names; those that SQLite makes itself are left out.
type Objects = BTreeMap<String, Object>;

/// The objects of a database.
struct Found {
    objects: Objects,
    /// The names of its triggers, which may be those of other objects too.
    triggers: Vec<String>,
}

/// The kinds of objects, as SQLite writes them.
const KINDS: [&str; 4] = ["table", "view", "index", "trigger"];

/// The tables that SQLite makes itself, as it makes them. It reads their rows on its own.
const SQLITES: [(&str, &str); 3] = [
    ("sqlite_sequence", "CREATE TABLE sqlite_sequence(name,seq)"),
    ("sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
    (
        "sqlite_stat4",
        "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
    ),
];

/// Checks that the objects of schema `version` are as this program made them, that there is no trigger, and that no other
/// index of its tables computes anything. Missing views and indices are no danger; [`restore`] makes them again.
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
    if let Some(name) = found.triggers.first() {
        let remedy = format!("`DROP TRIGGER {}` removes it", quoted(name));
        return changed(name, "trigger is not apify-mirror's", remedy);
    }
    let found = found.objects;
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
                let remedy = format!("`DROP {} {}`", other.kind.to_uppercase(), quoted(name));
                return changed(name, "view or index was changed", drop_it(&remedy));
            }
        }
    }
    for (name, object) in &found {
        if name.starts_with("sqlite_") {
            let what =
                "table, view or index has a name of SQLite's own, and is not as SQLite makes it";
            return changed(name, what, RESTORE.to_owned());
        }
        let is_foreign = !ours.contains_key(name);
        if is_foreign && object.kind == "table" && is_in_the_way(connection, name, &ours)? {
            let what = "table has a foreign key that is in the way of apify-mirror's writes";
            let remedy = "make it anew with `REFERENCES` to runs (id), tasks (id) or events (seq) only, without `ON DELETE`, \
                          `ON UPDATE` and generated columns";
            return changed(name, what, remedy.to_owned());
        }
        if is_foreign
            && object.kind == "index"
            && ours.contains_key(&object.table)
            && is_no_plain_index(connection, name)?
        {
            let remedy = format!("`DROP INDEX {}` removes it", quoted(name));
            let what = "index is unique, or has an expression or a condition";
            return changed(name, what, remedy);
        }
    }
    Ok(())
}

/// Whether an index has an expression or a condition, which each write of its table then computes, however long that takes; or
/// is unique, and so refuses rows.
fn is_no_plain_index(connection: &Connection, index: &str) -> Result<bool, StoreError> {
    let mut statement = connection.prepare(
        "SELECT EXISTS (SELECT 1 FROM pragma_index_xinfo(?1) WHERE cid = -2)
             OR EXISTS (SELECT 1 FROM sqlite_schema s, pragma_index_list(s.tbl_name) i
                        WHERE s.type = 'index' AND lower(s.name) = ?1 AND lower(i.name) = ?1
                          AND (i.partial OR i.\"unique\"))",
    )?;
    Ok(statement.query_row([index], |row| row.get(0))?)
}

/// The keys of tables of which this program deletes no row that is referred to, so that people's own may refer to them.
const LASTING: [(&str, &str); 3] = [("runs", "id"), ("tasks", "id"), ("events", "seq")];

/// Whether our writes run into a foreign key of a table: it acts on them, forbids them, fits no key, or computes its columns for
/// them.
fn is_in_the_way(connection: &Connection, table: &str, ours: &Objects) -> Result<bool, StoreError> {
    let mut statement = connection.prepare(
        "SELECT lower(\"table\"), lower(\"to\"),
             max(seq) OVER (PARTITION BY id) = 0
                 AND on_delete IN ('NO ACTION', 'RESTRICT') AND on_update IN ('NO ACTION', 'RESTRICT')
                 AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE hidden IN (2, 3))
         FROM pragma_foreign_key_list(?1)",
    )?;
    let mut keys = statement.query([table])?;
    while let Some(key) = keys.next()? {
        let (to, column): (String, Option<String>) = (key.get(0)?, key.get(1)?);
        let fits = LASTING.iter().any(|(lasting, id)| {
            to == *lasting && column.as_deref().is_none_or(|name| name == *id)
        });
        if ours.contains_key(&to) && !(fits && key.get(2)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this program makes an object of this name.
///
/// # Errors
/// When SQLite fails.
pub(super) fn is_ours(name: &str) -> Result<bool, StoreError> {
    Ok(ours(SCHEMA_VERSION)?.contains_key(&name.to_ascii_lowercase()))
}

/// The tables that this program makes.
///
/// # Errors
/// When SQLite fails.
pub(super) fn tables() -> Result<Vec<String>, StoreError> {
    let ours = ours(SCHEMA_VERSION)?;
    let tables = ours.iter().filter(|(_, object)| object.kind == "table");
    Ok(tables.map(|(name, _)| name.clone()).collect())
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn drop_it(statement: &str) -> String {
    format!(
        "{statement} removes it, and the next `apify-mirror run` or `sync` makes it as it should be"
    )
}

/// Checks that nothing of people's has the name of an object that the migration from schema `version` makes.
///
/// # Errors
/// [`StoreError::Changed`] for the first that has, and when SQLite fails.
pub(super) fn check_names(
    connection: &Connection,
    version: i64,
    path: &Path,
) -> Result<(), StoreError> {
    let (before, after) = (ours(version)?, ours(SCHEMA_VERSION)?);
    let found = read(connection)?.objects;
    let is_taken = |name: &&String| !before.contains_key(*name) && after.contains_key(*name);
    let Some((name, object)) = found.iter().find(|(name, _)| is_taken(name)) else {
        return Ok(());
    };
    let drop_it = format!("`DROP {} {}`", object.kind.to_uppercase(), quoted(name));
    Err(StoreError::Changed {
        path: path.to_owned(),
        name: name.clone(),
        what: "table, view or index of yours has the name of one that this version makes",
        remedy: format!("make it anew under another name; {drop_it} removes it"),
    })
}

/// Makes the views and indices of this version that are missing; returns their names.
///
/// # Errors
/// When SQLite fails.
pub(super) fn restore(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let found = read(connection)?.objects;
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
    let found = read(connection)?.objects.into_iter();
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
    let made = read(&connection)?.objects;
    Ok(match version {
        SCHEMA_VERSION => Cow::Borrowed(CURRENT.get_or_init(|| made)),
        _ => Cow::Owned(made),
    })
}

fn read(connection: &Connection) -> Result<Found, StoreError> {
    let mut statement = connection.prepare(
        "SELECT name, type, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL LIMIT ?1",
    )?;
    let rows = statement.query_map([MAX_OBJECTS as u64 + 1], |row| {
        let object = Object {
            kind: row.get(1)?,
            table: row.get::<_, String>(2)?.to_ascii_lowercase(),
            sql: row.get(3)?,
        };
        Ok((row.get::<_, String>(0)?, object))
    })?;
    let (mut objects, mut triggers) = (Objects::new(), Vec::new());
    for (n, row) in rows.enumerate() {
        let (name, object) = row?;
        if n == MAX_OBJECTS {
            return Err(StoreError::Corrupt {
                what: "the number of tables, views, indices and triggers",
                value: format!("more than {MAX_OBJECTS}"),
            });
        }
        let by_hand = || StoreError::Corrupt {
            what: "an object in sqlite_schema",
            value: format!("{} {name} on {}", object.kind, object.table),
        };
        // SQLite compares kinds without case, and all of these up to a NUL.
        let has_nul = |text: &String| text.contains('\0');
        if !KINDS.contains(&object.kind.as_str()) || has_nul(&name) || has_nul(&object.table) {
            return Err(by_hand());
        }
        let is_sqlites = |(table, sql): &(&str, &str)| name == *table && object.sql == *sql;
        if object.kind == "trigger" {
            triggers.push(name);
        } else if !SQLITES.iter().any(is_sqlites) {
            // One would hide another, which SQLite uses nevertheless.
            match objects.entry(name.to_ascii_lowercase()) {
                Entry::Vacant(vacant) => drop(vacant.insert(object)),
                Entry::Occupied(_) => return Err(by_hand()),
            }
        }
    }
    Ok(Found { objects, triggers })
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
                "CREATE TABLE notes (sink, seq, FOREIGN KEY (sink, seq) REFERENCES deliveries ON DELETE CASCADE);
                 CREATE TRIGGER forge AFTER DELETE ON notes BEGIN SELECT 1; END",
                ["trigger is not apify-mirror's", "DROP TRIGGER \"forge\""],
            ),
            (
                "CREATE TABLE notes (seq REFERENCES events ON DELETE SET NULL, note CHECK (instr(note, 'x')))",
                ["a foreign key that is in the way", "without `ON DELETE`"],
            ),
            (
                "CREATE TABLE notes (sink, seq, FOREIGN KEY (sink, seq) REFERENCES Deliveries (sink, seq))",
                ["a foreign key that is in the way", "tasks (id) or events (seq) only"],
            ),
            (
                "CREATE TABLE notes (status REFERENCES runs (status))",
                ["a foreign key that is in the way", "runs (id)"],
            ),
            (
                "CREATE TABLE notes (a, b, FOREIGN KEY (a, b) REFERENCES runs)",
                ["a foreign key that is in the way", "runs (id)"],
            ),
            (
                "CREATE UNIQUE INDEX one ON deliveries (sink)",
                ["index is unique", "DROP INDEX \"one\""],
            ),
            (
                "CREATE TABLE other (a); CREATE INDEX other_a ON other (a); CREATE TABLE notes (sink, seq, FOREIGN KEY (sink, seq) \
                 REFERENCES deliveries (sink, seq)); PRAGMA writable_schema = ON; \
                 UPDATE sqlite_schema SET name = 'notes', sql = 'CREATE INDEX notes ON other (a)' WHERE name = 'other_a'",
                ["an object in sqlite_schema", "notes on"],
            ),
            (
                "CREATE TABLE notes (x, run_id AS (hex(x)) REFERENCES runs (id))",
                ["a foreign key that is in the way", "generated columns"],
            ),
            (
                "CREATE TRIGGER forge AFTER UPDATE ON feeds BEGIN SELECT 1; END; PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET type = 'trigger' || char(0) WHERE name = 'forge'",
                ["an object in sqlite_schema", "changed by another program"],
            ),
            (
                "CREATE INDEX slow ON feeds (hex(id)); PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET tbl_name = 'feeds' || char(0) || 'x' WHERE name = 'slow'",
                ["an object in sqlite_schema", "changed by another program"],
            ),
            (
                "CREATE TRIGGER forge AFTER UPDATE ON feeds BEGIN SELECT 1; END; PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET type = 'TRIGGER' WHERE name = 'forge'",
                ["an object in sqlite_schema", "changed by another program"],
            ),
            (
                "CREATE INDEX slow ON feeds (hex(id)); PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET type = 'INDEX' WHERE name = 'slow'",
                ["an object in sqlite_schema", "changed by another program"],
            ),
            (
                "CREATE INDEX \"q\"\"x\" ON feeds (hex(id))",
                ["index is unique, or has an expression or a condition", "DROP INDEX \"q\"\"x\"`"],
            ),
            (
                "CREATE INDEX slow ON feeds (instr(hex(id), 'x'))",
                ["index is unique, or has an expression or a condition", "DROP INDEX \"slow\""],
            ),
            (
                "CREATE INDEX SLOW ON FEEDS (id) WHERE instr(hex(id), 'x')",
                ["index is unique, or has an expression or a condition", "DROP INDEX \"slow\""],
            ),
            (
                "DROP VIEW open_runs; CREATE VIEW OPEN_RUNS AS SELECT 1 AS id",
                ["view or index was changed", "DROP VIEW \"open_runs\""],
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
                "ANALYZE; PRAGMA writable_schema = ON; UPDATE sqlite_schema
                 SET sql = 'CREATE TABLE sqlite_stat1(tbl,idx,stat AS (hex(idx)))' WHERE name = 'sqlite_stat1'",
                ["has a name of SQLite's own", "restore a backup"],
            ),
            (
                "DROP TABLE account",
                ["table is missing", "restore a backup"],
            ),
        ] {
            let (_, problem) = changed(sql);
            let problem = problem.unwrap_or_else(|| panic!("{sql} was accepted"));
            let is_named = problem.contains("runs.db") || problem.contains("sqlite_schema");
            assert!(is_named, "{problem}");
            for part in parts {
                assert!(problem.contains(part), "{sql}: {problem}");
            }
        }
    }

    #[test]
    fn a_trigger_with_the_name_of_a_view_is_found() {
        let made = ours(SCHEMA_VERSION).unwrap();
        let view = &made["task_health"].sql;
        let trigger = "CREATE TRIGGER task_health AFTER DELETE ON deliveries BEGIN SELECT 1; END";
        let (_, problem) = changed(&format!("DROP VIEW task_health; {trigger}; {view}"));
        assert!(problem.is_some_and(|problem| problem.contains("trigger is not")));
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
            "CREATE TABLE notes (run_id TEXT REFERENCES runs (id), note TEXT, above REFERENCES notes ON DELETE CASCADE);
             CREATE INDEX runs_by_user ON runs (user_id);
             CREATE VIEW noted AS SELECT * FROM runs JOIN notes ON run_id = id;
             ANALYZE",
        );
        assert_eq!(problem, None);
        let mut found = others(&db.connection).unwrap();
        found.sort();
        assert_eq!(found, ["index runs_by_user", "table notes", "view noted"]);
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
        let all = read(&db.connection).unwrap().objects;
        assert_eq!(&all, ours(SCHEMA_VERSION).unwrap().as_ref());
    }
}
