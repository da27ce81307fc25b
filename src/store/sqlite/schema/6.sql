-- Version 6: views that answer everyday questions.
--
-- DuckDB reads these views through its SQLite extension: it translates their text, and runs them itself where it knows
-- every function in them. So they have no `count(*)` and no `date()`, which the translation breaks; and only those that
-- must know the time of day use functions that are SQLite's alone, whose numbers DuckDB gives as text.

-- From start to end, in seconds.
ALTER TABLE runs ADD COLUMN duration_seconds REAL;
-- The run's own task or, where it says none, the one whose list showed it.
UPDATE runs
SET task_id = coalesce(task_id, feed_id),
    duration_seconds = round((julianday(finished_at) - julianday(started_at)) * 86400.0, 3)
WHERE task_id IS NULL OR finished_at IS NOT NULL;
UPDATE runs SET duration_seconds = NULL WHERE duration_seconds < 0;

DROP INDEX IF EXISTS runs_by_start;
CREATE INDEX runs_by_task ON runs (task_id, started_at);
CREATE INDEX events_by_time ON events (observed_at);

DROP VIEW IF EXISTS open_runs;
CREATE VIEW open_runs AS
SELECT r.id, r.task_id, coalesce(t.name, r.task_id) AS task, r.status, r.started_at,
       round((julianday('now') - julianday(r.started_at)) * 86400.0, 3) AS age_seconds, r.origin
FROM runs r
LEFT JOIN tasks t ON t.id = r.task_id
WHERE r.is_open = 1 AND r.status NOT IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')
ORDER BY r.started_at;

DROP VIEW IF EXISTS run_durations;
CREATE VIEW run_durations AS
SELECT r.id, r.task_id, coalesce(t.name, r.task_id) AS task, r.status, r.started_at, r.finished_at,
       r.duration_seconds, r.usage_total_usd
FROM runs r
LEFT JOIN tasks t ON t.id = r.task_id
WHERE r.finished_at IS NOT NULL;

DROP VIEW IF EXISTS daily_runs;
CREATE VIEW daily_runs AS
SELECT d.task_id, coalesce(t.name, d.task_id) AS task, d.day, d.runs, d.open, d.succeeded, d.failed, d.timed_out,
       d.aborted, d.failed + d.timed_out AS failures, d.cost_usd
