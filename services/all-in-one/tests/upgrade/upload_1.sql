INSERT INTO uploads (id, owner, request_id, fingerprint, content_id, filename, state, announced_bytes, expected_sha256, size_bytes, sha256, created_ms, expires_ms, doomed) VALUES
    ('upl_1', 'acc_1', 'r1', 'f', 'cnt_1', 'a.mp4', 'open', 100, '', 0, '', 1, 9, 0),
    ('upl_2', 'acc_1', NULL, 'f', 'cnt_2', 'ünï.mp4', 'completed', 0, '', 70, 'aa', 2, 9, 0),
    ('upl_3', 'acc_2', NULL, 'f', 'cnt_3', 'c.mp4', 'cancelled', 50, '', 0, '', 3, 9, 1);
