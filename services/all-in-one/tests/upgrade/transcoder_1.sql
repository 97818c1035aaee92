INSERT INTO jobs (job_id, content_id, owner, upload_id, source_key, request_id, state, tracks, playable, revision, created_ms, started_ms, ended_ms) VALUES
    ('job_1', 'cnt_1', 'acc_1', 'upl_1', 'sources/upl_1', NULL, 'succeeded', 'v720 a128', 1, 4, 10, 11, 12),
    ('job_2', 'cnt_1', 'acc_1', 'upl_2', 'sources/upl_2', 'r2', 'queued', '', 0, 5, 20, NULL, NULL),
    ('job_3', 'cnt_2', 'acc_2', 'upl_3', 'sources/upl_3', NULL, 'running', 'v720', 0, 1, 30, 31, NULL);
INSERT INTO renditions (job_id, name, width, height, rate_num, rate_den, codecs, timescale, init_path, init_bytes) VALUES
    ('job_1', 'v720', 1280, 720, 25, 1, 'avc1.64001f', 12800, 'job_1/v720/init.mp4', 700);
INSERT INTO segments (job_id, rendition, number, start, duration, size_bytes, path) VALUES
    ('job_1', 'v720', 1, 0, 25600, 1000, 'job_1/v720/00001.m4s'), ('job_1', 'v720', 2, 25600, 25600, 900, 'job_1/v720/00002.m4s');
INSERT INTO deleted_contents (content_id, pending) VALUES ('cnt_9', 1);
