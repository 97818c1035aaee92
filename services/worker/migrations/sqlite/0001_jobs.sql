-- Jobs. `state` is the number of streamgate.worker.v1.JobState.
CREATE TABLE jobs (
    job_id       TEXT    PRIMARY KEY,
    type         TEXT    NOT NULL,
    state        INTEGER NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 5),
    attempts     INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    message      TEXT    NOT NULL DEFAULT '',
    request_id   TEXT,
    -- What the request asked for: the same request_id with another body is refused.
    request_body TEXT    NOT NULL DEFAULT '',
    -- At most one unfinished job has this key.
    unique_key   TEXT,
    create_ms    INTEGER NOT NULL,
    -- When it may run; while it runs, when it began to.
    run_ms       INTEGER NOT NULL,
    end_ms       INTEGER,
    -- Until when a running job is its worker's; grows with each heartbeat.
    lease_ms     INTEGER NOT NULL DEFAULT 0,
    -- Grows with each claim: an older claim can change nothing any more.
    fence        INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE UNIQUE INDEX jobs_by_request ON jobs (request_id) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_unfinished_key ON jobs (unique_key) WHERE unique_key IS NOT NULL AND state IN (1, 2);
CREATE INDEX jobs_due ON jobs (run_ms) WHERE state = 1;
CREATE INDEX jobs_leases ON jobs (lease_ms) WHERE state = 2;
CREATE INDEX jobs_by_state ON jobs (state, job_id);
CREATE INDEX jobs_ended ON jobs (end_ms) WHERE end_ms IS NOT NULL;

-- When each schedule fires next: a restart neither skips nor repeats.
CREATE TABLE schedules (
    name    TEXT    PRIMARY KEY,
    next_ms INTEGER NOT NULL
) WITHOUT ROWID;
