INSERT INTO contents (content_id, owner, request_id, request_hash, title, description, tags, status, progress, gate, gate_hash, create_ms, update_ms, revision, delete_ms) VALUES
    ('cnt_1', 'acc_1', 'r1', 'h', 'Der Löwe', 'a lion', '["big","cat"]', 'ready', 0.5, BYTES(0a00), 'g', 1, 2, 3, NULL),
    ('cnt_2', 'acc_1', NULL, 'h', 'gone', '', '[]', 'waiting', 0, NULL, '', 1, 2, 1, 7);
INSERT INTO playback_ids (playback_id, content_id, gate, gate_hash, create_ms, delete_ms) VALUES
    ('pbk_1', 'cnt_1', NULL, '', 1, NULL), ('pbk_2', 'cnt_2', BYTES(0a00), 'g', 1, 7);
