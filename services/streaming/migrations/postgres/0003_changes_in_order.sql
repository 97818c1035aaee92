-- Changes are read page by page, in the order of their times and ids.
DROP INDEX sessions_changed;
CREATE INDEX sessions_changed ON sessions (changed_ms, session_id);
