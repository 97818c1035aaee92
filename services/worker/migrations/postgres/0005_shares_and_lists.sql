-- A claim passes over the jobs of accounts that have their share of its worker: what it asks of each job lies in the index.
DROP INDEX jobs_due;
DROP INDEX jobs_waiting;
CREATE INDEX jobs_due ON jobs (lane, priority, run_ms, job_id, owner) WHERE state = 1;
CREATE INDEX jobs_waiting ON jobs (lane, run_ms, job_id, owner) WHERE state = 1;
UPDATE jobs SET owner = COALESCE((SELECT webhook_endpoints.owner FROM webhook_deliveries JOIN webhook_endpoints
    ON webhook_endpoints.endpoint_id = webhook_deliveries.endpoint_id
    WHERE webhook_deliveries.delivery_id = substr(jobs.unique_key, 9)), '')
WHERE type = 'deliver_webhook' AND unique_key IS NOT NULL AND state IN (1, 2);

-- What the clock queues: a cron schedule that is called as a type is another one than the type's interval.
UPDATE jobs SET unique_key = 'interval:' || type WHERE unique_key = 'schedule:' || type;
UPDATE jobs SET unique_key = 'cron:' || substr(unique_key, 10) WHERE unique_key LIKE 'schedule:%';

-- Lists.
CREATE INDEX jobs_by_type_state ON jobs (type, state, job_id);
CREATE INDEX webhook_deliveries_by_state ON webhook_deliveries (endpoint_id, state, delivery_id);
-- Those that are to be told of each event, whoever's it is.
CREATE INDEX webhook_endpoints_of_all ON webhook_endpoints (enabled, endpoint_id) WHERE all_owners = 1;
-- Sent again page by page.
DROP INDEX webhook_deliveries_by_time;
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (endpoint_id, create_ms, delivery_id);
-- Looked through for those that nothing tries any more.
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (delivery_id) WHERE state = 1;
-- The next one is found without sorting those of the same moment.
DROP INDEX cron_schedules_next;
CREATE INDEX cron_schedules_next ON cron_schedules (next_ms, name) WHERE paused = 0;
