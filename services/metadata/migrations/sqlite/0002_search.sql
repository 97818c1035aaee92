-- What a title's owner adds to it, and how long a deleted one can be brought back.
ALTER TABLE contents ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE contents ADD COLUMN purge_ms BIGINT;
ALTER TABLE contents ADD COLUMN purged BIGINT NOT NULL DEFAULT 0;
-- The title as it is sorted: its words without case and accents.
ALTER TABLE contents ADD COLUMN title_key TEXT NOT NULL DEFAULT '';
-- Which version of the indexes below has this title; a task brings older ones up to date.
ALTER TABLE contents ADD COLUMN indexed BIGINT NOT NULL DEFAULT 0;
-- Titles deleted before this step were never to come back.
UPDATE contents SET purge_ms = delete_ms WHERE delete_ms IS NOT NULL;

CREATE INDEX contents_by_title ON contents (title_key, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_owner_title ON contents (owner, title_key, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_update ON contents (update_ms, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_by_owner_update ON contents (owner, update_ms, content_id) WHERE delete_ms IS NULL;
CREATE INDEX contents_deleted ON contents (owner, content_id) WHERE delete_ms IS NOT NULL AND purged = 0;
CREATE INDEX contents_to_purge ON contents (purge_ms, content_id) WHERE delete_ms IS NOT NULL AND purged = 0;
CREATE INDEX contents_to_index ON contents (indexed, content_id);

-- Tags and gates of live titles. The owner stands in each row, so that a list reads the caller's rows and nobody else's.
CREATE TABLE content_tags (
    tag        TEXT NOT NULL,
    content_id TEXT NOT NULL REFERENCES contents (content_id),
    owner      TEXT NOT NULL,
    PRIMARY KEY (tag, content_id)
) WITHOUT ROWID;
CREATE INDEX content_tags_by_owner ON content_tags (owner, tag, content_id);
CREATE INDEX content_tags_by_content ON content_tags (content_id);

-- What a title's gate asks for. An empty chain stands for any chain, an empty contract for any contract.
CREATE TABLE content_gates (
    chain      TEXT NOT NULL,
    contract   TEXT NOT NULL,
    content_id TEXT NOT NULL REFERENCES contents (content_id),
    owner      TEXT NOT NULL,
    PRIMARY KEY (chain, contract, content_id)
) WITHOUT ROWID;
CREATE INDEX content_gates_by_owner ON content_gates (owner, chain, contract, content_id);
CREATE INDEX content_gates_by_content ON content_gates (content_id);

-- The words of live titles, without case and accents. The owner is a word of its own, so that a search reads the
-- caller's titles and nobody else's. The rowid is that of the title.
DROP TRIGGER contents_fts_insert;
DROP TRIGGER contents_fts_update;
DROP TRIGGER contents_fts_delete;
DROP TABLE contents_fts;
CREATE VIRTUAL TABLE contents_fts USING fts5 (
    owner, title, tags, description,
    content = '', contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 0',
    prefix = '2 3 4'
);
-- A word in the title says more than one in a tag, and that more than one in the text.
INSERT INTO contents_fts (contents_fts, rank) VALUES ('rank', 'bm25(0.0, 10.0, 5.0, 2.0)');

-- Every word of a title or a tag, with the parts of it, for words that are mistyped.
CREATE TABLE search_words (
    id   INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
);
CREATE VIRTUAL TABLE search_parts USING fts5 (word, content = '', contentless_delete = 1, tokenize = 'trigram');
CREATE TRIGGER search_words_insert AFTER INSERT ON search_words BEGIN
    INSERT INTO search_parts (rowid, word) VALUES (new.id, '  ' || new.word || ' ');
END;
CREATE TRIGGER search_words_delete AFTER DELETE ON search_words BEGIN
    DELETE FROM search_parts WHERE rowid = old.id;
END;

-- The first answers to requests that may come again.
CREATE TABLE requests (
    account      TEXT NOT NULL,
    method       TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    answer       BLOB NOT NULL,
    create_ms    BIGINT NOT NULL,
    PRIMARY KEY (account, method, request_id)
) WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (create_ms);
