-- What a tenant's rows change often stands apart from the list of tenants.
CREATE TABLE heads (
    tenant_id TEXT NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    -- The number of the newest batch and the identifier of the newest block.
    sequence INTEGER NOT NULL DEFAULT 0,
    block_id INTEGER NOT NULL DEFAULT 0,
    -- Events ever stored, and those that compaction dropped as repeats.
    accepted_events INTEGER NOT NULL DEFAULT 0,
    dropped_events INTEGER NOT NULL DEFAULT 0,
    -- Live journal rows.
    journal_bytes INTEGER NOT NULL DEFAULT 0,
    journal_events INTEGER NOT NULL DEFAULT 0,
    definition_version INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO heads SELECT tenant_id, sequence, block_id, accepted_events, dropped_events, journal_bytes, journal_events, definition_version FROM tenants;
ALTER TABLE tenants DROP COLUMN sequence;
ALTER TABLE tenants DROP COLUMN block_id;
ALTER TABLE tenants DROP COLUMN accepted_events;
ALTER TABLE tenants DROP COLUMN dropped_events;
ALTER TABLE tenants DROP COLUMN journal_bytes;
ALTER TABLE tenants DROP COLUMN journal_events;
ALTER TABLE tenants DROP COLUMN definition_version;

-- A reference table: which tenants have journal rows that wait, and when something of theirs can be freed.
CREATE TABLE chores (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    waiting INTEGER NOT NULL,
    sweep_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO chores SELECT tenant_id, journal_events > 0, 0 FROM heads;

-- Blocks that are being written, or whose writer ended before it could commit them.
CREATE TABLE drafts (
    tenant_id TEXT NOT NULL,
    block_id INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, block_id)
) STRICT, WITHOUT ROWID;
INSERT INTO drafts SELECT DISTINCT tenant_id, block_id, 0 FROM block_parts WHERE NOT EXISTS (
    SELECT 1 FROM blocks WHERE blocks.tenant_id = block_parts.tenant_id AND blocks.block_id = block_parts.block_id);

-- One tenant is looked at at a time.
DROP INDEX journal_retired;
CREATE INDEX journal_retired ON journal (tenant_id, retired_ms, sequence) WHERE retired_ms IS NOT NULL;
DROP INDEX blocks_retired;
CREATE INDEX blocks_retired ON blocks (tenant_id, retired_ms) WHERE retired_ms IS NOT NULL;
DROP INDEX receipts_by_age;
CREATE INDEX receipts_by_age ON receipts (tenant_id, created_ms);
