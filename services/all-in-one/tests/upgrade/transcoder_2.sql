UPDATE jobs SET priority = 3, profile = 'fast', ladder = '720:2500' WHERE job_id = 'job_2';
INSERT INTO submissions (caller, request_id, fingerprint, job_id, created_ms) VALUES ('acc_1', 'r2', 'f', 'job_2', 20);
INSERT INTO workers (worker_id, slots, running, seen_ms) VALUES ('w', 2, 1, 31);
