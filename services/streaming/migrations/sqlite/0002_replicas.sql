-- What several processes need to serve one session, and what is told of it.
ALTER TABLE sessions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
-- Last time it ended, was doubted, or its viewer started or stopped: other processes look for it.
ALTER TABLE sessions ADD COLUMN changed_ms INTEGER NOT NULL DEFAULT 0;
-- Checks that began before this do not count.
ALTER TABLE sessions ADD COLUMN doubted_ms INTEGER NOT NULL DEFAULT 0;
-- 1 from streaming.started to streaming.stopped.
ALTER TABLE sessions ADD COLUMN playing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN started_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN sent_bytes INTEGER NOT NULL DEFAULT 0;

CREATE INDEX sessions_changed ON sessions (changed_ms);
CREATE INDEX sessions_running ON sessions (playback_id, account_id, expires_ms) WHERE state = 'active';
CREATE INDEX sessions_playing ON sessions (used_ms) WHERE playing = 1;
CREATE INDEX sessions_by_time ON sessions (created_ms DESC, session_id DESC);
CREATE INDEX sessions_by_title ON sessions (content_id, created_ms DESC, session_id DESC);
