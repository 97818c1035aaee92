-- What a title's owner adds to it, and how long a deleted one can be brought back.
ALTER TABLE contents ADD COLUMN attributes TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE contents ADD COLUMN purge_ms BIGINT;
ALTER TABLE contents ADD COLUMN purged BIGINT NOT NULL DEFAULT 0;
-- The title as it is sorted: its words without case and accents.
ALTER TABLE contents ADD COLUMN title_key TEXT COLLATE "C" NOT NULL DEFAULT '';
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
    tag        TEXT COLLATE "C" NOT NULL,
    content_id TEXT COLLATE "C" NOT NULL REFERENCES contents (content_id),
    owner      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, content_id)
);
CREATE INDEX content_tags_by_owner ON content_tags (owner, tag, content_id);
CREATE INDEX content_tags_by_content ON content_tags (content_id);

-- What a title's gate asks for. An empty chain stands for any chain, an empty contract for any contract.
CREATE TABLE content_gates (
    chain      TEXT COLLATE "C" NOT NULL,
    contract   TEXT COLLATE "C" NOT NULL,
    content_id TEXT COLLATE "C" NOT NULL REFERENCES contents (content_id),
    owner      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (chain, contract, content_id)
);
CREATE INDEX content_gates_by_owner ON content_gates (owner, chain, contract, content_id);
CREATE INDEX content_gates_by_content ON content_gates (content_id);

-- The words of live titles, without case and accents; A the title, B tags, C the text. The owner is a word of its own, so
-- that a search reads the caller's titles and nobody else's.
DROP INDEX contents_by_words;
ALTER TABLE contents DROP COLUMN words;
CREATE TABLE content_words (
    content_id TEXT COLLATE "C" PRIMARY KEY REFERENCES contents (content_id),
    words      TSVECTOR NOT NULL
);
CREATE INDEX content_words_by_word ON content_words USING GIN (words);

-- Every word of a title or a tag, for words that are mistyped. Services in schemas of their own share the extension.
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;
EXCEPTION WHEN unique_violation OR duplicate_object THEN NULL;
END $$;
CREATE TABLE search_words (
    word TEXT COLLATE "C" PRIMARY KEY
);
CREATE INDEX search_words_by_part ON search_words USING GIN (word public.gin_trgm_ops);

-- The first answers to requests that may come again.
CREATE TABLE requests (
    account      TEXT COLLATE "C" NOT NULL,
    method       TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    request_hash TEXT COLLATE "C" NOT NULL,
    answer       BYTEA NOT NULL,
    create_ms    BIGINT NOT NULL,
    PRIMARY KEY (account, method, request_id)
);
CREATE INDEX requests_by_age ON requests (create_ms);
