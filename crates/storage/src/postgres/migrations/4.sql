-- Expands 3.sql: programs that know nothing of erasures neither hide nor refuse what was erased, so that none is asked for before all of them are replaced.

-- The number of the newest erasure, and how many events erasures deleted.
ALTER TABLE heads ADD COLUMN erasure_version bigint NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN erased_events bigint NOT NULL DEFAULT 0;
-- Whether something is to be erased.
ALTER TABLE chores ADD COLUMN erasing bigint NOT NULL DEFAULT 0;
-- The erasures that aggregates know.
ALTER TABLE aggregate_states ADD COLUMN erasure bigint NOT NULL DEFAULT 0;

-- What a tenant's keyed hashes are made with.
CREATE TABLE secrets (
    tenant_id text COLLATE "C" PRIMARY KEY REFERENCES heads (tenant_id),
    secret bytea NOT NULL
);

-- Erasures by number: when each was asked for and when it was done, and how many events the round deleted that did it.
CREATE TABLE erasures (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    number bigint NOT NULL,
    requested_ms bigint NOT NULL,
    done_ms bigint,
    events bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, number)
);

-- Ids of erasures that are not done, until when what happened is deleted, and the newest batch when that was asked for.
CREATE TABLE erasing (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    until_ms bigint NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- Erased ids by their keyed hashes, and until when what happened is refused.
CREATE TABLE tombstones (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    mark bytea NOT NULL,
    until_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, mark)
);

-- The second wall behind the keys.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['secrets', 'erasures', 'erasing', 'tombstones'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''runnel.tenant'', true)) '
            'WITH CHECK (tenant_id = current_setting(''runnel.tenant'', true))', name);
    END LOOP;
END
$$;
