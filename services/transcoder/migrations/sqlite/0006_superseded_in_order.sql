-- Versions to purge are gone through in order, a page behind the other.
DROP INDEX jobs_superseded;
CREATE INDEX jobs_superseded ON jobs (superseded_ms, seq) WHERE superseded_ms > 0 AND purged < 2;
