-- Every table of tenants' data leads with tenant_id, the tenant's name; every statement on one names it, and its primary, unique and foreign keys contain
-- it, so that the schema can be distributed by tenant. Reference tables, which hold no tenant's data and are read across tenants: tenants, keys, chores,
-- runnel_schema.

-- Reference: which tenants there are.
CREATE TABLE tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    created_ms bigint NOT NULL
);

-- Reference: keys are looked up before the tenant is known.
CREATE TABLE keys (
    key_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL,
    kind bigint NOT NULL,
    hash bytea NOT NULL,
    label text NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint,
    revoked_ms bigint
);
CREATE INDEX keys_of_tenant ON keys (tenant_id, created_ms, key_id);

-- Reference: which tenants have journal rows that wait, when something of theirs can be freed, and until when a worker has a tenant for itself.
CREATE TABLE chores (
    tenant_id text COLLATE "C" PRIMARY KEY,
    waiting bigint NOT NULL,
    sweep_ms bigint NOT NULL,
    leased_until_ms bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- One row a tenant. Whoever appends locks it until the commit, so that the order of commits is that of numbers.
CREATE TABLE heads (
    tenant_id text COLLATE "C" PRIMARY KEY,
    -- The number of the newest batch and the identifier of the newest block.
    sequence bigint NOT NULL DEFAULT 0,
    block_id bigint NOT NULL DEFAULT 0,
    -- Events ever stored, and those that compaction dropped as repeats.
    accepted_events bigint NOT NULL DEFAULT 0,
    dropped_events bigint NOT NULL DEFAULT 0,
    -- Live journal rows.
    journal_bytes bigint NOT NULL DEFAULT 0,
    journal_events bigint NOT NULL DEFAULT 0,
    definition_version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

-- The newest version of a deleted definition has no body.
CREATE TABLE definitions (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    body bytea,
    saved_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, name, version)
);

-- Names that a tenant has used, of which it may have so many: kind 1 of events, kind 2 of properties.
CREATE TABLE names (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    kind bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
);

CREATE TABLE receipts (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    request_id text COLLATE "C" NOT NULL,
    content_hash bytea NOT NULL,
    outcome bytea NOT NULL,
    sequence bigint NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX receipts_by_age ON receipts (tenant_id, created_ms);

-- A partition an hour, made ahead and dropped when it is empty, so that what was freed does not stay in the file. What is said of a row stands apart from
-- its payload.
CREATE TABLE journal (
    tenant_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    -- Hours since the Unix epoch, of the process that appended.
    hour bigint NOT NULL,
    created_ms bigint NOT NULL,
    events bigint NOT NULL,
    bytes bigint NOT NULL,
    -- Bytes before compression.
    raw_bytes bigint NOT NULL,
    -- Sum of the events' content hashes modulo 2^128, little endian.
    content_sum bytea NOT NULL,
    -- When a block took its events over.
    retired_ms bigint,
    -- When it was found to be unreadable, and why.
    quarantined_ms bigint,
    reason text,
    PRIMARY KEY (tenant_id, sequence, hour)
) PARTITION BY RANGE (hour);
CREATE INDEX journal_live ON journal (tenant_id, sequence) INCLUDE (events, bytes, raw_bytes, created_ms)
    WHERE retired_ms IS NULL AND quarantined_ms IS NULL;
CREATE INDEX journal_retired ON journal (tenant_id, retired_ms, sequence) WHERE retired_ms IS NOT NULL;
CREATE INDEX journal_quarantined ON journal (tenant_id, sequence) WHERE quarantined_ms IS NOT NULL;
CREATE TABLE journal_default PARTITION OF journal DEFAULT;

CREATE TABLE journal_payloads (
    tenant_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    hour bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, sequence, hour)
) PARTITION BY RANGE (hour);
-- Payloads are compressed already.
ALTER TABLE journal_payloads ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE TABLE journal_payloads_default PARTITION OF journal_payloads DEFAULT;

CREATE TABLE blocks (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    block_id bigint NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    -- Months since January of the year 0, UTC.
    month bigint NOT NULL,
    partition_id bigint NOT NULL,
    events bigint NOT NULL,
    bytes bigint NOT NULL,
    -- XXH3-64 over all parts, and the sum of the events' content hashes; both little endian.
    checksum bytea NOT NULL,
    content_sum bytea NOT NULL,
    created_ms bigint NOT NULL,
    retired_ms bigint,
    PRIMARY KEY (tenant_id, block_id)
);
CREATE INDEX blocks_retired ON blocks (tenant_id, retired_ms) WHERE retired_ms IS NOT NULL;

-- Parts are written ahead of the block in transactions of their own, so that no transaction is long.
CREATE TABLE block_parts (
    tenant_id text COLLATE "C" NOT NULL,
    block_id bigint NOT NULL,
    part bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (tenant_id, block_id, part)
);
ALTER TABLE block_parts ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Blocks that are being written, or whose writer ended before it could commit them.
CREATE TABLE drafts (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    block_id bigint NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, block_id)
);

