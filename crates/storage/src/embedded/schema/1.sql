-- Every table of tenants' data leads with tenant_id, the tenant's name, and every statement on one names it.

CREATE TABLE tenants (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    created_ms INTEGER NOT NULL,
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

-- A reference table: keys are looked up before the tenant is known.
CREATE TABLE keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    hash BLOB NOT NULL,
    label TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_of_tenant ON keys (tenant_id, created_ms, key_id);

-- The newest version of a deleted definition has no body.
CREATE TABLE definitions (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB,
    saved_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kind, name, version)
) STRICT;

CREATE TABLE receipts (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    request_id TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    outcome BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
) STRICT;
CREATE INDEX receipts_by_age ON receipts (created_ms, tenant_id);

-- What is said of a journal row stands apart from its payload, so that retiring a row does not rewrite the payload.
CREATE TABLE journal (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    sequence INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- Bytes before compression.
    raw_bytes INTEGER NOT NULL,
    -- Sum of the events' content hashes modulo 2^128, little endian.
    content_sum BLOB NOT NULL,
    -- When a block took its events over.
    retired_ms INTEGER,
    -- When it was found to be unreadable, and why.
    quarantined_ms INTEGER,
    reason TEXT,
    PRIMARY KEY (tenant_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX journal_live ON journal (tenant_id, sequence, events, bytes, raw_bytes, created_ms)
    WHERE retired_ms IS NULL AND quarantined_ms IS NULL;
CREATE INDEX journal_retired ON journal (retired_ms, tenant_id) WHERE retired_ms IS NOT NULL;
CREATE INDEX journal_quarantined ON journal (tenant_id, sequence) WHERE quarantined_ms IS NOT NULL;

CREATE TABLE journal_payloads (
    tenant_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) STRICT;

CREATE TABLE blocks (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    block_id INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    -- Months since January of the year 0, UTC.
    month INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- XXH3-64 over all parts, and the sum of the events' content hashes; both little endian.
    checksum BLOB NOT NULL,
    content_sum BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    retired_ms INTEGER,
    PRIMARY KEY (tenant_id, block_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_retired ON blocks (retired_ms, tenant_id) WHERE retired_ms IS NOT NULL;

-- Parts are written ahead of the block in transactions of their own, so that no append waits long. Parts without a block are what a crash left.
CREATE TABLE block_parts (
    tenant_id TEXT NOT NULL,
    block_id INTEGER NOT NULL,
    part INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (tenant_id, block_id, part)
) STRICT;

-- How many events of a batch compaction dropped as repeats.
CREATE TABLE findings (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    sequence INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    conflicts INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) STRICT, WITHOUT ROWID;

-- Contents that lost to another content of the same identity: visitor hash (big endian) and identity hash, content hash.
CREATE TABLE conflicts (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    identity BLOB NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (tenant_id, identity, content)
) STRICT, WITHOUT ROWID;
