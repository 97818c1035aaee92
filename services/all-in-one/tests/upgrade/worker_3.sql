INSERT INTO webhook_endpoints (endpoint_id, owner, all_owners, url, description, event_types, secret, enabled, create_ms, update_ms) VALUES
    ('whe_1', 'acc_1', 0, 'https://example.org/hook', 'ünï', 'file.uploaded', BYTES(0102), 1, 1, 1);
INSERT INTO webhook_messages (message_id, event_type, body, create_ms) VALUES ('evt_1', 'file.uploaded', BYTES(7b7d), 1);
INSERT INTO webhook_deliveries (delivery_id, endpoint_id, message_id, event_type, state, attempts, create_ms, end_ms) VALUES
    ('whd_1', 'whe_1', 'evt_1', 'file.uploaded', 1, 1, 1, NULL);
INSERT INTO webhook_attempts (attempt_id, delivery_id, at_ms, status, latency_ms, error, response) VALUES ('wha_1', 'whd_1', 2, 503, 7, '', 'busy');
