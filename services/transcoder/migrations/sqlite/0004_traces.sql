-- The place in a trace of the request that asked, as W3C writes it; empty for jobs of old.
ALTER TABLE jobs ADD COLUMN trace_parent TEXT NOT NULL DEFAULT '';
-- Workers in a row that went silent before they had made anything.
ALTER TABLE jobs ADD COLUMN silences INTEGER NOT NULL DEFAULT 0;
