-- What leaves the house: webhooks, push credentials, notifications, the outbox, alerts.

CREATE TABLE webhooks (
    sid           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL,
    service_sid   TEXT    NOT NULL REFERENCES services ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    event_types   TEXT    NOT NULL,             -- JSON array
    url           TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled')),
    version       TEXT    NOT NULL CHECK (version IN ('v1', 'v2')),
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);
CREATE INDEX webhooks_of_service ON webhooks (service_sid, created_at, sid);

CREATE TABLE credentials (
    sid           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT,
    type          TEXT    NOT NULL CHECK (type IN ('apn', 'fcm')),
    sandbox       BIGINT  NOT NULL CHECK (sandbox IN (0, 1)),
    content       BYTEA   NOT NULL,             -- sealed
    expires_at    BIGINT,                      -- of its certificate
    warned_days   BIGINT,                      -- how many days before that somebody was last warned
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);
CREATE INDEX credentials_of_account ON credentials (account_sid, created_at, sid);

CREATE TABLE notifications (
    sid           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    challenge_sid TEXT    NOT NULL REFERENCES challenges ON DELETE CASCADE,
    ttl           BIGINT  NOT NULL,
    created_at    BIGINT  NOT NULL
);
CREATE INDEX notifications_of_challenge ON notifications (challenge_sid);

-- The outbox. A row is written in the transaction of the change that owes it. Whoever makes an attempt
-- first moves due_at behind the end of its lease; a lease that runs out is a delivery that is due again.
CREATE TABLE deliveries (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- UUIDv7; the idempotency token of every attempt
    account_sid   TEXT    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('webhook', 'push', 'debugger')),
    subject       TEXT    NOT NULL,             -- the webhook, the factor, or the alert
    work          TEXT    NOT NULL,             -- JSON
    destination   TEXT    NOT NULL,             -- those to one place share a limit
    state         TEXT    NOT NULL CHECK (state IN ('owed', 'delivered', 'skipped', 'failed')),
    attempts      BIGINT  NOT NULL,             -- made or begun
    lease         TEXT,                         -- who is at it
    due_at        BIGINT  NOT NULL,
    give_up_at    BIGINT  NOT NULL,
    created_at    BIGINT  NOT NULL,
    finished_at   BIGINT,
    CHECK ((state = 'owed') = (finished_at IS NULL)),
    CHECK (state = 'owed' OR lease IS NULL)
);
-- What a worker asks for; small, since what is done leaves it.
CREATE INDEX deliveries_owed ON deliveries (due_at) WHERE state = 'owed';
CREATE INDEX deliveries_of_subject ON deliveries (subject, id);
-- Those of a webhook whose address changes.
CREATE INDEX deliveries_owed_of_subject ON deliveries (subject) WHERE state = 'owed';
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE delivery_attempts (
    delivery_id   TEXT COLLATE "C" NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    number        BIGINT  NOT NULL,
    began_at      BIGINT  NOT NULL,
    milliseconds  BIGINT  NOT NULL,
    ending        TEXT    NOT NULL,             -- delivered, skipped, again, failed
    error_code    BIGINT,
    status        BIGINT,                      -- of the HTTP response
    detail        TEXT,                         -- what happened, in words
    PRIMARY KEY (delivery_id, number)
);

CREATE TABLE alerts (
    sid           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    service_sid   TEXT,
    resource_sid  TEXT    NOT NULL,
    error_code    BIGINT  NOT NULL,
    level         TEXT    NOT NULL CHECK (level IN ('error', 'warning')),
    text          TEXT    NOT NULL,
    more_info     TEXT    NOT NULL,             -- JSON
    call          TEXT,                         -- JSON: the request that failed and what came back
    created_at    BIGINT  NOT NULL
);
CREATE INDEX alerts_of_account ON alerts (account_sid, created_at, sid);
CREATE INDEX alerts_by_age ON alerts (created_at);

-- Where an account hears of its alerts.
ALTER TABLE accounts ADD COLUMN debugger_webhook TEXT;

-- Whether the provider said that the factor's token leads nowhere: nothing is pushed until it is updated.
ALTER TABLE factors ADD COLUMN unreachable BIGINT  NOT NULL DEFAULT 0;
-- Those who may be reached again once a credential changes.
CREATE INDEX factors_unreachable ON factors (account_sid) WHERE unreachable = 1;
