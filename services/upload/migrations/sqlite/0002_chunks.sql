-- Chunks that come in any order. Their bytes are blobs of their own until the upload is complete.
CREATE TABLE upload_chunks (
    upload_id  TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    -- The index of the chunk or the offset of its first byte, as the upload's chunking says.
    place      INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    blob_key   TEXT NOT NULL,
    PRIMARY KEY (upload_id, place)
) STRICT;

-- How the bytes come: '' before the first, then 'stream', 'index' or 'offset'.
ALTER TABLE uploads ADD COLUMN chunking TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN chunk_count INTEGER NOT NULL DEFAULT 0;
-- Durable bytes, as the last call that brought some has noted.
ALTER TABLE uploads ADD COLUMN received_bytes INTEGER NOT NULL DEFAULT 0;
-- 1: the chunks are being put together, so no more are taken.
ALTER TABLE uploads ADD COLUMN joining INTEGER NOT NULL DEFAULT 0;
-- What counts against the account's quota: announced or received bytes, until they are deleted.
ALTER TABLE uploads ADD COLUMN held_bytes INTEGER NOT NULL DEFAULT 0;

UPDATE uploads SET held_bytes = CASE state WHEN 'open' THEN announced_bytes ELSE size_bytes END WHERE doomed = 0;
UPDATE uploads SET received_bytes = size_bytes WHERE state = 'completed';

-- doomed is now 1 for all bytes of an upload, 2 for its chunks alone.
DROP INDEX uploads_doomed;
CREATE INDEX uploads_doomed ON uploads (id) WHERE doomed <> 0;

-- What each account has used of its quotas.
CREATE TABLE accounts (
    owner      TEXT PRIMARY KEY,
    held_bytes INTEGER NOT NULL,
    -- Days since 1970, and uploads begun on that one.
    day        INTEGER NOT NULL,
    begun      INTEGER NOT NULL
) STRICT;

INSERT INTO accounts (owner, held_bytes, day, begun) SELECT owner, sum(held_bytes), 0, 0 FROM uploads GROUP BY owner;
