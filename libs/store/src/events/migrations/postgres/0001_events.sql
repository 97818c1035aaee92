-- Events that left in a committed change, and who still has to hear of them.
CREATE TABLE IF NOT EXISTS outbox_events (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    subject    TEXT NOT NULL,
    body       BYTEA NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS outbox_deliveries (
    consumer TEXT NOT NULL,
    seq      BIGINT NOT NULL REFERENCES outbox_events (seq) ON DELETE CASCADE,
    subject  TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_ms  BIGINT NOT NULL,
    -- 1: the consumer refuses it for good; kept for people to look at.
    dead     BIGINT NOT NULL DEFAULT 0,
    error    TEXT,
    PRIMARY KEY (consumer, seq)
);

CREATE INDEX IF NOT EXISTS outbox_deliveries_waiting ON outbox_deliveries (consumer, subject, seq) WHERE dead = 0;
CREATE INDEX IF NOT EXISTS outbox_deliveries_seq ON outbox_deliveries (seq);

-- Events of others that were handled.
CREATE TABLE IF NOT EXISTS inbox_events (
    id      TEXT PRIMARY KEY,
    seen_ms BIGINT NOT NULL
);

CREATE INDEX IF NOT EXISTS inbox_events_seen ON inbox_events (seen_ms);
