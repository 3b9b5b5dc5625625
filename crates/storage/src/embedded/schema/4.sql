-- The number of the newest claim about who is who.
ALTER TABLE heads ADD COLUMN alias_version INTEGER NOT NULL DEFAULT 0;

-- What was said about who is who, by number: kind 1, the anonymous id belongs to a known one; kind 2, the known id was merged into another.
CREATE TABLE aliases (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    number INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    belongs_to TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_id ON aliases (tenant_id, id, number);
CREATE INDEX aliases_by_whom ON aliases (tenant_id, belongs_to, number);

-- What counts of days, weeks and months were made of: the versions of the truth at that time, and a message. Each change of them has the next number.
CREATE TABLE aggregate_states (
    tenant_id TEXT NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    number INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    definition INTEGER NOT NULL,
    alias INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The counts of a day (grain 1), week (2) or month (3), by when it begins.
CREATE TABLE aggregates (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    grain INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant_id, grain, start_ms)
) STRICT;

-- Which of them changed when they were over.
CREATE TABLE restatements (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant_id, number)
) STRICT;
