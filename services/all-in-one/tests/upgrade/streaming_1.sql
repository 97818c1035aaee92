INSERT INTO sessions (session_id, playback_id, content_id, account_id, wallet, privileged, opened_gate, gate_hash, state, reason, unmet, created_ms, expires_ms, checked_ms, used_ms) VALUES
    ('ses_1', 'pbk_1', 'cnt_1', 'acc_1', 'eip155:1:0x1', 0, 'g', 'g', 'active', '', '', 1, 9, 2, 3),
    ('ses_2', 'pbk_1', 'cnt_1', NULL, NULL, 0, 'g', 'g', 'revoked', 'gate_unmet', 'own the pass', 1, 9, 2, 3);
