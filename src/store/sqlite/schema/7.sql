-- Version 7: what pruning leaves behind, so that no event's id is used twice, and indices that find what is old.

-- One row for each run that was pruned: what the ids of its events are made of, in case it is listed again.
CREATE TABLE pruned_runs (
    id           TEXT PRIMARY KEY,
    status       TEXT NOT NULL,
    finished_at  TEXT,
    last_end     TEXT,
    event_count  INTEGER NOT NULL,
    other_events INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each event that was pruned: the first eight bytes of the SHA-256 of its id.
CREATE TABLE pruned_events (
    id_digest INTEGER PRIMARY KEY
) STRICT;

CREATE INDEX runs_removed ON runs (removed_at, id) WHERE removed_at IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (dead_at) WHERE dead_at IS NOT NULL;
