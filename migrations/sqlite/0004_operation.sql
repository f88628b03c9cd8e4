-- Operation: leases of nodes, the server's own keys, records that limits count, and the clock of housekeeping.

-- A task that one node performs for all nodes, until its lease ends.
CREATE TABLE leases (
    name          TEXT    NOT NULL PRIMARY KEY,
    holder        TEXT    NOT NULL,
    ends_at       INTEGER NOT NULL
) STRICT;

-- Keys that only servers use. They survive a rotation of the master key, which seals them again.
CREATE TABLE server_keys (
    name          TEXT    NOT NULL PRIMARY KEY, -- its purpose
    secret        BLOB    NOT NULL,             -- sealed
    created_at    INTEGER NOT NULL
) STRICT;

-- The factors that were created within the last day, if that is limited. A deleted factor counts too.
CREATE TABLE factor_creations (
    factor_sid    BLOB    NOT NULL PRIMARY KEY,
    entity_sid    BLOB    NOT NULL REFERENCES entities ON DELETE CASCADE,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX factor_creations_of_entity ON factor_creations (entity_sid, created_at);
CREATE INDEX factor_creations_by_age ON factor_creations (created_at);

-- What housekeeping knows about the clock.
CREATE TABLE clock_record (
    name          TEXT    NOT NULL PRIMARY KEY CHECK (name = 'clock'),
    trusted_at    INTEGER NOT NULL,             -- the last reading that was trusted
    ran_for       INTEGER NOT NULL,             -- microseconds for which servers have run since, at least
    doubted_at    INTEGER,                      -- the last reading that is not trusted; null: none
    steady_for    INTEGER NOT NULL              -- microseconds for which that clock has run evenly
) STRICT;
