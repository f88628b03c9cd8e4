-- The audit log: who changed what, when, and from which address.

-- A record is inserted in the transaction of its change. A background task chains it later: it sets number and mac
-- once. A record has no references, because it outlives its resource.
CREATE TABLE audit_log (
    sid           BLOB    NOT NULL PRIMARY KEY,
    account_sid   BLOB,                         -- null: concerns the whole server
    request_sid   BLOB,                         -- null: not made by a request
    created_at    INTEGER NOT NULL,
    number        INTEGER,                      -- from 1, without a gap; null: not chained
    mac           BLOB,                         -- over the record, its number, and the previous record's mac
    waiting_mac   BLOB,                         -- over the record; null once it is chained
    actor_type    TEXT    NOT NULL,
    actor         TEXT,                         -- a SID of any kind, or the name of an operator
    event_type    TEXT    NOT NULL,
    resource_sid  TEXT,                         -- a SID of any kind
    address       TEXT,
    data          TEXT    NOT NULL,             -- JSON: object
    CHECK ((number IS NULL) = (mac IS NULL))
) STRICT;
CREATE UNIQUE INDEX audit_log_chained ON audit_log (number) WHERE number IS NOT NULL;
-- A record leaves this index when it is chained.
CREATE INDEX audit_log_unchained ON audit_log (created_at, sid) WHERE number IS NULL;
CREATE INDEX audit_log_of_account ON audit_log (account_sid, created_at, sid);
-- Filters of lists. crates/store/src/audit.rs selects the index.
CREATE INDEX audit_log_of_resource ON audit_log (account_sid, resource_sid, created_at, sid) WHERE resource_sid IS NOT NULL;
CREATE INDEX audit_log_of_actor ON audit_log (account_sid, actor, created_at, sid) WHERE actor IS NOT NULL;
CREATE INDEX audit_log_of_address ON audit_log (account_sid, address, created_at, sid) WHERE address IS NOT NULL;
-- Without the two types that every login writes: most records have one of them, so a list finds them without an index.
CREATE INDEX audit_log_of_type ON audit_log (account_sid, event_type, created_at, sid)
    WHERE event_type NOT IN ('challenge.created', 'challenge.approved');

-- The two ends of the chain. A server locks this row while it chains records.
CREATE TABLE audit_chain (
    name           TEXT    NOT NULL PRIMARY KEY CHECK (name = 'audit'),
    key            BLOB    NOT NULL,            -- sealed
    removed_number INTEGER NOT NULL,            -- the last record that retention removed; 0: none
    removed_mac    BLOB    NOT NULL,
    head_number    INTEGER NOT NULL,            -- the last record that was chained; 0: none
    head_mac       BLOB    NOT NULL,
    seal           BLOB    NOT NULL             -- MAC over both ends
) STRICT;

-- The triggers prevent mistakes. A role that may change the schema can drop them; the chain detects its changes.
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log WHEN OLD.number IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a chained record of the audit log cannot be changed');
END;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log
WHEN OLD.number IS NULL OR OLD.number > COALESCE((SELECT removed_number FROM audit_chain), 0)
BEGIN
    SELECT RAISE(ABORT, 'a record of the audit log cannot be deleted before the end of its retention');
END;
