-- Before this time no sweep deletes bytes of a doomed upload: after a failure others come first, and what a late writer leaves
-- of an upload is looked for when it must have ended.
ALTER TABLE uploads ADD COLUMN delete_from_ms INTEGER NOT NULL DEFAULT 0;
DROP INDEX uploads_doomed;
CREATE INDEX uploads_doomed ON uploads (delete_from_ms, doomed) WHERE doomed <> 0;
