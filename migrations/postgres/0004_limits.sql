-- Housekeeping: what it looks for, and who does it.

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
