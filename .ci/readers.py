"""Compares what DuckDB, Datasette and sqlite-utils read from a mirror with what SQLite says: readers.py DATABASE METADATA running|stopped."""

import json
import math
import pathlib
import re
import sqlite3
import subprocess
import sys

import duckdb
import duckdb_extension_sqlite_scanner

DATABASE, METADATA, DAEMON = sys.argv[1:]
PROGRAMS = pathlib.Path(sys.executable).parent
# DuckDB has SQLite run these, and gives their numbers as text: see docs/sql.md.
AS_TEXT = {"open_runs", "task_health", "schedule_gaps", "overlapping_runs"}
# Every run may change what is usual, and with it all their rows.
BY_MEDIAN = {"schedule_gaps", "slow_runs"}
# These say how long something has lasted until now.
UNTIL_NOW = {"age_seconds", "overlap_seconds", "gap_minutes", "forecast_usd"}


def main():
    names, rows = read_with_sqlite()
    for what, check in [
        ("DuckDB", duckdb_agrees),
        ("sqlite-utils", sqlite_utils_agrees),
        ("Datasette", datasette_answers),
    ]:
        print(f"  {what} reads {check(names, rows)}")


def read_with_sqlite():
    """The names of all tables, and the rows of each view by its name."""
    connection = sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)
    # One state of the mirror for everything that is compared, though the daemon goes on.
    connection.execute("BEGIN")
    objects = connection.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
    names = [name for name, kind in objects if kind == "table" and not name.startswith("sqlite_")]
    views = [name for name, kind in objects if kind == "view"]
    rows = {}
    for view in views:
        cursor = connection.execute(f"SELECT * FROM {view}")
        rows[view] = ([column[0] for column in cursor.description], cursor.fetchall())
    assert len(views) > 10 and len(rows["run_durations"][1]) > 1_000, "the demo made too little to compare"
    return names, rows


def duckdb_agrees(names, rows):
    extension = next(pathlib.Path(duckdb_extension_sqlite_scanner.__file__).parent.rglob("*.duckdb_extension"))
    connection = duckdb.connect(config={"allow_unsigned_extensions": False})
    connection.execute(f"LOAD '{extension}'")
    connection.execute(f"ATTACH '{DATABASE}' AS mirror (TYPE sqlite, READ_ONLY)")
    # It lists no views, and failed where it could not read one.
    shown = {row[2] for row in connection.execute("SHOW ALL TABLES").fetchall()}
    assert set(names) <= shown, f"SHOW ALL TABLES lacks {set(names) - shown}"
    for view, (columns, expected) in rows.items():
        result = connection.execute(f"SELECT * FROM mirror.{view}")
        types = {column[0]: str(column[1]) for column in result.description}
        assert list(types) == columns, f"{view}: {list(types)}"
        found = result.fetchall()
        compare(view, columns, expected, found)
        if view not in AS_TEXT:
            for at, column in enumerate(columns):
                is_number = any(isinstance(row[at], (int, float)) for row in expected)
                assert not is_number or types[column] != "VARCHAR", f"{view}.{column} is text"
    return f"{len(rows)} views as SQLite does, and numbers as numbers in {len(rows) - len(AS_TEXT & set(rows))}"


def compare(view, columns, expected, found):
    """The daemon may have added rows since SQLite read them: what SQLite read of the past must be there."""
    if DAEMON == "running" and view in BY_MEDIAN:
        return
    stable = [at for at, column in enumerate(columns) if column not in UNTIL_NOW]
    key = lambda row: tuple(canonical(row[at]) for at in stable)
    missing = {key(row) for row in expected} - {key(row) for row in found}
    # Rows of what is going on have changed meanwhile.
    assert len(missing) <= 8, f"{view} lacks {len(missing)} rows, such as {next(iter(missing))}"


def canonical(value):
    if value is None:
        return None
    # Versions of SQLite round computed times differently, by a millisecond.
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", str(value)):
        return str(value)[:19]
    try:
        return f"{float(value):.3f}" if math.isfinite(float(value)) else str(value)
    except (TypeError, ValueError):
        return str(value)


def sqlite_utils_agrees(names, rows):
    for view, (_, expected) in rows.items():
        count = json.loads(run("sqlite-utils", "query", DATABASE, f"SELECT count(*) AS n FROM {view}"))[0]["n"]
        assert abs(count - len(expected)) <= 50, f"{view}: {count} rows instead of {len(expected)}"
    tables = {table["table"] for table in json.loads(run("sqlite-utils", "tables", DATABASE))}
    assert "runs" in tables and set(names) <= tables, tables
    return f"{len(rows)} views"


def datasette_answers(names, rows):
    name = pathlib.Path(DATABASE).stem
    get = lambda path: json.loads(run("datasette", "get", path))
    for view in rows:
        answer = get(f"/{name}/{view}.json?_shape=array&_size=3")
        assert isinstance(answer, list), f"{view}: {answer}"
    queries = json.loads(pathlib.Path(METADATA).read_text())["databases"][name]["queries"]
    for query in queries:
        answer = get(f"/{name}/{query}.json?_shape=array")
        assert isinstance(answer, list), f"{query}: {answer}"
    page = run("datasette", "get", f"/{name}")
    assert all(query["title"] in page for query in queries.values())
    return f"{len(rows)} views and {len(queries)} canned queries"


def run(program, *arguments):
    if program == "datasette":
        arguments = ["serve", DATABASE, "--metadata", METADATA, "--setting", "sql_time_limit_ms", "20000", "--get", arguments[1]]
    done = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"
    return done.stdout


main()
