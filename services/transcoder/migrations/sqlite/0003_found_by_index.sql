-- The job of an upload is looked for whenever the upload is told again.
CREATE INDEX jobs_upload ON jobs (upload_id);
-- What an account has of one state. An index of states alone would tempt SQLite, which knows no numbers, to read all that ended.
CREATE INDEX jobs_owner_state ON jobs (owner, state, seq);
-- Titles whose media is still to be deleted.
CREATE INDEX deleted_contents_pending ON deleted_contents (content_id) WHERE pending = 1;
