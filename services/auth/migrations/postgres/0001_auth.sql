-- Who may act: a wallet, or an API key. Roles are kept here and nowhere else.
CREATE TABLE accounts (
    id         TEXT COLLATE "C" PRIMARY KEY,
    -- Lower-case 0x address; absent for the account of an API key.
    address    TEXT COLLATE "C" UNIQUE,
    -- CAIP-10 form of the newest sign-in.
    wallet     TEXT COLLATE "C",
    role       TEXT COLLATE "C" NOT NULL CHECK (role IN ('viewer', 'creator', 'operator')),
    created_at BIGINT NOT NULL
);

-- Messages that were handed out to be signed. A row is deleted by the one sign-in that uses it.
CREATE TABLE challenges (
    id         TEXT COLLATE "C" PRIMARY KEY,
    address    TEXT COLLATE "C" NOT NULL,
    domain     TEXT COLLATE "C" NOT NULL,
    nonce      TEXT COLLATE "C" NOT NULL,
    message    TEXT COLLATE "C" NOT NULL,
    failures   BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX challenges_by_address ON challenges (address, created_at);
CREATE INDEX challenges_by_age ON challenges (created_at);
CREATE INDEX challenges_by_expiry ON challenges (expires_at);

-- One sign-in and all the refresh tokens that follow from it.
CREATE TABLE sign_ins (
    id         TEXT COLLATE "C" PRIMARY KEY,
    account_id TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    wallet     TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX sign_ins_by_account ON sign_ins (account_id);

-- Refresh tokens by their SHA-256. A used one stays until it would have expired: using it again is a theft.
CREATE TABLE refresh_tokens (
    hash       BYTEA PRIMARY KEY,
    sign_in_id TEXT COLLATE "C" NOT NULL REFERENCES sign_ins (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX refresh_tokens_by_sign_in ON refresh_tokens (sign_in_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Keys that tokens are signed with. The newest signs; the others only verify, until they are withdrawn.
CREATE TABLE signing_keys (
    kid         TEXT COLLATE "C" PRIMARY KEY,
    seed        BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    withdraw_at BIGINT
);

-- Keys of machines, by the SHA-256 of their secret.
CREATE TABLE api_keys (
    id          TEXT COLLATE "C" PRIMARY KEY,
    account_id  TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES accounts (id),
    name        TEXT COLLATE "C" NOT NULL,
    secret_hash BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    revoked_at  BIGINT
);
