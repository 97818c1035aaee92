UPDATE uploads SET chunking = 'index', chunk_count = 1, received_bytes = 40 WHERE id = 'upl_1';
INSERT INTO upload_chunks (upload_id, place, size_bytes, sha256, blob_key) VALUES ('upl_1', 0, 40, 'bb', 'chunks/upl_1/0');
UPDATE accounts SET day = 20000, begun = 3 WHERE owner = 'acc_1';
