-- One row per upload; its bytes are in the blob store under sources/<id>.
CREATE TABLE uploads (
    id              TEXT PRIMARY KEY,
    owner           TEXT NOT NULL,
    -- The caller's key for repeating the creation, and what it was called with.
    request_id      TEXT,
    fingerprint     TEXT NOT NULL,
    -- Absent until the title is made.
    content_id      TEXT,
    filename        TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('open', 'completed', 'cancelled', 'expired')),
    -- 0: not announced.
    announced_bytes INTEGER NOT NULL,
    expected_sha256 TEXT NOT NULL,
    -- Once completed.
    size_bytes      INTEGER NOT NULL DEFAULT 0,
    sha256          TEXT NOT NULL DEFAULT '',
    created_ms      INTEGER NOT NULL,
    expires_ms      INTEGER NOT NULL,
    -- 1: the bytes are still to be deleted.
    doomed          INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX uploads_request ON uploads (owner, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX uploads_owner ON uploads (owner, id);
CREATE INDEX uploads_content ON uploads (content_id);
CREATE INDEX uploads_expiry ON uploads (expires_ms) WHERE state = 'open';
CREATE INDEX uploads_doomed ON uploads (id) WHERE doomed = 1;
