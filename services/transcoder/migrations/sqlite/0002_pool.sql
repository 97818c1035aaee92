-- Settings of a job, its place in line, and what makes one version of a title follow another.
-- Counts the jobs of a title: it is part of public paths.
ALTER TABLE jobs ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
UPDATE jobs SET version = (SELECT COUNT(*) FROM jobs AS earlier WHERE earlier.content_id = jobs.content_id AND earlier.seq <= jobs.seq);
ALTER TABLE jobs ADD COLUMN profile TEXT NOT NULL DEFAULT 'default';
-- The ladder that was asked for this job alone, such as "720:2500 480:1000"; empty when the profile's is used.
ALTER TABLE jobs ADD COLUMN ladder TEXT NOT NULL DEFAULT '';
-- What the encoder is told, as JSON, so that every attempt makes the same; empty means the configuration's.
ALTER TABLE jobs ADD COLUMN settings TEXT NOT NULL DEFAULT '';
-- 1 low, 2 normal, 3 high.
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 2;
ALTER TABLE jobs ADD COLUMN source_bytes INTEGER NOT NULL DEFAULT 0;
-- 1 when the title could be played before.
ALTER TABLE jobs ADD COLUMN remake INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN playable_ms INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET playable_ms = created_ms WHERE playable = 1;
-- When a newer version became whole; the media is kept for players that have begun, then purged: 1 begun, 2 done.
ALTER TABLE jobs ADD COLUMN superseded_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;

CREATE INDEX jobs_line ON jobs (priority DESC, seq) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_ended ON jobs (ended_ms DESC) WHERE ended_ms IS NOT NULL;
CREATE INDEX jobs_superseded ON jobs (superseded_ms) WHERE superseded_ms > 0 AND purged < 2;
CREATE UNIQUE INDEX jobs_version ON jobs (content_id, version);

-- Answers to submissions, for callers that repeat them.
CREATE TABLE submissions (
    caller      TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    -- Of everything that was asked.
    fingerprint TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX submissions_age ON submissions (created_ms);

-- Processes that run jobs, as they say themselves.
CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY NOT NULL,
    slots     INTEGER NOT NULL,
    running   INTEGER NOT NULL,
    seen_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
