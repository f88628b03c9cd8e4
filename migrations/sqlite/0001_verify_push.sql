-- Verify Push: accounts and who may call for them, services, entities, factors, challenges, access tokens.
--
-- The same table and column names as on PostgreSQL. Instants are microseconds since the Unix epoch,
-- SIDs are their text form, JSON is text, sealed columns are encrypted under the master key.
-- Times that only a rule computes (a challenge's expiry) are not states: see countersign-domain.

CREATE TABLE accounts (
    sid           TEXT    NOT NULL PRIMARY KEY,
    friendly_name TEXT    NOT NULL,
    auth_token    BLOB    NOT NULL,             -- sealed
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    sid           TEXT    NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    secret_hash   BLOB    NOT NULL,             -- keyed hash; the secret is kept nowhere
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_of_account ON api_keys (account_sid, created_at, sid);

-- The ring of keys under which access tokens are encrypted; the newest issues, all open.
CREATE TABLE enrollment_keys (
    kid           TEXT    NOT NULL PRIMARY KEY, -- UUIDv7: sorts by creation
    secret        BLOB    NOT NULL,             -- sealed
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE services (
    sid           TEXT    NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    settings      TEXT    NOT NULL,             -- JSON, everything that a caller can set
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX services_of_account ON services (account_sid, created_at, sid);

CREATE TABLE entities (
    sid           TEXT    NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL,
    service_sid   TEXT    NOT NULL REFERENCES services ON DELETE CASCADE,
    identity      TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    CONSTRAINT entities_identity UNIQUE (service_sid, identity)
) STRICT;
CREATE INDEX entities_of_service ON entities (service_sid, created_at, sid);

CREATE TABLE factors (
    sid                   TEXT    NOT NULL PRIMARY KEY,
    account_sid           TEXT    NOT NULL,
    service_sid           TEXT    NOT NULL,
    entity_sid            TEXT    NOT NULL REFERENCES entities ON DELETE CASCADE,
    identity              TEXT    NOT NULL,
    friendly_name         TEXT    NOT NULL,
    public_key            BLOB    NOT NULL,     -- DER SubjectPublicKeyInfo
    credential_sid        TEXT    NOT NULL,     -- kid of the device's tokens, never changes
    status                TEXT    NOT NULL CHECK (status IN ('unverified', 'verified')),
    app_id                TEXT    NOT NULL,
    sdk_version           TEXT,
    notification_platform TEXT    NOT NULL CHECK (notification_platform IN ('none', 'apn', 'fcm')),
    notification_token    TEXT,
    metadata              TEXT,
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL,
    CONSTRAINT factors_credential UNIQUE (credential_sid),
    CONSTRAINT factors_key UNIQUE (entity_sid, public_key),
    -- Who is pushed to has an address, who is not has none.
    CHECK ((notification_platform = 'none') = (notification_token IS NULL))
) STRICT;
CREATE INDEX factors_of_entity ON factors (entity_sid, created_at, sid);

-- A challenge outlives its factor, so factor_sid is not a reference.
CREATE TABLE challenges (
    sid            TEXT    NOT NULL PRIMARY KEY,
    account_sid    TEXT    NOT NULL,
    service_sid    TEXT    NOT NULL,
    entity_sid     TEXT    NOT NULL REFERENCES entities ON DELETE CASCADE,
    identity       TEXT    NOT NULL,
    factor_sid     TEXT    NOT NULL,
    status         TEXT    NOT NULL CHECK (status IN ('pending', 'voided', 'approved', 'denied')),
    responded_at   INTEGER,
    message        TEXT    NOT NULL,
    fields         TEXT    NOT NULL,            -- JSON array of label and value
    details_date   INTEGER,
    hidden_details TEXT,
    metadata       TEXT,
    expires_at     INTEGER NOT NULL,            -- on a whole second
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    CHECK ((status IN ('approved', 'denied')) = (responded_at IS NOT NULL))
) STRICT;
CREATE INDEX challenges_of_entity ON challenges (entity_sid, created_at, sid);
CREATE INDEX challenges_of_factor ON challenges (factor_sid, created_at, sid);
-- What a polling phone asks for. Partial, so that an answer removes one entry instead of moving it.
CREATE INDEX challenges_pending ON challenges (factor_sid, created_at, sid) WHERE status = 'pending';

CREATE TABLE access_tokens (
    sid                  TEXT    NOT NULL PRIMARY KEY,
    account_sid          TEXT    NOT NULL,
    service_sid          TEXT    NOT NULL REFERENCES services ON DELETE CASCADE,
    identity             TEXT    NOT NULL,
    factor_type          TEXT    NOT NULL,
    factor_friendly_name TEXT,
    ttl                  INTEGER NOT NULL,
    token                BLOB    NOT NULL,      -- sealed
    expires_at           INTEGER NOT NULL,
    spent_on             TEXT,                  -- the factor that was made with it
    created_at           INTEGER NOT NULL
) STRICT;
CREATE INDEX access_tokens_of_service ON access_tokens (service_sid);