FROM (
    SELECT r.task_id, substr(r.started_at, 1, 10) AS day,
           count(r.id) AS runs,
           count(CASE WHEN r.removed_at IS NULL
                       AND r.status NOT IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED') THEN 1 END) AS open,
           count(CASE WHEN r.status = 'SUCCEEDED' THEN 1 END) AS succeeded,
           count(CASE WHEN r.status = 'FAILED' THEN 1 END) AS failed,
           count(CASE WHEN r.status = 'TIMED-OUT' THEN 1 END) AS timed_out,
           count(CASE WHEN r.status = 'ABORTED' THEN 1 END) AS aborted,
           round(sum(r.usage_total_usd), 6) AS cost_usd
    FROM runs r
    GROUP BY r.task_id, substr(r.started_at, 1, 10)
) d
LEFT JOIN tasks t ON t.id = d.task_id;

-- A share of failures is that of the runs that ended.
DROP VIEW IF EXISTS task_health;
CREATE VIEW task_health AS
SELECT t.id AS task_id, t.name AS task, t.username,
       (SELECT count(r.id) FROM runs r WHERE r.task_id = t.id) AS runs,
       (SELECT count(r.id) FROM runs r
        WHERE r.task_id = t.id AND r.is_open = 1
          AND r.status NOT IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')) AS open_runs,
       last.id AS last_run_id, last.status AS last_status, last.started_at AS last_started_at,
       succeeded.finished_at AS last_succeeded_at,
       (SELECT count(r.id) FROM runs r
        WHERE r.task_id = t.id AND r.status IN ('FAILED', 'TIMED-OUT')
          AND r.started_at > coalesce(succeeded.started_at, '')) AS failures_in_a_row,
       coalesce(week.runs, 0) AS runs_7d,
       round(100.0 * week.failures / nullif(week.ended, 0), 1) AS failure_percent_7d,
       round(coalesce(week.cost_usd, 0.0), 6) AS cost_usd_7d,
       c.first_sync_complete, c.condition, c.last_success_at, c.last_audit_at, c.last_error, c.last_error_at
FROM tasks t
LEFT JOIN cursors c ON c.task_id = t.id
LEFT JOIN runs last ON last.rowid = (
    SELECT r.rowid FROM runs r WHERE r.task_id = t.id AND r.started_at IS NOT NULL ORDER BY r.started_at DESC LIMIT 1)
LEFT JOIN runs succeeded ON succeeded.rowid = (
    SELECT r.rowid FROM runs r
    WHERE r.task_id = t.id AND r.started_at IS NOT NULL AND r.status = 'SUCCEEDED' ORDER BY r.started_at DESC LIMIT 1)
LEFT JOIN (
    SELECT r.task_id, count(r.id) AS runs,
           count(CASE WHEN r.status IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED') THEN 1 END) AS ended,
           count(CASE WHEN r.status IN ('FAILED', 'TIMED-OUT') THEN 1 END) AS failures,
           sum(r.usage_total_usd) AS cost_usd
    FROM tasks x
    JOIN runs r ON r.task_id = x.id
     AND r.started_at >= strftime('%Y-%m-%dT%H:%M:%fZ', julianday('now') - 7)
    GROUP BY r.task_id
) week ON week.task_id = t.id;

-- Runs that took at least twice as long as usual: as the median of the task's runs that succeeded, of which there must be
-- five. The two places in the middle of n sorted values are those p with n <= 2p <= n + 2, which for odd n are the same.
CREATE VIEW slow_runs AS
SELECT r.id AS run_id, r.task_id, coalesce(t.name, r.task_id) AS task, r.status, r.started_at, r.duration_seconds,
       u.usual_seconds, round(r.duration_seconds / u.usual_seconds, 1) AS times_usual
FROM (
    SELECT s.task_id, round(avg(s.duration_seconds), 3) AS usual_seconds
    FROM (
        SELECT d.task_id, d.duration_seconds,
               row_number() OVER (PARTITION BY d.task_id ORDER BY d.duration_seconds) AS place,
               count(d.id) OVER (PARTITION BY d.task_id) AS n
        FROM runs d
        WHERE d.status = 'SUCCEEDED' AND d.duration_seconds IS NOT NULL
    ) s
    WHERE s.n >= 5 AND 2 * s.place >= s.n AND 2 * s.place <= s.n + 2
    GROUP BY s.task_id
) u
JOIN runs r ON r.task_id = u.task_id AND r.duration_seconds >= 2 * u.usual_seconds AND u.usual_seconds > 0
LEFT JOIN tasks t ON t.id = r.task_id;

-- Where a schedule started no run for more than one and a half of its usual intervals: of the median of its last hundred,
-- of which there must be three. The last run counts up to now, unless the schedule has been still for thirty intervals.
CREATE VIEW schedule_gaps AS
SELECT g.schedule_id, g.task_id, coalesce(t.name, g.task_id) AS task,
       strftime('%Y-%m-%dT%H:%M:%fZ', g.at + g.usual) AS expected_at,
       round((g.next_at - g.at) * 1440.0, 1) AS gap_minutes,
       round(g.usual * 1440.0, 1) AS usual_minutes
FROM (
    SELECT i.schedule_id, i.task_id, i.at,
           coalesce(i.next_at, iif(julianday('now') - i.at < 30 * u.usual, julianday('now'), NULL)) AS next_at, u.usual
    FROM (
        SELECT r.schedule_id, r.task_id, julianday(r.scheduled_at) AS at,
               lead(julianday(r.scheduled_at)) OVER (PARTITION BY r.schedule_id, r.task_id ORDER BY r.scheduled_at) AS next_at
        FROM runs r
        WHERE r.schedule_id IS NOT NULL AND r.scheduled_at IS NOT NULL
    ) i
    JOIN (
        SELECT m.schedule_id, m.task_id, avg(m.step) AS usual
        FROM (
            SELECT l.schedule_id, l.task_id, l.step,
                   row_number() OVER (PARTITION BY l.schedule_id, l.task_id ORDER BY l.step) AS place,
                   count(l.step) OVER (PARTITION BY l.schedule_id, l.task_id) AS n
            FROM (
                SELECT r.schedule_id, r.task_id,
                       julianday(r.scheduled_at)
                           - lag(julianday(r.scheduled_at)) OVER (PARTITION BY r.schedule_id, r.task_id ORDER BY r.scheduled_at)
                           AS step,
                       row_number() OVER (PARTITION BY r.schedule_id, r.task_id ORDER BY r.scheduled_at DESC) AS back
                FROM runs r
                WHERE r.schedule_id IS NOT NULL AND r.scheduled_at IS NOT NULL
            ) l
            WHERE l.back <= 100 AND l.step > 0
        ) m
        WHERE m.n >= 3 AND 2 * m.place >= m.n AND 2 * m.place <= m.n + 2
        GROUP BY m.schedule_id, m.task_id
    ) u ON u.schedule_id = i.schedule_id AND u.task_id = i.task_id
) g
LEFT JOIN tasks t ON t.id = g.task_id
WHERE g.next_at - g.at > 1.5 * g.usual;

-- A share of failures is that of the runs that ended.
CREATE VIEW build_health AS
SELECT b.task_id, coalesce(t.name, b.task_id) AS task, b.build_number, b.first_run_at, b.runs, b.failures,
       round(100.0 * b.failures / nullif(b.ended, 0), 1) AS failure_percent
FROM (
    SELECT r.task_id, r.build_number, min(r.started_at) AS first_run_at, count(r.id) AS runs,
           count(CASE WHEN r.status IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED') THEN 1 END) AS ended,
           count(CASE WHEN r.status IN ('FAILED', 'TIMED-OUT') THEN 1 END) AS failures
    FROM runs r
    WHERE r.build_number IS NOT NULL
    GROUP BY r.task_id, r.build_number
) b
LEFT JOIN tasks t ON t.id = b.task_id;

-- The forecast of the current month is the cost of a day, times the days of the month: of the average day before today, or
-- of today on the first. That of any other month is what it cost.
CREATE VIEW monthly_cost AS
SELECT m.month, m.task_id, coalesce(t.name, m.task_id) AS task, round(m.cost_usd, 6) AS cost_usd,
       round(CASE
           WHEN m.month <> substr(CAST(CURRENT_DATE AS TEXT), 1, 7) THEN m.cost_usd
           WHEN substr(CAST(CURRENT_DATE AS TEXT), 9, 2) = '01' THEN m.cost_usd * m.days
           WHEN m.cost_before_today * m.days / (CAST(substr(CAST(CURRENT_DATE AS TEXT), 9, 2) AS INTEGER) - 1) < m.cost_usd
               THEN m.cost_usd
           ELSE m.cost_before_today * m.days / (CAST(substr(CAST(CURRENT_DATE AS TEXT), 9, 2) AS INTEGER) - 1)
       END, 6) AS forecast_usd
FROM (
    SELECT substr(r.started_at, 1, 7) AS month, r.task_id, sum(r.usage_total_usd) AS cost_usd,
           sum(CASE WHEN substr(r.started_at, 1, 10) < CAST(CURRENT_DATE AS TEXT) THEN r.usage_total_usd ELSE 0.0 END)
               AS cost_before_today,
           CASE
               WHEN substr(min(r.started_at), 6, 2) IN ('04', '06', '09', '11') THEN 30
               WHEN substr(min(r.started_at), 6, 2) <> '02' THEN 31
               WHEN CAST(substr(min(r.started_at), 1, 4) AS INTEGER) % 4 = 0 THEN 29
               ELSE 28
           END AS days
    FROM runs r
    WHERE r.started_at IS NOT NULL AND r.usage_total_usd IS NOT NULL
    GROUP BY substr(r.started_at, 1, 7), r.task_id
) m
LEFT JOIN tasks t ON t.id = m.task_id;

-- Pairs of runs of one task that ran at the same time; `run_id` is the one that started first.
CREATE VIEW overlapping_runs AS
SELECT a.task_id, coalesce(t.name, a.task_id) AS task, a.id AS run_id, b.id AS other_id,
       round((min(julianday(coalesce(a.finished_at, 'now')), julianday(coalesce(b.finished_at, 'now')))
           - julianday(b.started_at)) * 86400.0, 3) AS overlap_seconds
FROM runs a
JOIN runs b ON b.task_id = a.task_id AND b.started_at >= a.started_at
 AND b.started_at < coalesce(a.finished_at, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
 AND (b.started_at > a.started_at OR b.id > a.id)
LEFT JOIN tasks t ON t.id = a.task_id
WHERE (a.finished_at IS NOT NULL OR (a.is_open = 1 AND a.removed_at IS NULL))
  AND (b.finished_at IS NOT NULL OR (b.is_open = 1 AND b.removed_at IS NULL));

CREATE VIEW recent_changes AS
SELECT e.observed_at AS at, e.task_id, coalesce(t.name, e.task_id) AS task, e.run_id,
       CASE
           WHEN e.type = 'ACTOR.RUN.CREATED' THEN 'created: ' || e.status
           WHEN e.previous_status IS NULL THEN e.status
           ELSE e.previous_status || ' → ' || e.status
       END AS what
FROM events e
LEFT JOIN tasks t ON t.id = e.task_id
UNION ALL
SELECT r.removed_at AS at, r.task_id, coalesce(t.name, r.task_id) AS task, r.id AS run_id, 'removed' AS what
FROM runs r
LEFT JOIN tasks t ON t.id = r.task_id
WHERE r.removed_at IS NOT NULL;
