-- One-time codes: verifications, the attempts to deliver their codes, and everything that governs them.

ALTER TABLE accounts ADD COLUMN verification_events_url TEXT; -- receives events about verifications; null: none

-- How messages are sent: the accounts at gateways and mail servers.
CREATE TABLE outlets (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('smtp', 'twilio', 'http', 'capture')),
    channels      TEXT    NOT NULL,             -- JSON: array
    settings      BYTEA   NOT NULL,             -- sealed
    rate          BIGINT,                       -- messages per second; null: as many as there are
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);
CREATE INDEX outlets_of_account ON outlets (account_sid, created_at, sid);

CREATE TABLE verifications (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL,
    service_sid   UUID    NOT NULL REFERENCES services ON DELETE CASCADE,
    recipient     TEXT    NOT NULL,             -- phone number or mail address, as it was given
    recipient_key TEXT    NOT NULL,             -- the same in its normal form
    channel       TEXT    NOT NULL CHECK (channel IN ('sms', 'call', 'email', 'whatsapp')), -- of the last attempt
    status        TEXT    NOT NULL CHECK (status IN ('pending', 'approved', 'canceled', 'max_attempts_reached', 'expired')),
    code          BYTEA,                        -- sealed; null: the verification is closed
    is_custom     BIGINT  NOT NULL CHECK (is_custom IN (0, 1)), -- 1: the caller chose the code
    amount        TEXT,                         -- of the payment; null: none, or the verification is closed
    payee         TEXT,
    sends         BIGINT  NOT NULL,
    wrong_checks  TEXT    NOT NULL,             -- JSON: array of instants
    expires_at    BIGINT  NOT NULL,
    closed_at     BIGINT,                       -- null: its recipient has no other verification in this service
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);
CREATE UNIQUE INDEX verifications_open ON verifications (service_sid, recipient_key) WHERE closed_at IS NULL;
CREATE INDEX verifications_of_service ON verifications (service_sid);
CREATE INDEX verifications_expiring ON verifications (expires_at) WHERE closed_at IS NULL;
CREATE INDEX verifications_closed ON verifications (closed_at) WHERE closed_at IS NOT NULL;
-- Values that are sealed under another master key.
CREATE INDEX verifications_with_code ON verifications (sid) WHERE code IS NOT NULL;

CREATE TABLE verification_attempts (
    sid              UUID    NOT NULL PRIMARY KEY,
    account_sid      UUID    NOT NULL,
    service_sid      UUID    NOT NULL,
    verification_sid UUID    NOT NULL REFERENCES verifications ON DELETE CASCADE,
    recipient        TEXT    NOT NULL,
    recipient_key    TEXT    NOT NULL,
    number_prefix    TEXT,                      -- without the last four digits; null: mail
    channel          TEXT    NOT NULL CHECK (channel IN ('sms', 'call', 'email', 'whatsapp')),
    country          TEXT,                      -- ISO 3166-1 alpha-2; null: mail, or a number of no country
    code_length      BIGINT  NOT NULL,
    locale           TEXT,
    is_converted     BIGINT  NOT NULL CHECK (is_converted IN (0, 1)),
    message_status   TEXT,                      -- null: nothing is known yet
    error_code       BIGINT,
    message          TEXT,                      -- JSON: what the text is made of, but the code; null: closed
    tags             TEXT,                      -- JSON: object of strings; null: none
    expires_at       BIGINT  NOT NULL,          -- of the verification
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL
);
CREATE INDEX verification_attempts_of_account ON verification_attempts (account_sid, created_at, sid);
CREATE INDEX verification_attempts_of_service ON verification_attempts (service_sid, created_at, sid);
CREATE INDEX verification_attempts_of_verification ON verification_attempts (verification_sid, created_at, sid);
CREATE INDEX verification_attempts_to_recipient ON verification_attempts (account_sid, recipient_key, created_at, sid);
CREATE INDEX verification_attempts_to_country ON verification_attempts (account_sid, country, created_at, sid);
CREATE INDEX verification_attempts_through_channel ON verification_attempts (account_sid, channel, created_at, sid);
CREATE INDEX verification_attempts_of_conversion ON verification_attempts (account_sid, is_converted, created_at, sid);
CREATE INDEX verification_attempts_to_prefix ON verification_attempts (service_sid, number_prefix, created_at, sid);

CREATE TABLE rate_limits (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL,
    service_sid   UUID    NOT NULL REFERENCES services ON DELETE CASCADE,
    unique_name   TEXT    NOT NULL,
    description   TEXT,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    CONSTRAINT rate_limits_unique_name UNIQUE (service_sid, unique_name)
);
CREATE INDEX rate_limits_of_service ON rate_limits (service_sid, created_at, sid);

CREATE TABLE buckets (
    sid              UUID    NOT NULL PRIMARY KEY,
    account_sid      UUID    NOT NULL,
    service_sid      UUID    NOT NULL,
    rate_limit_sid   UUID    NOT NULL REFERENCES rate_limits ON DELETE CASCADE,
    max_requests     BIGINT  NOT NULL,
    interval_seconds BIGINT  NOT NULL,
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    CONSTRAINT buckets_interval UNIQUE (rate_limit_sid, interval_seconds)
);
CREATE INDEX buckets_of_rate_limit ON buckets (rate_limit_sid, created_at, sid);

-- The verifications that were created with a value of a rate limit, as long as a bucket counts them. The rows of a
-- deleted bucket stay until they expire, so that its deletion does not depend on their number.
CREATE TABLE bucket_hits (
    service_sid   UUID    NOT NULL,
    bucket_sid    UUID    NOT NULL,
    value         BYTEA   NOT NULL,             -- SHA-256
    attempt_sid   UUID    NOT NULL,
    created_at    BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL,
    PRIMARY KEY (service_sid, bucket_sid, value, created_at, attempt_sid)
);
CREATE INDEX bucket_hits_by_age ON bucket_hits (expires_at);

CREATE TABLE messaging_configurations (
    sid                   UUID    NOT NULL PRIMARY KEY, -- internal: the API names it by its country
    account_sid           UUID    NOT NULL,
    service_sid           UUID    NOT NULL REFERENCES services ON DELETE CASCADE,
    country               TEXT    NOT NULL,     -- ISO 3166-1 alpha-2, or all
    messaging_service_sid UUID    NOT NULL,
    created_at            BIGINT  NOT NULL,
    updated_at            BIGINT  NOT NULL,
    CONSTRAINT messaging_configurations_country UNIQUE (service_sid, country)
);
CREATE INDEX messaging_configurations_of_service ON messaging_configurations (service_sid, created_at, sid);

CREATE TABLE safe_numbers (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    phone_number  TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    CONSTRAINT safe_numbers_phone_number UNIQUE (account_sid, phone_number)
);

CREATE TABLE templates (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    channels      TEXT    NOT NULL,             -- JSON: array
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);
CREATE INDEX templates_of_account ON templates (account_sid, created_at, sid);
CREATE INDEX templates_by_name ON templates (account_sid, friendly_name, created_at, sid);

CREATE TABLE template_translations (
    template_sid  UUID    NOT NULL REFERENCES templates ON DELETE CASCADE,
    locale        TEXT    NOT NULL,
    is_default    BIGINT  NOT NULL CHECK (is_default IN (0, 1)),
    text          TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    PRIMARY KEY (template_sid, locale)
);
