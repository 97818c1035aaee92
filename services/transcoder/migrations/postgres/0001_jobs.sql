-- One row per job, and what it has made. Times are milliseconds since 1970.
CREATE TABLE jobs (
    seq                BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id             TEXT COLLATE "C" NOT NULL UNIQUE,
    content_id         TEXT COLLATE "C" NOT NULL,
    owner              TEXT COLLATE "C" NOT NULL,
    upload_id          TEXT COLLATE "C" NOT NULL,
    source_key         TEXT COLLATE "C" NOT NULL,
    -- The caller's key for repeating a submission.
    request_id         TEXT COLLATE "C",
    state              TEXT COLLATE "C" NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    -- A job is run by whoever holds its newest token; writes with an older one are refused.
    fence              BIGINT NOT NULL DEFAULT 0,
    lease_owner        TEXT COLLATE "C" NOT NULL DEFAULT '',
    lease_until_ms     BIGINT NOT NULL DEFAULT 0,
    not_before_ms      BIGINT NOT NULL DEFAULT 0,
    cancel_wanted      BIGINT NOT NULL DEFAULT 0,
    attempts           BIGINT NOT NULL DEFAULT 0,
    crashes            BIGINT NOT NULL DEFAULT 0,
    -- Names of the tracks that will be made, separated by spaces; empty until the source is probed.
    tracks             TEXT COLLATE "C" NOT NULL DEFAULT '',
    source_duration_ms BIGINT NOT NULL DEFAULT 0,
    made_ms            BIGINT NOT NULL DEFAULT 0,
    -- When this attempt began, and what was made by then: the pace it goes at.
    attempt_ms         BIGINT NOT NULL DEFAULT 0,
    attempt_made_ms    BIGINT NOT NULL DEFAULT 0,
    progressed_ms      BIGINT NOT NULL DEFAULT 0,
    playable           BIGINT NOT NULL DEFAULT 0,
    partial            BIGINT NOT NULL DEFAULT 0,
    duration_ms        BIGINT NOT NULL DEFAULT 0,
    poster_path        TEXT COLLATE "C" NOT NULL DEFAULT '',
    poster_bytes       BIGINT NOT NULL DEFAULT 0,
    error_reason       TEXT COLLATE "C" NOT NULL DEFAULT '',
    error_detail       TEXT COLLATE "C" NOT NULL DEFAULT '',
    -- Grows with every change that a viewer could see, over all jobs of a title.
    revision           BIGINT NOT NULL DEFAULT 1,
    created_ms         BIGINT NOT NULL,
    started_ms         BIGINT,
    ended_ms           BIGINT
);

CREATE INDEX jobs_content ON jobs (content_id, seq);
CREATE INDEX jobs_owner ON jobs (owner, seq);
CREATE INDEX jobs_work ON jobs (state, seq) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX jobs_request ON jobs (owner, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE renditions (
    job_id         TEXT COLLATE "C" NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    name           TEXT COLLATE "C" NOT NULL,
    -- Absent for sound.
    width          BIGINT,
    height         BIGINT,
    rate_num       BIGINT,
    rate_den       BIGINT,
    -- Absent for pictures.
    sample_rate_hz BIGINT,
    channels       BIGINT,
    language       TEXT COLLATE "C" NOT NULL DEFAULT '',
    codecs         TEXT COLLATE "C" NOT NULL,
    timescale      BIGINT NOT NULL,
    init_path      TEXT COLLATE "C" NOT NULL,
    init_bytes     BIGINT NOT NULL,
    PRIMARY KEY (job_id, name)
);

CREATE TABLE segments (
    job_id     TEXT COLLATE "C" NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    rendition  TEXT COLLATE "C" NOT NULL,
    number     BIGINT NOT NULL,
    start      BIGINT NOT NULL,
    duration   BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    path       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (job_id, rendition, number),
    FOREIGN KEY (job_id, rendition) REFERENCES renditions (job_id, name) ON DELETE CASCADE
);

-- Titles that are gone: nothing is made of them any more, and their media is deleted.
CREATE TABLE deleted_contents (
    content_id TEXT COLLATE "C" PRIMARY KEY,
    -- 1 until the media is deleted.
    pending    BIGINT NOT NULL DEFAULT 1
);
