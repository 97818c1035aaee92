-- An event that has arrived everywhere stays for a while, to be replayed. Events that nobody could take are kept apart.
ALTER TABLE outbox_events ADD COLUMN stream_seq INTEGER;
CREATE INDEX outbox_events_created ON outbox_events (created_ms);
CREATE INDEX outbox_events_stream ON outbox_events (stream_seq) WHERE stream_seq IS NOT NULL;

-- Failures that may be the event's own fault; a consumer that is away is none.
ALTER TABLE outbox_deliveries ADD COLUMN strikes INTEGER NOT NULL DEFAULT 0;
-- 1: to be handled even by a consumer that has handled it.
ALTER TABLE outbox_deliveries ADD COLUMN again INTEGER NOT NULL DEFAULT 0;

-- Events that a consumer could not take: of ours, or of others when the consumer is this service.
CREATE TABLE dead_letters (
    -- The event's id and the consumer.
    id       TEXT PRIMARY KEY,
    event_id TEXT NOT NULL,
    consumer TEXT NOT NULL,
    -- 1: an event of another service.
    incoming INTEGER NOT NULL,
    subject  TEXT NOT NULL,
    body     BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    detail   TEXT NOT NULL,
    dead_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX dead_letters_time ON dead_letters (dead_ms, id);
CREATE INDEX dead_letters_event ON dead_letters (event_id);

INSERT INTO dead_letters (id, event_id, consumer, incoming, subject, body, attempts, reason, detail, dead_ms)
SELECT e.id || ':' || d.consumer, e.id, d.consumer, 0, d.subject, e.body, d.attempts, 'refused', COALESCE(d.error, ''), e.created_ms
FROM outbox_deliveries d JOIN outbox_events e ON e.seq = d.seq WHERE d.dead = 1;
DELETE FROM outbox_deliveries WHERE dead = 1;

-- Events of others that a broker brought and that are not handled yet.
CREATE TABLE inbox_queue (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    subject     TEXT NOT NULL,
    body        BLOB NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    strikes     INTEGER NOT NULL DEFAULT 0,
    next_ms     INTEGER NOT NULL,
    again       INTEGER NOT NULL DEFAULT 0,
    received_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX inbox_queue_waiting ON inbox_queue (subject, seq);

-- The broker's stream as it was when we last looked. A stream of another identity has lost what we told it.
CREATE TABLE event_streams (
    -- 'sent' or 'received'.
    role     TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    -- The last message of it that was taken over into inbox_queue.
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
