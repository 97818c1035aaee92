UPDATE sessions SET owner = 'acc_9', playing = 1, started_ms = 3, sent_bytes = 5, changed_ms = 3 WHERE session_id = 'ses_1';
