-- Housekeeping: what it looks for, and who does it. Limits against abuse: what is counted, and how much may be.

CREATE INDEX challenges_by_expiry ON challenges (expires_at);
CREATE INDEX access_tokens_by_expiry ON access_tokens (expires_at);
-- Partial, so that a factor leaves it when it is verified.
CREATE INDEX factors_unverified ON factors (created_at) WHERE status = 'unverified';

-- What one node does for all of them, until its lease runs out.
CREATE TABLE leases (
    name          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder        TEXT    NOT NULL,
    ends_at       BIGINT  NOT NULL
);

-- Factors that were made within the last day, where that is limited: one counts even when it is deleted.
CREATE TABLE factor_creations (
    factor_sid    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    entity_sid    TEXT    NOT NULL REFERENCES entities ON DELETE CASCADE,
    created_at    BIGINT  NOT NULL
);
CREATE INDEX factor_creations_of_entity ON factor_creations (entity_sid, created_at);
CREATE INDEX factor_creations_by_age ON factor_creations (created_at);

-- What the operator allows for each factor of a service: null is the server's limit, 0 is none.
ALTER TABLE services ADD COLUMN max_pending_challenges BIGINT;
ALTER TABLE services ADD COLUMN challenges_per_minute BIGINT;
