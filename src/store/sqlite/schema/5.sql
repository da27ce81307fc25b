-- Version 5: cursors that know what ties with the watermark, items that cannot be read, and what is not history.

-- How many entries lie between the offset and the last one before it that started before the watermark.
ALTER TABLE feeds ADD COLUMN tail INTEGER NOT NULL DEFAULT 0;
-- Audits in progress at the migration begin anew.
DELETE FROM audits;
ALTER TABLE audits ADD COLUMN tail INTEGER NOT NULL DEFAULT 0;
-- 1 where everything that the first sync finds is history, because the newest run's start was not to be had.
ALTER TABLE feeds ADD COLUMN all_history INTEGER NOT NULL DEFAULT 0 CHECK (all_history IN (0, 1));

-- As the API says.
ALTER TABLE tasks ADD COLUMN created_at TEXT;
ALTER TABLE tasks ADD COLUMN modified_at TEXT;

-- One row for each item of a list that cannot be stored as a run.
CREATE TABLE unreadable_items (
    feed_id       TEXT NOT NULL REFERENCES feeds (id),
    -- What the item is recognised by: `id:` and its id or, where that cannot be read, `sha256:` and a digest of its text.
    item          TEXT NOT NULL,
    -- Where it was seen last, counted from 0.
    position      INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    -- Its text, or the beginning of it.
    body          TEXT NOT NULL,
    first_seen_at TEXT NOT NULL,
    -- To the hour.
    last_seen_at  TEXT NOT NULL,
    PRIMARY KEY (feed_id, item)
) STRICT;

-- Since when the mirror has looked at the account: runs of a task that was made later are not history.
CREATE TABLE account (
    only_row        INTEGER PRIMARY KEY CHECK (only_row = 1),
    first_looked_at TEXT NOT NULL
) STRICT;
INSERT INTO account (only_row, first_looked_at)
SELECT 1, min(first_seen_at) FROM tasks HAVING count(*) > 0 AND EXISTS (SELECT 1 FROM feeds);
