INSERT INTO alerts (alert_id, rule, target, severity, state, summary, value, threshold, pending_ms, firing_ms, resolved_ms) VALUES
    ('alt_1', 'service_down', 'upload', 'critical', 'resolved', 'upload is down', 1.5, 1, 1, 2, 3),
    ('alt_2', 'service_down', 'upload', 'critical', 'firing', 'upload is down', 1.5, 1, 4, 5, NULL);
INSERT INTO logs (line_id, time_ms, service, level, target, message, fields, searched, request_id, trace_id, size_bytes) VALUES
    ('lin_1', 1, 'upload', 3, 't', 'ünï', '{"a":"b"}', 'ünï a=b', 'r', 't', 10);
INSERT INTO audit_entries (sequence, entry_id, time_ms, service, method, actor, actor_role, actor_wallet, object, outcome, reason, request_id, missing_before, previous_hash, hash) VALUES
    (1, 'aud_1', 1, 'metadata', '/m', 'account:a', 'creator', '', 'content_id=cnt_1', 1, '', 'r', 0, '', 'h1');
UPDATE audit_head SET sequence = 1, hash = 'h1' WHERE id = 1;
