-- Expands 5.sql: programs that know nothing of lists leave erased ids on them, so that no list is made before all of them are replaced.

-- Ids on lists. What else is known of a list is among the definitions, under the kind list.
CREATE TABLE list_members (
    tenant_id text COLLATE "C" NOT NULL,
    list text COLLATE "C" NOT NULL,
    visitor_id text COLLATE "C" NOT NULL,
    added_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, list, visitor_id)
);
CREATE INDEX list_members_by_id ON list_members (tenant_id, visitor_id, list);

-- The second wall behind the keys.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['list_members'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''runnel.tenant'', true)) '
            'WITH CHECK (tenant_id = current_setting(''runnel.tenant'', true))', name);
    END LOOP;
END
$$;
