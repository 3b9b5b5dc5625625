-- Ids on lists. What else is known of a list is among the definitions, under the kind list.
CREATE TABLE list_members (
    tenant_id TEXT NOT NULL,
    list TEXT NOT NULL,
    visitor_id TEXT NOT NULL,
    added_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, list, visitor_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX list_members_by_id ON list_members (tenant_id, visitor_id, list);

-- On which lists an id is, is looked up by the id, however few there seem to be.
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('list_members', 'list_members', '1000000 1000000 10000 1'),
    ('list_members', 'list_members_by_id', '1000000 1000000 2 1');
ANALYZE sqlite_schema;
