-- What the server sends: webhooks, push credentials, notifications, the outbox of deliveries, alerts.

CREATE TABLE webhooks (
    sid           BLOB    NOT NULL PRIMARY KEY,
    account_sid   BLOB    NOT NULL,
    service_sid   BLOB    NOT NULL REFERENCES services ON DELETE CASCADE,
    friendly_name TEXT    NOT NULL,
    event_types   TEXT    NOT NULL,             -- JSON: array
    url           TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled')),
    version       TEXT    NOT NULL CHECK (version IN ('v1', 'v2')),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_of_service ON webhooks (service_sid, created_at, sid);

CREATE TABLE credentials (
    sid           BLOB    NOT NULL PRIMARY KEY,
    account_sid   BLOB    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    friendly_name TEXT,
    type          TEXT    NOT NULL CHECK (type IN ('apn', 'fcm')),
    sandbox       INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    content       BLOB    NOT NULL,             -- sealed
    expires_at    INTEGER,                      -- of its certificate; null: it has none
    warned_days   INTEGER,                      -- how many days before the expiry an alert was last raised
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX credentials_of_account ON credentials (account_sid, created_at, sid);

CREATE TABLE notifications (
    sid           BLOB    NOT NULL PRIMARY KEY,
    challenge_sid BLOB    NOT NULL REFERENCES challenges ON DELETE CASCADE,
    ttl           INTEGER NOT NULL,             -- seconds
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX notifications_of_challenge ON notifications (challenge_sid);

-- The outbox. A row is inserted in the transaction of its cause. A worker that makes an attempt first sets due_at to
-- the end of its lease, so that the delivery is due again if the lease expires.
CREATE TABLE deliveries (
    id            BLOB    NOT NULL PRIMARY KEY, -- UUIDv7; the idempotency token of every attempt
    account_sid   BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    give_up_at    INTEGER NOT NULL,
    finished_at   INTEGER,                      -- null: pending
    scheduled_at  INTEGER NOT NULL,             -- when due_at was set; later than now: by a clock that was ahead
    attempts      INTEGER NOT NULL,             -- finished and begun
    kind          TEXT    NOT NULL CHECK (kind IN ('webhook', 'push', 'debugger', 'message', 'verification_event')),
    state         TEXT    NOT NULL CHECK (state IN ('owed', 'delivered', 'skipped', 'failed')),
    lease         TEXT,                         -- the worker that makes an attempt; null: none
    subject       TEXT    NOT NULL,             -- SID of the webhook, the factor, the alert or the verification
    destination   TEXT    NOT NULL,             -- deliveries to one destination share a limit
    work          TEXT    NOT NULL,             -- JSON
    CHECK ((state = 'owed') = (finished_at IS NULL)),
    CHECK (state = 'owed' OR lease IS NULL)
) STRICT;
-- Pending deliveries leave this index when they are finished.
-- The destination lets a search skip those that have no free slot, without reading their rows.
CREATE INDEX deliveries_due ON deliveries (due_at, destination) WHERE state = 'owed';
-- Finds the next delivery to a destination, however many to others are due.
CREATE INDEX deliveries_due_to_destination ON deliveries (destination, due_at) WHERE state = 'owed';
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX deliveries_of_subject ON deliveries (subject, id);
-- The deliveries to redirect when a webhook's URL changes.
CREATE INDEX deliveries_redirectable ON deliveries (subject, id) WHERE state = 'owed' AND kind = 'webhook';
-- Operators list the deliveries to webhooks, and those that were not delivered, which are few.
CREATE INDEX deliveries_of_webhooks ON deliveries (id) WHERE kind = 'webhook';
CREATE INDEX deliveries_undelivered ON deliveries (state, id, kind) WHERE state IN ('skipped', 'failed');
CREATE INDEX deliveries_undelivered_of_subject ON deliveries (subject, state, id) WHERE state IN ('skipped', 'failed');

CREATE TABLE delivery_attempts (
    delivery_id   BLOB    NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    number        INTEGER NOT NULL,             -- from 1
    began_at      INTEGER NOT NULL,
    milliseconds  INTEGER NOT NULL,
    error_code    INTEGER,
    status        INTEGER,                      -- of the HTTP response
    ending        TEXT    NOT NULL,             -- delivered, skipped, again, failed
    detail        TEXT,                         -- a description of the result
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE alerts (
    sid           BLOB    NOT NULL PRIMARY KEY,
    account_sid   BLOB    NOT NULL REFERENCES accounts ON DELETE CASCADE,
    service_sid   BLOB,
    created_at    INTEGER NOT NULL,
    error_code    INTEGER NOT NULL,
    level         TEXT    NOT NULL CHECK (level IN ('error', 'warning')),
    resource_sid  TEXT    NOT NULL,             -- a SID of any kind
    text          TEXT    NOT NULL,
    more_info     TEXT    NOT NULL,             -- JSON
    call          TEXT                          -- JSON: the failed request and its response
) STRICT;
CREATE INDEX alerts_of_account ON alerts (account_sid, created_at, sid);
CREATE INDEX alerts_of_level ON alerts (account_sid, level, created_at, sid);
CREATE INDEX alerts_by_age ON alerts (created_at);
