-- For how many days events are kept; for ever where nothing is said.
ALTER TABLE tenants ADD COLUMN retention_days INTEGER;
-- What happened before is refused; from when on events are kept; and how many of the versions of the erasures say so.
ALTER TABLE heads ADD COLUMN refused_before_ms INTEGER;
ALTER TABLE heads ADD COLUMN kept_from_ms INTEGER;
ALTER TABLE heads ADD COLUMN retentions INTEGER NOT NULL DEFAULT 0;

-- Who is who is looked up by ids. SQLite takes a tenant for one that has a few claims and would read all of them each time, unless it is told how many there are.
ANALYZE aliases;
DELETE FROM sqlite_stat1 WHERE tbl = 'aliases';
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('aliases', 'aliases', '1000000 1000000 1'),
    ('aliases', 'aliases_by_id', '1000000 1000000 2 1'),
    ('aliases', 'aliases_by_whom', '1000000 1000000 3 1');
ANALYZE sqlite_schema;
