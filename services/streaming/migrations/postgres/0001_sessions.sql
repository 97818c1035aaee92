-- Playback sessions. `state` is active, ended or revoked; a session past expires_ms counts as expired.
CREATE TABLE sessions (
    session_id     TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    playback_id    TEXT COLLATE "C" NOT NULL,
    content_id     TEXT COLLATE "C" NOT NULL,
    -- The account that plays; absent when nobody signed in.
    account_id     TEXT COLLATE "C",
    -- CAIP-10 wallet that the gate is checked for.
    wallet         TEXT COLLATE "C",
    -- The owner and operators play whatever the gate says.
    privileged     BIGINT NOT NULL,
    -- Gate at the opening; the token carries the same.
    opened_gate    TEXT COLLATE "C" NOT NULL,
    -- Gate that last granted.
    gate_hash      TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,
    reason         TEXT COLLATE "C" NOT NULL DEFAULT '',
    -- Requirements that were not met, one a line.
    unmet          TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_ms     BIGINT NOT NULL,
    expires_ms     BIGINT NOT NULL,
    -- Last time the gate granted.
    checked_ms     BIGINT NOT NULL,
    used_ms        BIGINT NOT NULL
);

CREATE INDEX sessions_by_account ON sessions (account_id, created_ms DESC, session_id DESC);
CREATE INDEX sessions_by_content ON sessions (content_id) WHERE state = 'active';
CREATE INDEX sessions_by_end ON sessions (expires_ms);
