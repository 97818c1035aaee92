-- Events that left in a committed change, and who still has to hear of them.
CREATE TABLE IF NOT EXISTS outbox_events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    subject    TEXT NOT NULL,
    body       BLOB NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS outbox_deliveries (
    consumer TEXT NOT NULL,
    seq      INTEGER NOT NULL REFERENCES outbox_events (seq) ON DELETE CASCADE,
    subject  TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_ms  INTEGER NOT NULL,
    -- 1: the consumer refuses it for good; kept for people to look at.
    dead     INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    PRIMARY KEY (consumer, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS outbox_deliveries_waiting ON outbox_deliveries (consumer, subject, seq) WHERE dead = 0;
CREATE INDEX IF NOT EXISTS outbox_deliveries_seq ON outbox_deliveries (seq);

-- Events of others that were handled.
CREATE TABLE IF NOT EXISTS inbox_events (
    id      TEXT PRIMARY KEY,
    seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS inbox_events_seen ON inbox_events (seen_ms);
