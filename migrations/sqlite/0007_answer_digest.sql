-- The SHA-256 digest of the payload that answered a challenge: the same payload may come again. Null for challenges
-- that were answered before this column was there.
ALTER TABLE challenges ADD COLUMN answer_digest BLOB;
