-- Priorities, parameters, progress, and a named time for which ended jobs are kept.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 3);
-- Of ten thousand.
ALTER TABLE jobs ADD COLUMN progress BIGINT NOT NULL DEFAULT 0;
-- An encoded streamgate.worker.v1.JobParams.
ALTER TABLE jobs ADD COLUMN params BLOB NOT NULL DEFAULT x'';
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
-- The process that runs it.
ALTER TABLE jobs ADD COLUMN worker TEXT NOT NULL DEFAULT '';
-- How long it is kept when it has ended; 0 leaves that to its outcome.
ALTER TABLE jobs ADD COLUMN keep_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN expire_ms BIGINT;
UPDATE jobs SET expire_ms = end_ms + 604800000 WHERE end_ms IS NOT NULL;

DROP INDEX jobs_due;
DROP INDEX jobs_ended;
CREATE INDEX jobs_due ON jobs (priority, run_ms, job_id) WHERE state = 1;
CREATE INDEX jobs_waiting ON jobs (run_ms, job_id) WHERE state = 1;
CREATE INDEX jobs_expiry ON jobs (expire_ms) WHERE expire_ms IS NOT NULL;
CREATE INDEX jobs_by_type ON jobs (type, job_id);

-- Schedules that operators make. `catch_up` is the number of streamgate.worker.v1.CatchUp.
CREATE TABLE cron_schedules (
    name       TEXT   PRIMARY KEY,
    cron       TEXT   NOT NULL,
    time_zone  TEXT   NOT NULL,
    catch_up   BIGINT NOT NULL,
    type       TEXT   NOT NULL,
    priority   BIGINT NOT NULL,
    params     BLOB   NOT NULL,
    paused     BIGINT NOT NULL,
    no_overlap BIGINT NOT NULL,
    next_ms    BIGINT NOT NULL,
    last_ms    BIGINT
);
CREATE INDEX cron_schedules_next ON cron_schedules (next_ms) WHERE paused = 0;
