-- Expands 4.sql: programs that know nothing of retention still take what others refuse, so that none is set before all of them are replaced.

-- For how many days events are kept; for ever where nothing is said.
ALTER TABLE tenants ADD COLUMN retention_days bigint;
-- What happened before is refused; from when on events are kept; and how many of the versions of the erasures say so.
ALTER TABLE heads ADD COLUMN refused_before_ms bigint;
ALTER TABLE heads ADD COLUMN kept_from_ms bigint;
ALTER TABLE heads ADD COLUMN retentions bigint NOT NULL DEFAULT 0;
