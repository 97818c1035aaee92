-- The place in a trace of the request that asked, as W3C writes it; empty when nobody did.
ALTER TABLE jobs ADD COLUMN trace_parent TEXT NOT NULL DEFAULT '';
