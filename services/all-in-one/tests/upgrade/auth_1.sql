INSERT INTO accounts (id, address, wallet, role, created_at) VALUES
    ('acc_1', '0x0000000000000000000000000000000000000001', 'eip155:1:0x0000000000000000000000000000000000000001', 'creator', 1),
    ('acc_2', NULL, NULL, 'operator', 2);
INSERT INTO challenges (id, address, domain, nonce, message, failures, created_at, expires_at) VALUES
    ('chl_1', '0x0000000000000000000000000000000000000001', 'localhost', 'n', 'sign in, ünï', 1, 1, 2);
INSERT INTO sign_ins (id, account_id, wallet, created_at, revoked_at) VALUES ('sgn_1', 'acc_1', 'eip155:1:0x1', 1, NULL);
INSERT INTO refresh_tokens (hash, sign_in_id, expires_at, used_at) VALUES (BYTES(00ff), 'sgn_1', 9, NULL);
INSERT INTO signing_keys (kid, seed, created_at, withdraw_at) VALUES ('k1', BYTES(0102), 1, NULL);
INSERT INTO api_keys (id, account_id, name, secret_hash, created_at, revoked_at) VALUES ('key_1', 'acc_2', 'a key', BYTES(03), 1, NULL);
