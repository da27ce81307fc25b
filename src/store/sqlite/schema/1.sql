-- Version 1.

CREATE TABLE tasks (
    id            TEXT PRIMARY KEY,
    name          TEXT,
    username      TEXT,
    act_id        TEXT,
    act_name      TEXT,
    user_id       TEXT,
    first_seen_at TEXT NOT NULL,
    updated_at    TEXT NOT NULL
) STRICT;

-- The names under which tasks are configured, and what they were found to mean.
CREATE TABLE task_refs (
    ref         TEXT PRIMARY KEY,
    task_id     TEXT REFERENCES tasks (id),
    resolved_at TEXT NOT NULL,
    error       TEXT
) STRICT;

CREATE TABLE runs (
    id                         TEXT PRIMARY KEY,
    task_id                    TEXT,
    act_id                     TEXT,
    user_id                    TEXT,
    status                     TEXT NOT NULL,
    started_at                 TEXT,
    finished_at                TEXT,
    build_id                   TEXT,
    build_number               TEXT,
    build_number_int           INTEGER,
    origin                     TEXT,
    client_ip                  TEXT,
    user_agent                 TEXT,
    schedule_id                TEXT,
    scheduled_at               TEXT,
    usage_total_usd            REAL,
    default_key_value_store_id TEXT,
    default_dataset_id         TEXT,
    default_request_queue_id   TEXT,
    extra                      TEXT,
    first_seen_at              TEXT NOT NULL,
    updated_at                 TEXT NOT NULL,
    removed_at                 TEXT,
    -- The task whose list showed the run; `task_id` is what the run itself says.
    feed_id                    TEXT NOT NULL REFERENCES tasks (id),
    -- 1 while every poll must re-read the run: it is active, or it ended and its figures may still change.
    is_open                    INTEGER NOT NULL CHECK (is_open IN (0, 1)),
    -- Set while the figures of a finished run may still change.
    settles_at                 TEXT,
    -- How many events the run has raised; numbers them, so that an event's id does not depend on when it was seen.
    event_count                INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_by_start ON runs (feed_id, started_at);
CREATE INDEX runs_open ON runs (feed_id, started_at) WHERE is_open = 1;

CREATE TABLE events (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    run_id          TEXT NOT NULL REFERENCES runs (id),
    task_id         TEXT NOT NULL,
    type            TEXT NOT NULL,
    previous_status TEXT,
    status          TEXT NOT NULL,
    occurred_at     TEXT NOT NULL,
    observed_at     TEXT NOT NULL,
    payload         TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run_id, seq);

-- One row for each event that a sink still owes.
CREATE TABLE deliveries (
    sink TEXT NOT NULL,
    seq  INTEGER NOT NULL REFERENCES events (seq),
    PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    task_id              TEXT PRIMARY KEY REFERENCES tasks (id),
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

-- One row for each audit in progress: how far it has come.
CREATE TABLE audits (
    task_id              TEXT PRIMARY KEY REFERENCES tasks (id),
    began_at             TEXT NOT NULL,
    "offset"             INTEGER NOT NULL,
    watermark_started_at TEXT,
    watermark_id         TEXT,
    -- Runs that started before this have been compared.
    decided_before       TEXT
) STRICT;

CREATE VIEW open_runs AS
SELECT r.id, r.feed_id AS task_id, t.name AS task, r.status, r.started_at,
       round((julianday('now') - julianday(r.started_at)) * 86400.0, 3) AS age_seconds, r.origin
FROM runs r
JOIN tasks t ON t.id = r.feed_id
WHERE r.is_open = 1 AND r.status NOT IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')
ORDER BY r.started_at;

CREATE VIEW run_durations AS
SELECT r.id, r.feed_id AS task_id, t.name AS task, r.status, r.started_at, r.finished_at,
       round((julianday(r.finished_at) - julianday(r.started_at)) * 86400.0, 3) AS duration_seconds, r.usage_total_usd
FROM runs r
JOIN tasks t ON t.id = r.feed_id
WHERE r.finished_at IS NOT NULL;

CREATE VIEW daily_runs AS
SELECT r.feed_id AS task_id, t.name AS task, date(r.started_at) AS day,
       count(*) AS runs,
       sum(r.status = 'SUCCEEDED') AS succeeded,
       sum(r.status IN ('FAILED', 'TIMED-OUT', 'ABORTED')) AS failures,
       round(sum(r.usage_total_usd), 6) AS cost_usd
FROM runs r
JOIN tasks t ON t.id = r.feed_id
GROUP BY r.feed_id, day;

CREATE VIEW task_health AS
SELECT t.id AS task_id, t.name AS task, t.username,
       (SELECT count(*) FROM runs r WHERE r.feed_id = t.id) AS runs,
       (SELECT count(*) FROM open_runs o WHERE o.task_id = t.id) AS open_runs,
       last.id AS last_run_id, last.status AS last_status, last.started_at AS last_started_at,
       c.first_sync_complete, c.condition, c.last_success_at, c.last_audit_at, c.last_error, c.last_error_at
FROM tasks t
JOIN cursors c ON c.task_id = t.id
LEFT JOIN runs last ON last.rowid = (
    SELECT r.rowid FROM runs r WHERE r.feed_id = t.id AND r.started_at IS NOT NULL ORDER BY r.started_at DESC LIMIT 1);
