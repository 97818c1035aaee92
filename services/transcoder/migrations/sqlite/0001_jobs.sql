-- One row per job, and what it has made. Times are milliseconds since 1970.
CREATE TABLE jobs (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id             TEXT NOT NULL UNIQUE,
    content_id         TEXT NOT NULL,
    owner              TEXT NOT NULL,
    upload_id          TEXT NOT NULL,
    source_key         TEXT NOT NULL,
    -- The caller's key for repeating a submission.
    request_id         TEXT,
    state              TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    -- A job is run by whoever holds its newest token; writes with an older one are refused.
    fence              INTEGER NOT NULL DEFAULT 0,
    lease_owner        TEXT NOT NULL DEFAULT '',
    lease_until_ms     INTEGER NOT NULL DEFAULT 0,
    not_before_ms      INTEGER NOT NULL DEFAULT 0,
    cancel_wanted      INTEGER NOT NULL DEFAULT 0,
    attempts           INTEGER NOT NULL DEFAULT 0,
    crashes            INTEGER NOT NULL DEFAULT 0,
    -- Names of the tracks that will be made, separated by spaces; empty until the source is probed.
    tracks             TEXT NOT NULL DEFAULT '',
    source_duration_ms INTEGER NOT NULL DEFAULT 0,
    made_ms            INTEGER NOT NULL DEFAULT 0,
    -- When this attempt began, and what was made by then: the pace it goes at.
    attempt_ms         INTEGER NOT NULL DEFAULT 0,
    attempt_made_ms    INTEGER NOT NULL DEFAULT 0,
    progressed_ms      INTEGER NOT NULL DEFAULT 0,
    playable           INTEGER NOT NULL DEFAULT 0,
    partial            INTEGER NOT NULL DEFAULT 0,
    duration_ms        INTEGER NOT NULL DEFAULT 0,
    poster_path        TEXT NOT NULL DEFAULT '',
    poster_bytes       INTEGER NOT NULL DEFAULT 0,
    error_reason       TEXT NOT NULL DEFAULT '',
    error_detail       TEXT NOT NULL DEFAULT '',
    -- Grows with every change that a viewer could see, over all jobs of a title.
    revision           INTEGER NOT NULL DEFAULT 1,
    created_ms         INTEGER NOT NULL,
    started_ms         INTEGER,
    ended_ms           INTEGER
) STRICT;

CREATE INDEX jobs_content ON jobs (content_id, seq);
CREATE INDEX jobs_owner ON jobs (owner, seq);
CREATE INDEX jobs_work ON jobs (state, seq) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX jobs_request ON jobs (owner, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE renditions (
    job_id         TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    -- Absent for sound.
    width          INTEGER,
    height         INTEGER,
    rate_num       INTEGER,
    rate_den       INTEGER,
    -- Absent for pictures.
    sample_rate_hz INTEGER,
    channels       INTEGER,
    language       TEXT NOT NULL DEFAULT '',
    codecs         TEXT NOT NULL,
    timescale      INTEGER NOT NULL,
    init_path      TEXT NOT NULL,
    init_bytes     INTEGER NOT NULL,
    PRIMARY KEY (job_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE segments (
    job_id     TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    rendition  TEXT NOT NULL,
    number     INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    duration   INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    path       TEXT NOT NULL,
    PRIMARY KEY (job_id, rendition, number),
    FOREIGN KEY (job_id, rendition) REFERENCES renditions (job_id, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Titles that are gone: nothing is made of them any more, and their media is deleted.
CREATE TABLE deleted_contents (
    content_id TEXT PRIMARY KEY,
    -- 1 until the media is deleted.
    pending    INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;
