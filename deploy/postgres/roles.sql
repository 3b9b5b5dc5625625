-- The database and its users, made or brought up to date by a superuser:
--
--   psql -X -v ON_ERROR_STOP=1 -v passwords=FOLDER -f roles.sql
--
-- FOLDER holds a file with the password of each user, named as the user is. `runnel migrate`, as the owner, then makes the tables and
-- grants each of the four others what its purpose needs.
\set owner_password `cat :'passwords'/runnel_owner`
\set ingest_password `cat :'passwords'/runnel_ingest`
\set compaction_password `cat :'passwords'/runnel_compaction`
\set query_password `cat :'passwords'/runnel_query`
\set admin_password `cat :'passwords'/runnel_admin`

-- The owner is no superuser either, so that the policies that keep tenants apart hold for it as well.
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', wanted)
FROM unnest(ARRAY['runnel_owner', 'runnel_ingest', 'runnel_compaction', 'runnel_query', 'runnel_admin']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
\gexec
ALTER ROLE runnel_owner PASSWORD :'owner_password';
ALTER ROLE runnel_ingest PASSWORD :'ingest_password';
ALTER ROLE runnel_compaction PASSWORD :'compaction_password';
ALTER ROLE runnel_query PASSWORD :'query_password';
ALTER ROLE runnel_admin PASSWORD :'admin_password';

SELECT 'CREATE DATABASE runnel OWNER runnel_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'runnel')
\gexec
REVOKE ALL ON DATABASE runnel FROM PUBLIC;
GRANT CONNECT ON DATABASE runnel TO runnel_ingest, runnel_compaction, runnel_query, runnel_admin;
