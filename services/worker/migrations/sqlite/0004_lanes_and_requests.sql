-- Deliveries of webhooks wait for strangers' machines: they run in a lane of their own, so that nothing waits for them.
-- The number is that of the service's `Lane`.
ALTER TABLE jobs ADD COLUMN lane BIGINT NOT NULL DEFAULT 0;
UPDATE jobs SET lane = 1 WHERE type = 'deliver_webhook';

DROP INDEX jobs_due;
DROP INDEX jobs_waiting;
DROP INDEX jobs_leases;
CREATE INDEX jobs_due ON jobs (lane, priority, run_ms, job_id) WHERE state = 1;
CREATE INDEX jobs_waiting ON jobs (lane, run_ms, job_id) WHERE state = 1;
CREATE INDEX jobs_leases ON jobs (lane, lease_ms) WHERE state = 2;

-- A request id is its caller's own: another's may be the same.
DROP INDEX jobs_by_request;
CREATE UNIQUE INDEX jobs_by_request ON jobs (owner, request_id) WHERE request_id IS NOT NULL;
