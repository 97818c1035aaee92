-- Titles. A deleted title keeps its row, so that deleting it again is still known to be its owner's call.
CREATE TABLE contents (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content_id   TEXT COLLATE "C"    NOT NULL UNIQUE,
    owner        TEXT COLLATE "C"    NOT NULL,
    request_id   TEXT COLLATE "C",
    -- Hash of the request that made it: the same request_id with another body is refused.
    request_hash TEXT COLLATE "C"    NOT NULL,
    title        TEXT COLLATE "C"    NOT NULL,
    description  TEXT COLLATE "C"    NOT NULL,
    -- A JSON array of strings.
    tags         TEXT COLLATE "C"    NOT NULL,
    status       TEXT COLLATE "C"    NOT NULL CHECK (status IN ('waiting', 'uploading', 'processing', 'ready', 'errored')),
    progress     DOUBLE PRECISION    NOT NULL DEFAULT 0,
    playable     BIGINT NOT NULL DEFAULT 0,
    -- The newest transcode job heard of, and the event that last moved it.
    job_id       TEXT COLLATE "C"    NOT NULL DEFAULT '',
    job_mark     TEXT COLLATE "C"    NOT NULL DEFAULT '',
    error_reason TEXT COLLATE "C"    NOT NULL DEFAULT '',
    error_detail TEXT COLLATE "C"    NOT NULL DEFAULT '',
    duration_ms  BIGINT NOT NULL DEFAULT 0,
    width        BIGINT NOT NULL DEFAULT 0,
    height       BIGINT NOT NULL DEFAULT 0,
    -- An encoded streamgate.gate.v1.Rule in canonical form; absent without a gate.
    gate         BYTEA,
    gate_hash    TEXT COLLATE "C"    NOT NULL DEFAULT '',
    create_ms    BIGINT NOT NULL,
    update_ms    BIGINT NOT NULL,
    revision     BIGINT NOT NULL DEFAULT 1,
    delete_ms    BIGINT
);

CREATE UNIQUE INDEX contents_by_request ON contents (owner, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX contents_by_owner ON contents (owner, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_owner_status ON contents (owner, status, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_status ON contents (status, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_live ON contents (content_id) WHERE delete_ms IS NULL;

-- Public names of titles, each perhaps with a gate of its own.
CREATE TABLE playback_ids (
    playback_id TEXT COLLATE "C"    PRIMARY KEY,
    content_id  TEXT COLLATE "C"    NOT NULL REFERENCES contents (content_id),
    gate        BYTEA,
    gate_hash   TEXT COLLATE "C"    NOT NULL DEFAULT '',
    create_ms   BIGINT NOT NULL,
    delete_ms   BIGINT
);

CREATE INDEX playback_ids_by_content ON playback_ids (content_id, create_ms, playback_id) WHERE delete_ms IS NULL;

-- Words of a title, weighed: one in the title says more than one in the text.
ALTER TABLE contents ADD COLUMN words TSVECTOR GENERATED ALWAYS AS (
    setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', tags), 'B')
    || setweight(to_tsvector('simple', description), 'D')
) STORED;
CREATE INDEX contents_by_words ON contents USING GIN (words) WHERE delete_ms IS NULL;
