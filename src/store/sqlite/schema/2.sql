-- Version 2: the outbox remembers attempts, and what sinks there are.

-- One row for each sink that is configured, or was and is still owed something.
CREATE TABLE sinks (
    name              TEXT PRIMARY KEY,
    type              TEXT NOT NULL,
    added_at          TEXT NOT NULL,
    -- Set while the configuration does not name the sink.
    removed_at        TEXT,
    -- 1 when commits add deliveries for the sink; 0 while events from before it was added are still being copied, and
    -- after it was removed.
    live              INTEGER NOT NULL CHECK (live IN (0, 1)),
    -- Where it is not live: events up to this one have been copied, or never will be.
    booked_seq        INTEGER NOT NULL,
    last_delivered_at TEXT,
    -- Since when nothing has been delivered, though it was tried.
    failing_since     TEXT,
    last_error        TEXT
) STRICT;

INSERT INTO sinks (name, type, added_at, live, booked_seq)
SELECT DISTINCT sink, 'stdout', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 1, 0 FROM deliveries;

ALTER TABLE deliveries RENAME TO deliveries_1;

-- One row for each event that a sink is owed, dead letters included.
CREATE TABLE deliveries (
    sink             TEXT NOT NULL REFERENCES sinks (name),
    seq              INTEGER NOT NULL REFERENCES events (seq),
    run_id           TEXT NOT NULL,
    -- When it is to be tried; null while an earlier event of the run is owed to the sink, and when it was set aside.
    due_at           TEXT,
    attempts         INTEGER NOT NULL DEFAULT 0,
    first_attempt_at TEXT,
    last_attempt_at  TEXT,
    last_error       TEXT,
    -- When it was set aside.
    dead_at          TEXT,
    PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (sink, due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_owed ON deliveries (sink, seq) WHERE dead_at IS NULL;
CREATE INDEX deliveries_by_run ON deliveries (sink, run_id, seq) WHERE dead_at IS NULL;

INSERT INTO deliveries (sink, seq, run_id, due_at)
SELECT d.sink, d.seq, e.run_id,
       iif(d.seq = min(d.seq) OVER (PARTITION BY d.sink, e.run_id), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), NULL)
FROM deliveries_1 d
JOIN events e ON e.seq = d.seq;

DROP TABLE deliveries_1;
