UPDATE jobs SET priority = 3, progress = 5000, worker = 'w', owner = 'acc_1', params = BYTES(0a00) WHERE job_id = 'job_2';
INSERT INTO cron_schedules (name, cron, time_zone, catch_up, type, priority, params, paused, no_overlap, next_ms, last_ms) VALUES
    ('nightly', '0 3 * * *', 'Europe/Berlin', 1, 'sweep_uploads', 2, BYTES(), 0, 1, 100, NULL);
