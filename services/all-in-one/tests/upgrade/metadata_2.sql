UPDATE contents SET attributes = '{"season":"1"}', title_key = 'der lowe', indexed = 1 WHERE content_id = 'cnt_1';
INSERT INTO content_tags (tag, content_id, owner) VALUES ('big', 'cnt_1', 'acc_1'), ('cat', 'cnt_1', 'acc_1');
INSERT INTO content_gates (chain, contract, content_id, owner) VALUES ('', '0x1', 'cnt_1', 'acc_1');
INSERT INTO requests (account, method, request_id, request_hash, answer, create_ms) VALUES ('acc_1', 'm', 'r', 'h', BYTES(0a), 1);
