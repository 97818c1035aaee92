-- What an account has open is counted whenever it begins another.
CREATE INDEX uploads_open ON uploads (owner) WHERE state = 'open';