-- How many events of a batch compaction dropped as repeats.
CREATE TABLE findings (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    sequence bigint NOT NULL,
    duplicates bigint NOT NULL,
    conflicts bigint NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

-- Contents that lost to another content of the same identity: visitor hash (big endian) and identity hash, content hash.
CREATE TABLE conflicts (
    tenant_id text COLLATE "C" NOT NULL REFERENCES heads (tenant_id),
    identity bytea NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, identity, content)
);

-- The second wall behind the keys: a transaction sees the rows of the tenant that it names, and of no other.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['heads', 'definitions', 'names', 'receipts', 'journal', 'journal_payloads', 'blocks', 'block_parts', 'drafts', 'findings', 'conflicts'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''runnel.tenant'', true)) '
            'WITH CHECK (tenant_id = current_setting(''runnel.tenant'', true))', name);
    END LOOP;
END
$$;

-- Makes a table's partitions of an hour and of the two behind it, and drops older ones that hold nothing. Whoever compacts calls it, with the owner's rights. The
-- policies of a table do not hold for its partitions, so that one is empty only when it holds nothing of any tenant. Locks are taken in the order in which
-- everybody takes them, the table before its partitions, and not waited for: there is another time.
CREATE FUNCTION turn_partitions(parent text, hour bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    wanted bigint;
    child text;
    holds boolean;
    missing bigint[] := '{}';
    empty text[] := '{}';
BEGIN
    IF parent NOT IN ('journal', 'journal_payloads') THEN
        RAISE EXCEPTION 'the table % has no partitions of hours', parent;
    END IF;
    -- One process at a time.
    IF NOT pg_try_advisory_xact_lock(1380863568) THEN
        RETURN;
    END IF;
    FOR wanted IN hour..hour + 2 LOOP
        IF to_regclass(quote_ident(parent || '_' || wanted)) IS NULL THEN
            missing := missing || wanted;
        END IF;
    END LOOP;
    FOR child IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = parent::regclass AND relname ~ '_[0-9]+$' AND substring(relname FROM '_([0-9]+)$')::bigint < hour - 2
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', child) INTO holds;
        IF NOT holds THEN
            empty := empty || child;
        END IF;
    END LOOP;
    IF missing = '{}' AND empty = '{}' THEN
        RETURN;
    END IF;
    PERFORM set_config('lock_timeout', '250ms', true);
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    FOREACH wanted IN ARRAY missing LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', parent || '_' || wanted, parent, wanted, wanted + 1);
    END LOOP;
    FOREACH child IN ARRAY empty LOOP
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', child);
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', child) INTO holds;
        IF NOT holds THEN
            EXECUTE format('DROP TABLE %I', child);
        END IF;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION turn_partitions FROM PUBLIC;
