-- What leaves the house: webhooks, push credentials, notifications, the outbox, alerts.

CREATE TABLE webhooks (
    sid           TEXT    NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL,
    service_sid   TEXT    NOT NULL REFERENCES services ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    event_types   TEXT    NOT NULL,             -- JSON array
    url           TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled')),
    version       TEXT    NOT NULL CHECK (version IN ('v1', 'v2')),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_of_service ON webhooks (service_sid, created_at, sid);

CREATE TABLE credentials (
    sid           TEXT    NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT,
    type          TEXT    NOT NULL CHECK (type IN ('apn', 'fcm')),
    sandbox       INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    content       BLOB    NOT NULL,             -- sealed
    expires_at    INTEGER,                      -- of its certificate
    warned_days   INTEGER,                      -- how many days before that somebody was last warned
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX credentials_of_account ON credentials (account_sid, created_at, sid);

CREATE TABLE notifications (
    sid           TEXT    NOT NULL PRIMARY KEY,
    challenge_sid TEXT    NOT NULL REFERENCES challenges ON DELETE CASCADE,
    ttl           INTEGER NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX notifications_of_challenge ON notifications (challenge_sid);

-- The outbox. A row is written in the transaction of the change that owes it. Whoever makes an attempt
-- first moves due_at behind the end of its lease; a lease that runs out is a delivery that is due again.
CREATE TABLE deliveries (
    id            TEXT    NOT NULL PRIMARY KEY, -- UUIDv7; the idempotency token of every attempt
    account_sid   TEXT    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('webhook', 'push', 'debugger')),
    subject       TEXT    NOT NULL,             -- the webhook, the factor, or the alert
    work          TEXT    NOT NULL,             -- JSON
    destination   TEXT    NOT NULL,             -- those to one place share a limit
    state         TEXT    NOT NULL CHECK (state IN ('owed', 'delivered', 'skipped', 'failed')),
    attempts      INTEGER NOT NULL,             -- made or begun
    lease         TEXT,                         -- who is at it
    due_at        INTEGER NOT NULL,
    give_up_at    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    CHECK ((state = 'owed') = (finished_at IS NULL)),
    CHECK (state = 'owed' OR lease IS NULL)
) STRICT;
-- What a worker asks for; small, since what is done leaves it.
CREATE INDEX deliveries_owed ON deliveries (due_at) WHERE state = 'owed';
CREATE INDEX deliveries_of_subject ON deliveries (subject, id);
-- Those of a webhook whose address changes.
CREATE INDEX deliveries_owed_of_subject ON deliveries (subject) WHERE state = 'owed';
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE delivery_attempts (
    delivery_id   TEXT    NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    began_at      INTEGER NOT NULL,
    milliseconds  INTEGER NOT NULL,
    ending        TEXT    NOT NULL,             -- delivered, skipped, again, failed
    error_code    INTEGER,
    status        INTEGER,                      -- of the HTTP response
    detail        TEXT,                         -- what happened, in words
    PRIMARY KEY (delivery_id, number)
) STRICT;

CREATE TABLE alerts (
    sid           TEXT    NOT NULL PRIMARY KEY,
    account_sid   TEXT    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    service_sid   TEXT,
    resource_sid  TEXT    NOT NULL,
    error_code    INTEGER NOT NULL,
    level         TEXT    NOT NULL CHECK (level IN ('error', 'warning')),
    text          TEXT    NOT NULL,
    more_info     TEXT    NOT NULL,             -- JSON
    call          TEXT,                         -- JSON: the request that failed and what came back
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX alerts_of_account ON alerts (account_sid, created_at, sid);
CREATE INDEX alerts_by_age ON alerts (created_at);

-- Where an account hears of its alerts.
ALTER TABLE accounts ADD COLUMN debugger_webhook TEXT;

-- Whether the provider said that the factor's token leads nowhere: nothing is pushed until it is updated.
ALTER TABLE factors ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0;
-- Those who may be reached again once a credential changes.
CREATE INDEX factors_unreachable ON factors (account_sid) WHERE unreachable = 1;
