-- Verify Push: accounts and their API keys, services, entities, factors, challenges, access tokens.
--
-- The same tables and columns as on SQLite. An instant is in microseconds since the Unix epoch. A SID whose kind the
-- column determines is stored as a UUID: its 16 bytes, without the two letters at its start. JSON is text. A sealed
-- value is encrypted under the master key. Nothing here is derived from the current time, such as "expired".

CREATE TABLE accounts (
    sid              UUID    NOT NULL PRIMARY KEY,
    friendly_name    TEXT    NOT NULL,
    auth_token       BYTEA   NOT NULL,          -- sealed
    debugger_webhook TEXT,                      -- URL that receives the account's alerts; null: none
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL
);

CREATE TABLE api_keys (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    secret_hash   BYTEA   NOT NULL,             -- keyed hash of the secret, which is not stored
    created_at    BIGINT  NOT NULL
);
CREATE INDEX api_keys_of_account ON api_keys (account_sid, created_at, sid);

-- The keys that encrypt access tokens. The newest encrypts new tokens; all of them decrypt.
CREATE TABLE enrollment_keys (
    kid           TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- UUIDv7, which sorts by creation time
    secret        BYTEA   NOT NULL,             -- sealed
    created_at    BIGINT  NOT NULL
);

-- A deleted service is marked at once. Its rows are removed later, in batches:
-- docs/decisions/0011-deletion-in-the-background.md
CREATE TABLE services (
    sid                    UUID    NOT NULL PRIMARY KEY,
    account_sid            UUID    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    settings               TEXT    NOT NULL,    -- JSON: everything that a caller can set
    max_pending_challenges BIGINT,              -- of each factor; null: the server's limit; 0: no limit
    challenges_per_minute  BIGINT,              -- of each factor; null: the server's limit; 0: no limit
    created_at             BIGINT  NOT NULL,
    updated_at             BIGINT  NOT NULL,
    deleted_at             BIGINT               -- null: not deleted
);
CREATE INDEX services_of_account ON services (account_sid, created_at, sid);
CREATE INDEX services_deleted ON services (deleted_at) WHERE deleted_at IS NOT NULL;

-- A deleted entity is marked like a service. Its identity is replaced, so that a new entity can have it.
CREATE TABLE entities (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL,
    service_sid   UUID    NOT NULL REFERENCES services ON DELETE CASCADE,
    identity      TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    deleted_at    BIGINT,                       -- null: not deleted
    CONSTRAINT entities_identity UNIQUE (service_sid, identity)
);
CREATE INDEX entities_of_service ON entities (service_sid, created_at, sid) WHERE deleted_at IS NULL;
CREATE INDEX entities_deleted ON entities (deleted_at) WHERE deleted_at IS NOT NULL;

-- What all factors have. What a type adds is in a table of its own, whose rows are deleted with those of this table.
CREATE TABLE factors (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL,
    service_sid   UUID    NOT NULL,
    entity_sid    UUID    NOT NULL REFERENCES entities ON DELETE CASCADE,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    factor_type   TEXT    NOT NULL CHECK (factor_type IN ('push', 'totp', 'passkeys')),
    identity      TEXT    NOT NULL,
    friendly_name TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN ('unverified', 'verified')),
    metadata      TEXT                          -- JSON
);
CREATE INDEX factors_of_entity ON factors (entity_sid, created_at, sid);
-- A factor leaves this index when it is verified.
CREATE INDEX factors_unverified ON factors (created_at) WHERE status = 'unverified';

-- The SIDs of account, service and entity are copies, for keys and for statements that need no other table.
CREATE TABLE push_factors (
    factor_sid            UUID    NOT NULL PRIMARY KEY REFERENCES factors ON DELETE CASCADE,
    account_sid           UUID    NOT NULL,
    service_sid           UUID    NOT NULL,
    entity_sid            UUID    NOT NULL,
    credential_sid        UUID    NOT NULL,     -- kid of the device's signatures; never changes
    token_registered_at   BIGINT  NOT NULL,     -- when the device last sent its token
    unreachable           BIGINT  NOT NULL DEFAULT 0, -- 1: the provider rejected the token, so nothing is pushed
    public_key            BYTEA   NOT NULL,     -- SubjectPublicKeyInfo in DER
    app_id                TEXT    NOT NULL,
    sdk_version           TEXT,
    notification_platform TEXT    NOT NULL CHECK (notification_platform IN ('none', 'apn', 'fcm')),
    notification_token    TEXT,
    CONSTRAINT push_factors_credential UNIQUE (credential_sid),
    CONSTRAINT push_factors_key UNIQUE (entity_sid, public_key),
    CHECK ((notification_platform = 'none') = (notification_token IS NULL))
);
-- The factors to try again when a push credential changes.
CREATE INDEX push_factors_unreachable ON push_factors (account_sid) WHERE unreachable = 1;

CREATE TABLE totp_factors (
    factor_sid           UUID    NOT NULL PRIMARY KEY REFERENCES factors ON DELETE CASCADE,
    service_sid          UUID    NOT NULL,
    time_step            BIGINT  NOT NULL,      -- seconds
    code_length          BIGINT  NOT NULL,      -- digits
    skew                 BIGINT  NOT NULL,      -- time steps
    last_step            BIGINT,                -- time step of the last accepted code; null: none was accepted
    failed_verifications BIGINT  NOT NULL,
    algorithm            TEXT    NOT NULL CHECK (algorithm IN ('sha1', 'sha256', 'sha512')),
    secret               BYTEA   NOT NULL       -- sealed
);

