-- One row per upload; its bytes are in the blob store under sources/<id>.
CREATE TABLE uploads (
    id              TEXT COLLATE "C" PRIMARY KEY,
    owner           TEXT COLLATE "C" NOT NULL,
    -- The caller's key for repeating the creation, and what it was called with.
    request_id      TEXT COLLATE "C",
    fingerprint     TEXT COLLATE "C" NOT NULL,
    -- Absent until the title is made.
    content_id      TEXT COLLATE "C",
    filename        TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'completed', 'cancelled', 'expired')),
    -- 0: not announced.
    announced_bytes BIGINT NOT NULL,
    expected_sha256 TEXT COLLATE "C" NOT NULL,
    -- Once completed.
    size_bytes      BIGINT NOT NULL DEFAULT 0,
    sha256          TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_ms      BIGINT NOT NULL,
    expires_ms      BIGINT NOT NULL,
    -- 1: the bytes are still to be deleted.
    doomed          BIGINT NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX uploads_request ON uploads (owner, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX uploads_owner ON uploads (owner, id);
CREATE INDEX uploads_content ON uploads (content_id);
CREATE INDEX uploads_expiry ON uploads (expires_ms) WHERE state = 'open';
CREATE INDEX uploads_doomed ON uploads (id) WHERE doomed = 1;
