-- Jobs. `state` is the number of streamgate.worker.v1.JobState.
CREATE TABLE jobs (
    job_id       TEXT COLLATE "C"    PRIMARY KEY,
    type         TEXT COLLATE "C"    NOT NULL,
    state        BIGINT NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 5),
    attempts     BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    message      TEXT COLLATE "C"    NOT NULL DEFAULT '',
    request_id   TEXT COLLATE "C",
    -- What the request asked for: the same request_id with another body is refused.
    request_body TEXT COLLATE "C"    NOT NULL DEFAULT '',
    -- At most one unfinished job has this key.
    unique_key   TEXT COLLATE "C",
    create_ms    BIGINT NOT NULL,
    -- When it may run; while it runs, when it began to.
    run_ms       BIGINT NOT NULL,
    end_ms       BIGINT,
    -- Until when a running job is its worker's; grows with each heartbeat.
    lease_ms     BIGINT NOT NULL DEFAULT 0,
    -- Grows with each claim: an older claim can change nothing any more.
    fence        BIGINT NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX jobs_by_request ON jobs (request_id) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_unfinished_key ON jobs (unique_key) WHERE unique_key IS NOT NULL AND state IN (1, 2);
CREATE INDEX jobs_due ON jobs (run_ms) WHERE state = 1;
CREATE INDEX jobs_leases ON jobs (lease_ms) WHERE state = 2;
CREATE INDEX jobs_by_state ON jobs (state, job_id);
CREATE INDEX jobs_ended ON jobs (end_ms) WHERE end_ms IS NOT NULL;

-- When each schedule fires next: a restart neither skips nor repeats.
CREATE TABLE schedules (
    name    TEXT COLLATE "C"    PRIMARY KEY,
    next_ms BIGINT NOT NULL
);
