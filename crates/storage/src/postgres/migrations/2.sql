-- Expands 1.sql: programs that know only that one work with it as before.

-- Which lease it is: only whoever got this one may renew or end it. Programs that know only 1.sql leave it as it is.
ALTER TABLE chores ADD COLUMN lease_token bigint NOT NULL DEFAULT 0;

-- Makes a table's partitions of an hour and of the two behind it, and drops older ones that hold nothing. What cannot be made or dropped does not undo the rest: an
-- hour of which the default partition holds rows has none until they are gone, and the hours after it have theirs. Whoever compacts calls it, with the owner's
-- rights. The policies of a table do not hold for its partitions, so that one is empty only when it holds nothing of any tenant. Locks are taken in the order in
-- which everybody takes them, the table before its partitions, and not waited for: there is another time.
CREATE OR REPLACE FUNCTION turn_partitions(parent text, hour bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
            -- Looked at first, so that nobody is kept from the table every minute for what cannot be.
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE hour = $1)', parent || '_default') INTO holds USING wanted;
            IF NOT holds THEN
                missing := missing || wanted;
            END IF;
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
        BEGIN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', parent || '_' || wanted, parent, wanted, wanted + 1);
        EXCEPTION WHEN check_violation THEN
            -- A row of that hour came since.
            NULL;
        END;
    END LOOP;
    FOREACH child IN ARRAY empty LOOP
        BEGIN
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', child);
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', child) INTO holds;
            IF NOT holds THEN
                EXECUTE format('DROP TABLE %I', child);
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            -- Somebody looks at it.
            NULL;
        END;
    END LOOP;
END
$$;
