-- Operation: leases of nodes, the server's own keys, records that limits count, and the clock of housekeeping.

-- A task that one node performs for all nodes, until its lease ends.
CREATE TABLE leases (
    name          TEXT    NOT NULL PRIMARY KEY,
    holder        TEXT    NOT NULL,
    ends_at       BIGINT  NOT NULL
);

-- Keys that only servers use. They survive a rotation of the master key, which seals them again.
CREATE TABLE server_keys (
    name          TEXT    NOT NULL PRIMARY KEY, -- its purpose
    secret        BYTEA   NOT NULL,             -- sealed
    created_at    BIGINT  NOT NULL
);

-- The factors that were created within the last day, if that is limited. A deleted factor counts too.
CREATE TABLE factor_creations (
    factor_sid    UUID    NOT NULL PRIMARY KEY,
    entity_sid    UUID    NOT NULL REFERENCES entities ON DELETE CASCADE,
    created_at    BIGINT  NOT NULL
);
CREATE INDEX factor_creations_of_entity ON factor_creations (entity_sid, created_at);
CREATE INDEX factor_creations_by_age ON factor_creations (created_at);

-- What housekeeping knows about the clock.
CREATE TABLE clock_record (
    name          TEXT    NOT NULL PRIMARY KEY CHECK (name = 'clock'),
    trusted_at    BIGINT  NOT NULL,             -- the last reading that was trusted
    ran_for       BIGINT  NOT NULL,             -- microseconds for which servers have run since, at least
    doubted_at    BIGINT,                       -- the last reading that is not trusted; null: none
    steady_for    BIGINT  NOT NULL              -- microseconds for which that clock has run evenly
);
