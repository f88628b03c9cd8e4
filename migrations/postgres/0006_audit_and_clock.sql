-- Lines of the audit log that can't be forged while they wait, and what housekeeping knows of the clock.

-- Over the line, made with it; null once it is chained, and in lines of older servers. Hexadecimal.
ALTER TABLE audit_log ADD COLUMN waiting_mac TEXT;

CREATE TABLE clock_record (
    name        TEXT    NOT NULL PRIMARY KEY CHECK (name = 'clock'),
    trusted_at  BIGINT  NOT NULL,            -- the last reading that was trusted
    ran_for     BIGINT  NOT NULL,            -- microseconds for which servers have run since, at least
    doubted_at  BIGINT ,                     -- the last reading that is not trusted; null: none
    steady_for  BIGINT  NOT NULL             -- microseconds for which that clock has run evenly
);
