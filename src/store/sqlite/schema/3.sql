-- Version 3: feeds as rows of their own, an index of the listed runs, and retries by hand.

-- One row for each list that is followed. A feed of kind `task` has its task's id.
CREATE TABLE feeds (
    id                   TEXT PRIMARY KEY,
    kind                 TEXT NOT NULL CHECK (kind IN ('task', 'account')),
    task_id              TEXT REFERENCES tasks (id),
    "offset"             INTEGER NOT NULL,
    watermark_started_at TEXT,
    watermark_id         TEXT,
    -- Whether the newest run before the first sync was looked for, and its start; null where the list was empty.
    baseline_known       INTEGER NOT NULL CHECK (baseline_known IN (0, 1)),
    baseline             TEXT,
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
    watermark_started_at TEXT,
    watermark_id         TEXT,
    -- Runs that started before this have been compared.
    decided_before       TEXT
) STRICT;

-- The listed runs of a feed by start, so that removed ones cost a poll nothing.
CREATE INDEX runs_listed ON runs (feed_id, started_at) WHERE removed_at IS NULL;

-- How many deliveries to the sink were ever retried by hand: tells a worker that waits for the sink to try it now.
ALTER TABLE sinks ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
