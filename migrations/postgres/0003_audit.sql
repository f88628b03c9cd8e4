-- The audit log: who changed what, when, and from where.

-- A line is written in the transaction of its change, and chained a moment later: number and mac are set once.
-- It refers to nothing, since it outlives what it is about.
CREATE TABLE audit_log (
    sid           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    number        BIGINT,                       -- from 1, without a gap
    mac           TEXT,                         -- over the line, its number, and the mac before; hexadecimal
    actor_type    TEXT    NOT NULL,
    actor         TEXT,
    event_type    TEXT    NOT NULL,
    account_sid   TEXT,                         -- null: concerns the whole server
    resource_sid  TEXT,
    data          TEXT    NOT NULL,             -- JSON object
    address       TEXT,
    request_sid   TEXT,
    created_at    BIGINT  NOT NULL,
    CHECK ((number IS NULL) = (mac IS NULL))
);
CREATE UNIQUE INDEX audit_log_chained ON audit_log (number) WHERE number IS NOT NULL;
-- What is still to be chained; small.
CREATE INDEX audit_log_waiting ON audit_log (created_at, sid) WHERE number IS NULL;
CREATE INDEX audit_log_of_account ON audit_log (account_sid, created_at, sid);
-- With the account and the order of lists: otherwise SQLite takes the index before this one, and walks the account's lines.
CREATE INDEX audit_log_of_resource ON audit_log (resource_sid, account_sid, created_at, sid);

-- The two ends of the chain. Whoever chains holds this one row.
CREATE TABLE audit_chain (
    name           TEXT    NOT NULL PRIMARY KEY CHECK (name = 'audit'),
    key            BYTEA   NOT NULL,            -- sealed
    removed_number BIGINT  NOT NULL,            -- the last line that went after its time; 0: none
    removed_mac    TEXT    NOT NULL,
    head_number    BIGINT  NOT NULL,            -- the last line that was chained; 0: none
    head_mac       TEXT    NOT NULL,
    seal           TEXT    NOT NULL             -- over both ends; hexadecimal
);

-- Against mistakes, not against somebody who may change the schema: that is what the chain is for.
CREATE FUNCTION audit_log_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a chained line of the audit log does not change';
END $$;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW
WHEN (OLD.number IS NOT NULL) EXECUTE FUNCTION audit_log_stays();
CREATE FUNCTION audit_log_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.number IS NULL OR OLD.number > COALESCE((SELECT removed_number FROM audit_chain), 0) THEN
        RAISE EXCEPTION 'a line of the audit log goes only after its time';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_is_kept();
