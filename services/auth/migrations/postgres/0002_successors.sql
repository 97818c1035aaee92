-- What a used refresh token gives again when its answer was lost: the random part of its successor, readable only with
-- the token itself.
ALTER TABLE refresh_tokens ADD COLUMN successor BYTEA;

-- No address has a share of the challenges any more.
DROP INDEX challenges_by_address;
