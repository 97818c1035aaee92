-- Holds the sizes too: how much is kept is counted each minute, and the lines themselves are long.
DROP INDEX logs_by_time;
CREATE INDEX logs_by_time ON logs (time_ms, line_id, size_bytes);
