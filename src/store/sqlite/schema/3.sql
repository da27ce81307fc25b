-- Version 3: feeds, what could not be read, and subscriptions with a position.

-- One row for each list that is followed. A feed of kind `task` has its task's id.
CREATE TABLE feeds (
    id                   TEXT PRIMARY KEY,
    kind                 TEXT NOT NULL CHECK (kind IN ('task', 'account')),
    task_id              TEXT REFERENCES tasks (id),
    "offset"             INTEGER NOT NULL,
    -- How many of the last entries before `offset` began with the last one, or have no readable start.
    tail                 INTEGER NOT NULL DEFAULT 1,
    watermark_started_at TEXT,
    watermark_id         TEXT,
    -- Whether the newest run before the first sync was looked for, and its start; null where the list was empty.
    baseline_known       INTEGER NOT NULL CHECK (baseline_known IN (0, 1)),
    baseline             TEXT,
    -- 1 while every run found is history, because the newest one could not be determined.
    all_history          INTEGER NOT NULL DEFAULT 0 CHECK (all_history IN (0, 1)),
    first_sync_complete  INTEGER NOT NULL CHECK (first_sync_complete IN (0, 1)),
    server_total         INTEGER,
    last_success_at      TEXT,
    last_watch_at        TEXT,
    last_audit_at        TEXT,
    next_audit_at        TEXT,
    -- 'ok', 'failing', 'not found' (deleted, or not the token's to know of) or 'forbidden'.
    condition            TEXT NOT NULL DEFAULT 'ok',
    last_error           TEXT,
    last_error_at        TEXT
) STRICT;

INSERT INTO feeds (id, kind, task_id, "offset", watermark_started_at, watermark_id, baseline_known, baseline,
    first_sync_complete, server_total, last_success_at, last_watch_at, last_audit_at, next_audit_at, condition, last_error,
    last_error_at)
SELECT task_id, 'task', task_id, "offset", watermark_started_at, watermark_id, baseline_known, baseline,
    first_sync_complete, server_total, last_success_at, last_watch_at, last_audit_at, next_audit_at, condition, last_error,
    last_error_at
FROM cursors;

DROP TABLE cursors;
CREATE VIEW cursors AS
SELECT task_id, "offset", watermark_started_at, watermark_id, baseline_known, baseline, first_sync_complete,
       server_total, last_success_at, last_watch_at, last_audit_at, next_audit_at, condition, last_error, last_error_at
FROM feeds
WHERE kind = 'task';

-- One row for each audit in progress: how far it has come. Those in progress at the migration begin anew.
DROP TABLE audits;
CREATE TABLE audits (
    feed_id              TEXT PRIMARY KEY REFERENCES feeds (id),
    began_at             TEXT NOT NULL,
    "offset"             INTEGER NOT NULL,
    tail                 INTEGER NOT NULL,
    watermark_started_at TEXT,
    watermark_id         TEXT,
    -- Runs that started before this have been compared.
    decided_before       TEXT
) STRICT;

-- What a list, or a single read, held and could not be stored as a run.
CREATE TABLE unreadable_items (
    feed_id       TEXT NOT NULL REFERENCES feeds (id),
    -- Identifies the item: 'run:' and its id for a single read, otherwise a digest of the whole item.
    item          TEXT NOT NULL,
    -- Where in the list it was last seen; null for a single read.
    position      INTEGER,
    reason        TEXT NOT NULL,
    -- The item as it came, cut after 4 KiB.
    body          TEXT NOT NULL,
    first_seen_at TEXT NOT NULL,
    last_seen_at  TEXT NOT NULL,
    PRIMARY KEY (feed_id, item)
) STRICT, WITHOUT ROWID;

-- The listed runs of a feed by start, so that removed ones cost a poll nothing.
CREATE INDEX runs_listed ON runs (feed_id, started_at) WHERE removed_at IS NULL;

-- When the mirror first looked at the account, by the server's clock: a task that was created later has no history.
CREATE TABLE account (
    only_row        INTEGER PRIMARY KEY CHECK (only_row = 1),
    first_looked_at TEXT NOT NULL
) STRICT;
INSERT INTO account (only_row, first_looked_at)
SELECT 1, min(first_seen_at) FROM tasks HAVING min(first_seen_at) IS NOT NULL;

ALTER TABLE tasks ADD COLUMN created_at TEXT;
ALTER TABLE tasks ADD COLUMN modified_at TEXT;

-- How many deliveries to the sink were ever retried by hand: tells a worker that waits for the sink to try it now.
ALTER TABLE sinks ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
