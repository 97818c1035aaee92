-- Who may act: a wallet, or an API key. Roles are kept here and nowhere else.
CREATE TABLE accounts (
    id         TEXT PRIMARY KEY,
    -- Lower-case 0x address; absent for the account of an API key.
    address    TEXT UNIQUE,
    -- CAIP-10 form of the newest sign-in.
    wallet     TEXT,
    role       TEXT NOT NULL CHECK (role IN ('viewer', 'creator', 'operator')),
    created_at INTEGER NOT NULL
) STRICT;

-- Messages that were handed out to be signed. A row is deleted by the one sign-in that uses it.
CREATE TABLE challenges (
    id         TEXT PRIMARY KEY,
    address    TEXT NOT NULL,
    domain     TEXT NOT NULL,
    nonce      TEXT NOT NULL,
    message    TEXT NOT NULL,
    failures   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX challenges_by_address ON challenges (address, created_at);
CREATE INDEX challenges_by_age ON challenges (created_at);
CREATE INDEX challenges_by_expiry ON challenges (expires_at);

-- One sign-in and all the refresh tokens that follow from it.
CREATE TABLE sign_ins (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    wallet     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX sign_ins_by_account ON sign_ins (account_id);

-- Refresh tokens by their SHA-256. A used one stays until it would have expired: using it again is a theft.
CREATE TABLE refresh_tokens (
    hash       BLOB PRIMARY KEY,
    sign_in_id TEXT NOT NULL REFERENCES sign_ins (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX refresh_tokens_by_sign_in ON refresh_tokens (sign_in_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Keys that tokens are signed with. The newest signs; the others only verify, until they are withdrawn.
CREATE TABLE signing_keys (
    kid         TEXT PRIMARY KEY,
    seed        BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    withdraw_at INTEGER
) STRICT;

-- Keys of machines, by the SHA-256 of their secret.
CREATE TABLE api_keys (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL UNIQUE REFERENCES accounts (id),
    name        TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT;
