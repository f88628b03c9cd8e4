-- The audit log: who changed what, when, and from which address.

-- A record is inserted in the transaction of its change. A background task chains it later: it sets number and mac
-- once. A record has no references, because it outlives its resource.
CREATE TABLE audit_log (
    sid           UUID    NOT NULL PRIMARY KEY,
    account_sid   UUID,                         -- null: concerns the whole server
    request_sid   UUID,                         -- null: not made by a request
    created_at    BIGINT  NOT NULL,
    number        BIGINT,                       -- from 1, without a gap; null: not chained
    mac           BYTEA,                        -- over the record, its number, and the previous record's mac
    waiting_mac   BYTEA,                        -- over the record; null once it is chained
    actor_type    TEXT    NOT NULL,
    actor         TEXT,                         -- a SID of any kind, or the name of an operator
    event_type    TEXT    NOT NULL,
    resource_sid  TEXT,                         -- a SID of any kind
    address       TEXT,
    data          TEXT    NOT NULL,             -- JSON: object
    CHECK ((number IS NULL) = (mac IS NULL))
);
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
    key            BYTEA   NOT NULL,            -- sealed
    removed_number BIGINT  NOT NULL,            -- the last record that retention removed; 0: none
    removed_mac    BYTEA   NOT NULL,
    head_number    BIGINT  NOT NULL,            -- the last record that was chained; 0: none
    head_mac       BYTEA   NOT NULL,
    seal           BYTEA   NOT NULL             -- MAC over both ends
);

-- The triggers prevent mistakes. A role that may change the schema can drop them; the chain detects its changes.
CREATE FUNCTION audit_log_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a chained record of the audit log cannot be changed';
END $$;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW
WHEN (OLD.number IS NOT NULL) EXECUTE FUNCTION audit_log_stays();
CREATE FUNCTION audit_log_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.number IS NULL OR OLD.number > COALESCE((SELECT removed_number FROM audit_chain), 0) THEN
        RAISE EXCEPTION 'a record of the audit log cannot be deleted before the end of its retention';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_is_kept();
