-- The number of the newest erasure, and how many events erasures deleted.
ALTER TABLE heads ADD COLUMN erasure_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN erased_events INTEGER NOT NULL DEFAULT 0;
-- Whether something is to be erased.
ALTER TABLE chores ADD COLUMN erasing INTEGER NOT NULL DEFAULT 0;
-- The erasures that aggregates know.
ALTER TABLE aggregate_states ADD COLUMN erasure INTEGER NOT NULL DEFAULT 0;

-- What a tenant's keyed hashes are made with.
CREATE TABLE secrets (
    tenant_id TEXT NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Erasures by number: when each was asked for and when it was done, and how many events the round deleted that did it.
CREATE TABLE erasures (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    number INTEGER NOT NULL,
    requested_ms INTEGER NOT NULL,
    done_ms INTEGER,
    events INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, number)
) STRICT, WITHOUT ROWID;

-- Ids of erasures that are not done, until when what happened is deleted, and the newest batch when that was asked for.
CREATE TABLE erasing (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

-- Erased ids by their keyed hashes, and until when what happened is refused.
CREATE TABLE tombstones (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    mark BLOB NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, mark)
) STRICT, WITHOUT ROWID;
