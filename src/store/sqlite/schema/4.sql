-- Version 4: subscriptions with a position, what the ids of events are made of, time that counts towards giving up, and
-- requests for audits.

-- Subscriptions: a position, the filter, and what was missed.
ALTER TABLE sinks RENAME COLUMN booked_seq TO position;
-- The types of the events that it gets, as a JSON array; null: all.
ALTER TABLE sinks ADD COLUMN events TEXT;
-- 1 for the standard output of commands without a configuration file; null until a command of this version has used it.
ALTER TABLE sinks ADD COLUMN temporary INTEGER CHECK (temporary IN (0, 1));
-- How many events it did not get because they were no longer in the log when it came to them.
ALTER TABLE sinks ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;
UPDATE sinks SET position = (SELECT coalesce(max(seq), 0) FROM events) WHERE live = 1;

-- The highest number that an event ever had, so that none is used twice, whichever rows are deleted.
CREATE TABLE event_numbers (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    last_seq INTEGER NOT NULL
) STRICT;
INSERT INTO event_numbers (only_row, last_seq)
SELECT 1, max((SELECT coalesce(max(seq), 0) FROM events),
              (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'));

-- What the ids of a run's events are made of: its last end that was seen, kept when it is resurrected, and how many
-- events of types that Apify has no name for it has raised since then.
ALTER TABLE runs ADD COLUMN last_end TEXT;
ALTER TABLE runs ADD COLUMN other_events INTEGER NOT NULL DEFAULT 0;

-- Time that counts towards giving up: only scheduled waits do, so that nothing is given up while the mirror is off.
-- How much of it has passed since the first attempt, and the wait that the last attempt was followed by.
ALTER TABLE deliveries ADD COLUMN waited_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN wait_ms INTEGER NOT NULL DEFAULT 0;
-- What `sinks.failed_ms` was when the sink came to owe it.
ALTER TABLE deliveries ADD COLUMN owed_ms INTEGER NOT NULL DEFAULT 0;
-- How much of it has passed while the sink accepted nothing, ever and until it last accepted something; and since when,
-- and for how long, it is not attempted.
ALTER TABLE sinks ADD COLUMN failed_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sinks ADD COLUMN failed_ms_at_delivery INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sinks ADD COLUMN last_failed_at TEXT;
ALTER TABLE sinks ADD COLUMN pause_ms INTEGER NOT NULL DEFAULT 0;

-- One row for each audit that the daemon was asked for. Everybody who asks before it begins waits for the same one.
CREATE TABLE audit_requests (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    feed_id      TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    begun_at     TEXT,
    finished_at  TEXT,
    -- What it found, as JSON.
    result       TEXT
) STRICT;
CREATE UNIQUE INDEX audit_requests_new ON audit_requests (feed_id) WHERE begun_at IS NULL;
