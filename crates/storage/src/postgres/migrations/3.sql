-- Expands 2.sql: programs that do not know who is who count ids apart, as before.

-- The number of the newest claim about who is who.
ALTER TABLE heads ADD COLUMN alias_version bigint NOT NULL DEFAULT 0;

-- What was said about who is who, by number: kind 1, the anonymous id belongs to a known one; kind 2, the known id was merged into another.
CREATE TABLE aliases (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    number bigint NOT NULL,
    kind bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    belongs_to text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX aliases_by_id ON aliases (tenant_id, id, number);
CREATE INDEX aliases_by_whom ON aliases (tenant_id, belongs_to, number);

-- What counts of days, weeks and months were made of: the versions of the truth at that time, and a message. Each change of them has the next number.
CREATE TABLE aggregate_states (
    tenant_id text COLLATE "C" PRIMARY KEY REFERENCES heads (tenant_id),
    number bigint NOT NULL,
    sequence bigint NOT NULL,
    definition bigint NOT NULL,
    alias bigint NOT NULL,
    body bytea NOT NULL
);

-- The counts of a day (grain 1), week (2) or month (3), by when it begins.
CREATE TABLE aggregates (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    grain bigint NOT NULL,
    start_ms bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, grain, start_ms)
);

-- Which of them changed when they were over.
CREATE TABLE restatements (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    number bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

-- The second wall behind the keys.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['aliases', 'aggregate_states', 'aggregates', 'restatements'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''runnel.tenant'', true)) '
            'WITH CHECK (tenant_id = current_setting(''runnel.tenant'', true))', name);
    END LOOP;
END
$$;
