-- Playback sessions. `state` is active, ended or revoked; a session past expires_ms counts as expired.
CREATE TABLE sessions (
    session_id     TEXT PRIMARY KEY NOT NULL,
    playback_id    TEXT NOT NULL,
    content_id     TEXT NOT NULL,
    -- The account that plays; absent when nobody signed in.
    account_id     TEXT,
    -- CAIP-10 wallet that the gate is checked for.
    wallet         TEXT,
    -- The owner and operators play whatever the gate says.
    privileged     INTEGER NOT NULL,
    -- Gate at the opening; the token carries the same.
    opened_gate    TEXT NOT NULL,
    -- Gate that last granted.
    gate_hash      TEXT NOT NULL,
    state          TEXT NOT NULL,
    reason         TEXT NOT NULL DEFAULT '',
    -- Requirements that were not met, one a line.
    unmet          TEXT NOT NULL DEFAULT '',
    created_ms     INTEGER NOT NULL,
    expires_ms     INTEGER NOT NULL,
    -- Last time the gate granted.
    checked_ms     INTEGER NOT NULL,
    used_ms        INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_account ON sessions (account_id, created_ms DESC, session_id DESC);
CREATE INDEX sessions_by_content ON sessions (content_id) WHERE state = 'active';
CREATE INDEX sessions_by_end ON sessions (expires_ms);
