-- Deletion in the background: a deleted service or entity is marked at once, and its rows are removed in batches.
-- docs/decisions/0011-deletion-in-the-background.md

ALTER TABLE services ADD COLUMN deleted_at INTEGER;
-- A deleted entity also gives up its identity, so that a new entity can have it: see crates/store/src/entities.rs.
ALTER TABLE entities ADD COLUMN deleted_at INTEGER;

-- The rows that are still to be removed; empty most of the time.
CREATE INDEX services_deleted ON services (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX entities_deleted ON entities (deleted_at) WHERE deleted_at IS NOT NULL;
