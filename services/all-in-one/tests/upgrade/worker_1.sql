INSERT INTO jobs (job_id, type, state, attempts, max_attempts, message, request_id, request_body, unique_key, create_ms, run_ms, end_ms, lease_ms, fence) VALUES
    ('job_1', 'sweep_uploads', 1, 0, 5, '', 'r1', 'b', 'k', 1, 2, NULL, 0, 0),
    ('job_2', 'sweep_uploads', 2, 1, 5, '', NULL, '', NULL, 1, 2, NULL, 50, 1),
    ('job_3', 'sweep_uploads', 3, 1, 5, 'done', NULL, '', NULL, 1, 2, 3, 0, 1);
INSERT INTO schedules (name, next_ms) VALUES ('sweep_uploads', 100);