CREATE TABLE passkey_factors (
    factor_sid               UUID    NOT NULL PRIMARY KEY REFERENCES factors ON DELETE CASCADE,
    account_sid              UUID    NOT NULL,
    service_sid              UUID    NOT NULL,
    aaguid                   UUID,              -- model of the authenticator; null: unverified
    cose_algorithm           BIGINT,            -- null: unverified, like the next four
    sign_count               BIGINT,            -- of the last accepted signature
    user_verified            BIGINT,            -- 0 or 1, like the next two
    backup_eligible          BIGINT,
    backed_up                BIGINT,
    last_used_at             BIGINT,            -- null: approved no challenge
    rp_id                    TEXT    NOT NULL,  -- domain name of the relying party
    rp_name                  TEXT    NOT NULL,
    origins                  TEXT    NOT NULL,  -- JSON: array of texts
    authenticator_attachment TEXT    NOT NULL,
    discoverable_credentials TEXT    NOT NULL,
    user_verification        TEXT    NOT NULL,
    challenge_digest         BYTEA   NOT NULL,  -- SHA-256 of the challenge of the registration
    credential_id            BYTEA,             -- null: unverified, like the next two
    credential_key           BYTEA,             -- SubjectPublicKeyInfo in DER
    transports               TEXT,              -- JSON: array of texts
    CONSTRAINT passkey_factors_credential UNIQUE (account_sid, rp_id, credential_id),
    CHECK ((credential_id IS NULL) = (credential_key IS NULL))
);

-- A challenge outlives its factor, so factor_sid is not a reference. Only a passkey challenge can lack the factor, and
-- also the entity, until it is approved.
CREATE TABLE challenges (
    sid            UUID    NOT NULL PRIMARY KEY,
    account_sid    UUID    NOT NULL,
    service_sid    UUID    NOT NULL,
    entity_sid     UUID    REFERENCES entities ON DELETE CASCADE,
    factor_sid     UUID,
    created_at     BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL,
    expires_at     BIGINT  NOT NULL,            -- a whole second
    responded_at   BIGINT,                      -- null: not answered
    attempts       BIGINT  NOT NULL DEFAULT 0,  -- wrong codes so far, of TOTP
    factor_type    TEXT    NOT NULL CHECK (factor_type IN ('push', 'totp', 'passkeys')),
    status         TEXT    NOT NULL CHECK (status IN ('pending', 'voided', 'approved', 'denied')),
    identity       TEXT,
    message        TEXT,
    fields         TEXT,                        -- JSON: array of label and value
    details_date   BIGINT,
    hidden_details TEXT,                        -- JSON
    metadata       TEXT,                        -- JSON
    answer_digest  BYTEA,                       -- SHA-256 of the payload that answered, which may come again
    CHECK ((status IN ('approved', 'denied')) = (responded_at IS NOT NULL)),
    CHECK ((entity_sid IS NULL) = (identity IS NULL)),
    CHECK (factor_sid IS NULL OR entity_sid IS NOT NULL),
    CHECK (factor_type = 'passkeys' OR (factor_sid IS NOT NULL AND fields IS NOT NULL)),
    CHECK (factor_type <> 'push' OR message IS NOT NULL)
);
-- Three indexes serve every list of an entity's challenges, each in the order of the list. The factor comes last: it
-- excludes rows before they are read, and an entity has only a few factors.
CREATE INDEX challenges_of_entity ON challenges (entity_sid, created_at, sid, factor_sid);
CREATE INDEX challenges_unanswered ON challenges (entity_sid, created_at, sid, factor_sid) WHERE responded_at IS NULL;
CREATE INDEX challenges_answered ON challenges (entity_sid, status, created_at, sid, factor_sid)
    WHERE responded_at IS NOT NULL;
CREATE INDEX challenges_by_expiry ON challenges (expires_at);
-- Housekeeping removes these rows with their service.
CREATE INDEX challenges_without_entity ON challenges (service_sid) WHERE entity_sid IS NULL;

-- What a passkey challenge adds.
CREATE TABLE passkey_challenges (
    challenge_sid     UUID    NOT NULL PRIMARY KEY REFERENCES challenges ON DELETE CASCADE,
    service_sid       UUID    NOT NULL,
    rp_id             TEXT    NOT NULL,         -- domain name of the relying party
    origins           TEXT    NOT NULL,         -- JSON: array of texts
    user_verification TEXT    NOT NULL,
    challenge_digest  BYTEA   NOT NULL,         -- SHA-256 of the WebAuthn challenge
    options           TEXT    NOT NULL          -- JSON: the options for the browser, without the challenge
);

CREATE TABLE access_tokens (
    sid                  UUID    NOT NULL PRIMARY KEY,
    account_sid          UUID    NOT NULL,
    service_sid          UUID    NOT NULL REFERENCES services ON DELETE CASCADE,
    spent_on             UUID,                  -- SID of the factor that was created with it; null: not spent
    created_at           BIGINT  NOT NULL,
    expires_at           BIGINT  NOT NULL,
    ttl                  BIGINT  NOT NULL,      -- seconds
    identity             TEXT    NOT NULL,
    factor_type          TEXT    NOT NULL,
    factor_friendly_name TEXT,
    token                BYTEA   NOT NULL       -- sealed
);
CREATE INDEX access_tokens_of_service ON access_tokens (service_sid);
CREATE INDEX access_tokens_by_expiry ON access_tokens (expires_at);
