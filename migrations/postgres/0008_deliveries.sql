-- What a clock that was set back, and an outdated word of Apple's about a token, are recognized by.

-- When due_at was last set. One that is still to come was set by a clock that was ahead. NULL: an older server wrote
-- the row.
ALTER TABLE deliveries ADD COLUMN scheduled_at BIGINT;

-- When the device last sent its notification token. NULL: an older server wrote the row.
ALTER TABLE factors ADD COLUMN token_registered_at BIGINT;
