-- Titles. A deleted title keeps its row, so that deleting it again is still known to be its owner's call.
CREATE TABLE contents (
    id           INTEGER PRIMARY KEY,
    content_id   TEXT    NOT NULL UNIQUE,
    owner        TEXT    NOT NULL,
    request_id   TEXT,
    -- Hash of the request that made it: the same request_id with another body is refused.
    request_hash TEXT    NOT NULL,
    title        TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    -- A JSON array of strings.
    tags         TEXT    NOT NULL,
    status       TEXT    NOT NULL CHECK (status IN ('waiting', 'uploading', 'processing', 'ready', 'errored')),
    progress     REAL    NOT NULL DEFAULT 0,
    playable     INTEGER NOT NULL DEFAULT 0,
    -- The newest transcode job heard of, and the event that last moved it.
    job_id       TEXT    NOT NULL DEFAULT '',
    job_mark     TEXT    NOT NULL DEFAULT '',
    error_reason TEXT    NOT NULL DEFAULT '',
    error_detail TEXT    NOT NULL DEFAULT '',
    duration_ms  INTEGER NOT NULL DEFAULT 0,
    width        INTEGER NOT NULL DEFAULT 0,
    height       INTEGER NOT NULL DEFAULT 0,
    -- An encoded streamgate.gate.v1.Rule in canonical form; absent without a gate.
    gate         BLOB,
    gate_hash    TEXT    NOT NULL DEFAULT '',
    create_ms    INTEGER NOT NULL,
    update_ms    INTEGER NOT NULL,
    revision     INTEGER NOT NULL DEFAULT 1,
    delete_ms    INTEGER
);

CREATE UNIQUE INDEX contents_by_request ON contents (owner, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX contents_by_owner ON contents (owner, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_owner_status ON contents (owner, status, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_status ON contents (status, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_live ON contents (content_id) WHERE delete_ms IS NULL;

-- Public names of titles, each perhaps with a gate of its own.
CREATE TABLE playback_ids (
    playback_id TEXT    PRIMARY KEY,
    content_id  TEXT    NOT NULL REFERENCES contents (content_id),
    gate        BLOB,
    gate_hash   TEXT    NOT NULL DEFAULT '',
    create_ms   INTEGER NOT NULL,
    delete_ms   INTEGER
) WITHOUT ROWID;

CREATE INDEX playback_ids_by_content ON playback_ids (content_id, create_ms, playback_id) WHERE delete_ms IS NULL;

-- The owner is a column of the index, so that a search reads the caller's titles and nobody else's.
CREATE VIRTUAL TABLE contents_fts USING fts5 (
    owner, title, description, tags,
    tokenize = 'unicode61 remove_diacritics 2',
    prefix = '2 3'
);

CREATE TRIGGER contents_fts_insert AFTER INSERT ON contents BEGIN
    INSERT INTO contents_fts (rowid, owner, title, description, tags)
    VALUES (new.id, new.owner, new.title, new.description, new.tags);
END;

CREATE TRIGGER contents_fts_update AFTER UPDATE OF title, description, tags ON contents WHEN new.delete_ms IS NULL BEGIN
    UPDATE contents_fts SET title = new.title, description = new.description, tags = new.tags WHERE rowid = new.id;
END;

CREATE TRIGGER contents_fts_delete AFTER UPDATE OF delete_ms ON contents WHEN new.delete_ms IS NOT NULL BEGIN
    DELETE FROM contents_fts WHERE rowid = new.id;
END;
