-- Version 8: what only single reads show of runs.

-- One row for each run whose details were read.
CREATE TABLE run_details (
    run_id         TEXT PRIMARY KEY REFERENCES runs (id),
    status_message TEXT,
    exit_code      INTEGER,
    memory_mbytes  INTEGER,
    timeout_secs   INTEGER,
    -- JSON objects.
    stats          TEXT,
    options        TEXT,
    read_at        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each run whose details are to be read, from a time on.
CREATE TABLE details_due (
    run_id   TEXT PRIMARY KEY,
    due_at   TEXT NOT NULL,
    -- How many reads have failed.
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX details_due_by_time ON details_due (due_at, run_id);

-- How far older runs were looked through for details to be read under a policy: at most one row.
CREATE TABLE details_scan (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    policy   TEXT NOT NULL,
    -- Runs from this row on were looked at; 0 at the end.
    before   INTEGER NOT NULL
) STRICT;

-- The time between the last two successes, to the minute while nothing changes.
ALTER TABLE feeds ADD COLUMN success_interval_ms INTEGER;

-- Set while the event waits for the details of its run: until then it goes to nobody, and its body may still change.
ALTER TABLE events ADD COLUMN held_until TEXT;
CREATE INDEX events_held ON events (seq) WHERE held_until IS NOT NULL;
