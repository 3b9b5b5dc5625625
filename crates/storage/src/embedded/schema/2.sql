-- Names that a tenant has used, of which it may have so many: kind 1 of events, kind 2 of properties.
-- What a folder of format 1 had used before is noted when it is used again.
CREATE TABLE names (
    tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
) STRICT, WITHOUT ROWID;
