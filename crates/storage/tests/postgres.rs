//! What is particular to PostgreSQL: several processes on one database, its policies, its server, and connections that die.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

#[path = "samples/events.rs"]
mod events;
#[path = "postgres/leasing.rs"]
mod leasing;
#[path = "postgres/migrating.rs"]
mod migrating;
#[path = "postgres/standby.rs"]
mod standby;
#[path = "postgres/sweeping.rs"]
mod sweeping;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_harness::Postgres;
use runnel_model::TenantName;
use runnel_storage::{
    AppendError, CompactOptions, MigrateError, PostgresOpenError, PostgresOptions, Store, Unavailable,
};

use events::{NOW, Random, admitted, distinct, read, requested, shop};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Tables that hold no tenant's data and are read across tenants.
const REFERENCE: [&str; 4] = ["tenants", "keys", "chores", "runnel_schema"];

fn server() -> &'static Postgres {
    Postgres::shared().unwrap()
}

fn options(database: &str) -> PostgresOptions {
    let url = |user| Some(server().url(database, user));
    PostgresOptions {
        ingest_url: url("ingest"),
        compaction_url: url("compaction"),
        query_url: url("query"),
        admin_url: url("admin"),
        connections: 4,
        ..PostgresOptions::new(server().url(database, "owner"))
    }
}

async fn open(database: &str) -> Store {
    Store::open_postgres(&options(database)).await.unwrap()
}

fn force() -> CompactOptions {
    CompactOptions { force: true, ..CompactOptions::default() }
}

fn sql(database: &str, statements: &str) -> String {
    server().sql(database, statements).unwrap()
}

/// The newest schema that this program knows.
const SCHEMA: i64 = 6;

/// Whether a statement sleeps, and holds what its transaction holds.
const ASLEEP: &str =
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Waits until the database says so.
async fn until(database: &str, statement: &str, wanted: &str) {
    let mut said = String::new();
    for _ in 0..600 {
        said = sql(database, statement);
        if said == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{statement} says {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_open_a_new_database_at_once() {
    let database = server().database().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let options = options(&database);
            tokio::spawn(async move { Store::open_postgres(&options).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().close().await;
    }
    let rows = sql(&database, "SELECT count(*), max(version) FROM runnel_schema");
    assert_eq!(rows, format!("1|{SCHEMA}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_do_not_fit_are_refused() {
    let database = server().database().unwrap();
    let only_look = PostgresOptions { migrate: false, ..options(&database) };
    let error = Store::open_postgres(&only_look).await.unwrap_err();
    assert!(
        matches!(error, PostgresOpenError::Migrate(MigrateError::TooOld { found: 0, known: SCHEMA })),
        "{error:?}"
    );
    open(&database).await.close().await;
    Store::open_postgres(&only_look).await.unwrap().close().await;
    // One that a newer program has expanded still serves this one, until it says that it does not.
    sql(&database, "UPDATE runnel_schema SET version = version + 1");
    open(&database).await.close().await;
    sql(&database, "UPDATE runnel_schema SET oldest_program = version");
    let error = Store::open_postgres(&options(&database)).await.unwrap_err();
    assert!(matches!(error, PostgresOpenError::Migrate(MigrateError::NewerVersion { .. })), "{error:?}");
    let nobody = PostgresOptions::new("postgres://owner@127.0.0.1:1/none".to_owned());
    let error = Store::open_postgres(&nobody).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1 cannot be reached"), "{error}");
    let error = Store::open_postgres(&PostgresOptions::new("nonsense".to_owned())).await.unwrap_err();
    assert!(matches!(error, PostgresOpenError::Url(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_servers_are_refused() {
    let database = server().database().unwrap();
    sql("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = off"));
    let error = Store::open_postgres(&options(&database)).await.unwrap_err();
    assert!(
        matches!(&error, PostgresOpenError::Unsafe { settings } if settings == "synchronous_commit"),
        "{error:?}"
    );
    let unsafe_server = Postgres::start("-c fsync=off -c full_page_writes=off").unwrap();
    let database = unsafe_server.database().unwrap();
    let options = PostgresOptions::new(unsafe_server.url(&database, "owner"));
    let error = Store::open_postgres(&options).await.unwrap_err();
    assert!(
        matches!(&error, PostgresOpenError::Unsafe { settings } if settings == "fsync, full_page_writes"),
        "{error:?}"
    );
    let allowed = PostgresOptions { allow_unsafe_server: true, ..options };
    Store::open_postgres(&allowed).await.unwrap().close().await;
}

/// What a user's own settings say is not what its commits do.
#[tokio::test(flavor = "multi_thread")]
async fn unsafe_users_commit_to_disk() {
    let server = Postgres::start("").unwrap();
    let database = server.database().unwrap();
    let url = |user| Some(server.url(&database, user));
    let options = PostgresOptions {
        ingest_url: url("ingest"),
        compaction_url: url("compaction"),
        ..PostgresOptions::new(server.url(&database, "owner"))
    };
    let store = Store::open_postgres(&options).await.unwrap();
    store.create_tenant(&shop(), NOW).await.unwrap();
    store.close().await;
    let sql = |statements: &str| server.sql(&database, statements).unwrap();
    // Every statement that writes to the journal says with what setting it was run.
    sql(
        "ALTER ROLE ingest SET synchronous_commit = off; ALTER ROLE compaction SET synchronous_commit = off; \
         CREATE TABLE said (who text, setting text); GRANT INSERT ON said TO PUBLIC; \
         CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO said VALUES (current_user, current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE TRIGGER say AFTER INSERT OR UPDATE ON journal EXECUTE FUNCTION say()",
    );
    let said = "SELECT DISTINCT who, setting FROM said ORDER BY who";
    for (allow_unsafe_server, setting) in [(true, "off"), (false, "on")] {
        let options = PostgresOptions { allow_unsafe_server, ..options.clone() };
        let store = Store::open_postgres(&options).await.unwrap();
        let batch = distinct(u32::from(allow_unsafe_server) * 10, 10);
        store.append(&shop(), admitted(&batch), NOW).await.unwrap();
        store.compact(&shop(), force(), NOW).await.unwrap();
        store.close().await;
        assert_eq!(sql(said), format!("compaction|{setting}\ningest|{setting}"));
        sql("TRUNCATE said");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_a_tenant_table_names_the_tenant_and_every_row_is_behind_a_policy() {
    let database = server().database().unwrap();
    open(&database).await.close().await;
    let tables = sql(
        &database,
        "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class \
         WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace ORDER BY relname",
    );
    let mut of_tenants = BTreeSet::new();
    for line in tables.lines() {
        let (table, forced) = line.split_once('|').unwrap();
        assert_eq!(forced == "t", !REFERENCE.contains(&table), "{table}");
        if !REFERENCE.contains(&table) {
            of_tenants.insert(table.to_owned());
        }
    }
    assert!(of_tenants.len() >= 11, "{of_tenants:?}");
    // Primary and unique indexes lead with the tenant; foreign keys contain it on both sides.
    let keys = sql(
        &database,
        "SELECT pg_class.relname, attribute.attname FROM pg_index JOIN pg_class ON pg_class.oid = indrelid \
         JOIN pg_attribute AS attribute ON attribute.attrelid = indrelid AND attribute.attnum = indkey[0] \
         WHERE NOT pg_class.relispartition AND relnamespace = 'public'::regnamespace ORDER BY 1",
    );
    for line in keys.lines() {
        let (table, first) = line.split_once('|').unwrap();
        assert!(
            !of_tenants.contains(table) || first == "tenant_id",
            "an index of {table} leads with {first}"
        );
    }
    let foreign = sql(
        &database,
        "SELECT conrelid::regclass, (SELECT bool_or(attname = 'tenant_id') FROM pg_attribute WHERE attrelid = conrelid \
         AND attnum = ANY(conkey)) AND (SELECT bool_or(attname = 'tenant_id') FROM pg_attribute WHERE attrelid = confrelid \
         AND attnum = ANY(confkey)) FROM pg_constraint WHERE contype = 'f'",
    );
    assert!(foreign.lines().count() >= 7, "{foreign}");
    assert!(foreign.lines().all(|line| line.ends_with("|t")), "{foreign}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sees_the_tenant_that_it_names_and_no_other() {
    let database = server().database().unwrap();
    let store = open(&database).await;
    let other = TenantName::parse("other").unwrap();
    for tenant in [&shop(), &other] {
        store.create_tenant(tenant, NOW).await.unwrap();
        store.append(tenant, admitted(&distinct(0, 10)), NOW).await.unwrap();
        store.compact(tenant, force(), NOW).await.unwrap();
        store.append(tenant, requested(&distinct(10, 10), "r", 1, ""), NOW).await.unwrap();
    }
    store.close().await;
    let count = |user: &str, tenant: Option<&str>, table: &str| -> u64 {
        let named = tenant.map(|tenant| format!("SET LOCAL runnel.tenant = '{tenant}';")).unwrap_or_default();
        let statements =
            format!("BEGIN; SET LOCAL ROLE {user}; {named} SELECT count(*) FROM {table}; COMMIT");
        sql(&database, &statements).parse().unwrap()
    };
    for table in ["heads", "journal", "journal_payloads", "receipts", "blocks", "block_parts"] {
        for user in ["owner", "compaction", "query"] {
            assert_eq!(count(user, None, table), 0, "{user} {table}");
            assert!(count(user, Some("shop"), table) > 0, "{user} {table}");
            assert_eq!(count(user, Some("nobody"), table), 0, "{user} {table}");
            let both = count("postgres", None, table);
            assert_eq!(
                count(user, Some("shop"), table) + count(user, Some("other"), table),
                both,
                "{user} {table}"
            );
        }
    }
    // Nobody writes another tenant's row, and nobody does what is not theirs.
    let refused = |statements: &str| server().sql(&database, statements).unwrap_err().to_string();
    let foreign = "BEGIN; SET LOCAL ROLE ingest; SET LOCAL runnel.tenant = 'shop'; \
                   INSERT INTO names (tenant_id, kind, name) VALUES ('other', 1, 'x')";
    assert!(refused(foreign).contains("row-level security"), "{}", refused(foreign));
    for (user, statement) in [
        ("query", "DELETE FROM journal WHERE tenant_id = 'shop'"),
        ("query", "SELECT * FROM keys"),
        ("ingest", "DELETE FROM journal WHERE tenant_id = 'shop'"),
        ("ingest", "SELECT * FROM blocks"),
        ("ingest", "SELECT * FROM keys"),
        ("admin", "SELECT * FROM journal"),
        ("compaction", "SELECT * FROM keys"),
        ("query", "SELECT * FROM journal_default"),
    ] {
        let said = refused(&format!("SET ROLE {user}; {statement}"));
        assert!(said.contains("permission denied"), "{user} {statement}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_share_a_tenant() {
    let database = server().database().unwrap();
    let stores = [open(&database).await, open(&database).await];
    stores[0].create_tenant(&shop(), NOW).await.unwrap();
    let follower = tokio::spawn({
        let store = stores[1].clone();
        async move { store.wait_beyond(&shop(), 0).await.unwrap() }
    });
    let mut tasks = Vec::new();
    for batch in 0..60u32 {
        let store = stores[batch as usize % 2].clone();
        tasks.push(tokio::spawn(async move {
            store.append(&shop(), admitted(&distinct(batch * 20, 25)), NOW).await.unwrap().sequence()
        }));
        // Both compact, at the same time and while others append.
        if batch % 7 == 3 {
            for store in &stores {
                let store = store.clone();
                tasks.push(tokio::spawn(async move {
                    store.compact(&shop(), force(), NOW).await.unwrap();
                    0
                }));
            }
        }
    }
    let mut numbers = BTreeSet::new();
    for task in tasks {
        numbers.insert(task.await.unwrap());
    }
    assert!(follower.await.unwrap() >= 1);
    assert_eq!(numbers, (0..=60).collect());
    for store in &stores {
        store.compact(&shop(), force(), NOW).await.unwrap();
        let contents = read(store, &shop()).await;
        assert_eq!((contents.counted.len(), contents.sequence), (60 * 20 + 5, 60));
        let audit = store.audit(&shop()).await.unwrap();
        assert_eq!(audit.accepted, 60 * 25, "{audit:?}");
    }
    assert_eq!(sql(&database, "SELECT count(*) FROM drafts"), "0");
    assert_eq!(
        sql(
            &database,
            "SELECT count(*) FROM chores WHERE waiting = 1 OR leased_until_ms > extract(epoch FROM clock_timestamp()) * 1000"
        ),
        "0"
    );
    assert_eq!(stores[0].backlog().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_made_ahead_and_dropped_when_empty() {
    let database = server().database().unwrap();
    let store = open(&database).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    let hour = NOW / HOUR;
    // Without those that opening the store made by the clock of the database.
    let partitions = || {
        let listed = sql(
            &database,
            &format!(
                "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' \
                 AND substring(relname FROM '_([0-9]+)$')::bigint < {} ORDER BY 1",
                hour + 100
            ),
        );
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |hours: &[i64]| {
        let of = |table: &str| hours.iter().map(|hour| format!("{table}_{hour}")).collect::<Vec<_>>();
        [of("journal"), of("journal_payloads")].concat()
    };
    store.append(&shop(), admitted(&distinct(0, 10)), NOW - 9 * HOUR).await.unwrap();
    store.janitor(NOW).await.unwrap();
    assert_eq!(partitions(), of(&[hour, hour + 1, hour + 2]));
    store.append(&shop(), admitted(&distinct(10, 10)), NOW).await.unwrap();
    assert_eq!(sql(&database, &format!("SELECT count(*) FROM journal_{hour}")), "1");
    // Not empty, so it stays, however old it is.
    store.janitor(NOW + 5 * HOUR).await.unwrap();
    assert_eq!(partitions(), of(&[hour, hour + 5, hour + 6, hour + 7]));
    store.compact(&shop(), force(), NOW + 5 * HOUR).await.unwrap();
    store.janitor(NOW + 5 * HOUR + 10 * MINUTE).await.unwrap();
    assert_eq!(sql(&database, "SELECT count(*) FROM journal"), "2");
    // Compaction took a while, by which its rows were retired later.
    store.janitor(NOW + 5 * HOUR + 11 * MINUTE).await.unwrap();
    assert_eq!(sql(&database, "SELECT count(*) FROM journal"), "0");
    assert_eq!(sql(&database, "SELECT count(*) FROM journal_payloads"), "0");
    assert_eq!(partitions(), of(&[hour + 5, hour + 6, hour + 7]));
    assert_eq!(read(&store, &shop()).await.counted.len(), 20);
}

/// Calls that are dropped at any point neither lose what was acknowledged nor leave a connection inside a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_calls_lose_nothing() {
    let database = server().database().unwrap();
    let store = open(&database).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    // So many are cancelled; those that end in time come on top.
    let wanted: u64 =
        std::env::var("RUNNEL_CANCELS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(1_000);
    // Calls are dropped after up to four times as long as an append usually takes here, so that some end in time wherever this runs.
    let began = tokio::time::Instant::now();
    for id in 0..50 {
        store.append(&shop(), admitted(&distinct(u32::MAX - 100 + id, 1)), NOW).await.unwrap();
    }
    let usual = began.elapsed().as_micros() as u64 / 50;
    let (cancelled, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..4)
        .map(|worker| {
            let (store, cancelled, acknowledged) = (store.clone(), cancelled.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut random = Random(worker);
                let mut kept = Vec::new();
                for call in 0u64.. {
                    if cancelled.load(Ordering::Relaxed) >= wanted {
                        break;
                    }
                    let id = (call * 4 + worker) as u32;
                    let patience = Duration::from_micros(random.below(4 * usual));
                    let event = admitted(&distinct(id, 1));
                    let done = match random.below(4) {
                        0 => {
                            let read = tokio::time::timeout(patience, store.list(&shop(), 0)).await;
                            read.map(|listed| listed.map(|_| false).unwrap())
                        }
                        _ => {
                            let append =
                                async { store.append(&shop(), event, NOW).await.map(|_| true).unwrap() };
                            tokio::time::timeout(patience, append).await
                        }
                    };
                    match done {
                        Ok(true) => {
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                            kept.push(format!("event-{id}"));
                        }
                        Ok(false) => {}
                        Err(_) => _ = cancelled.fetch_add(1, Ordering::Relaxed),
                    }
                }
                kept
            })
        })
        .collect();
    let mut kept = Vec::new();
    for task in tasks {
        kept.extend(task.await.unwrap());
    }
    // Of this database alone: the server is shared with tests that are in the middle of theirs. What callers have left goes on to its end, which takes as long as there is of it.
    let idle = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let began = tokio::time::Instant::now();
    while sql(&database, idle) != "0" {
        assert!(began.elapsed() < Duration::from_secs(10), "connections stay inside transactions");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Whatever a connection still held open would be undone now.
    sql(
        "postgres",
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"),
    );
    let ids: BTreeSet<String> =
        read(&store, &shop()).await.counted.into_keys().map(|(_, _, id)| id).collect();
    assert_eq!(kept.iter().filter(|id| !ids.contains(*id)).count(), 0);
    let counts = (cancelled.load(Ordering::Relaxed), acknowledged.load(Ordering::Relaxed));
    println!("{} cancelled, {} acknowledged, 0 lost", counts.0, counts.1);
    assert!(counts.0 >= wanted && counts.1 > wanted / 20, "{counts:?}");
}

/// Connections are killed while batches are appended and compacted; whoever does not know the outcome repeats the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_connections_lose_and_repeat_nothing() {
    let database = server().database().unwrap();
    let store = open(&database).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    let batches: u32 = std::env::var("RUNNEL_KILLED").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let stop = Arc::new(AtomicBool::new(false));
    let killer = tokio::task::spawn_blocking({
        let (stop, database) = (stop.clone(), database.clone());
        move || {
            // Some of those that work, every few milliseconds.
            let kill = format!(
                "DO $$ DECLARE killed bigint; BEGIN FOR round IN 1..50 LOOP PERFORM pg_stat_clear_snapshot(); \
                 PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' \
                 AND usename <> 'postgres' AND state <> 'idle' AND random() < 0.2; \
                 PERFORM pg_sleep(0.004); END LOOP; END $$"
            );
            while !stop.load(Ordering::Relaxed) {
                sql("postgres", &kill);
            }
        }
    });
    let tasks: Vec<_> = (0..4u32)
        .map(|worker| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut unknown, mut failed) = (0u64, 0u64);
                for batch in 0..batches {
                    let first = worker * 1_000_000 + batch * 10;
                    loop {
                        let request = requested(&distinct(first, 10), &format!("{worker}-{batch}"), 1, "");
                        match store.append(&shop(), request, NOW).await {
                            Ok(_) => break,
                            Err(AppendError::Unavailable(Unavailable::OutcomeUnknown(_))) => unknown += 1,
                            Err(AppendError::Unavailable(_)) => failed += 1,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    if batch % 15 == worker {
                        let _ = store.compact(&shop(), force(), NOW).await;
                    }
                }
                (unknown, failed)
            })
        })
        .collect();
    let (mut unknown, mut failed) = (0, 0);
    for task in tasks {
        let counts = task.await.unwrap();
        (unknown, failed) = (unknown + counts.0, failed + counts.1);
    }
    stop.store(true, Ordering::Relaxed);
    killer.await.unwrap();
    println!("{unknown} outcomes unknown, {failed} other failures");
    assert!(unknown + failed > 0);
    let events = 4 * u64::from(batches) * 10;
    let contents = read(&store, &shop()).await;
    assert_eq!((contents.counted.len() as u64, contents.stored), (events, events));
    assert_eq!(contents.sequence, events / 10);
    assert_eq!(store.audit(&shop()).await.unwrap().accepted, events);
}

/// Many batches that wait for one tenant are all told soon, not one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_is_gone_is_said_at_once() {
    let server = Postgres::start("").unwrap();
    let database = server.database().unwrap();
    let store = Store::open_postgres(&PostgresOptions::new(server.url(&database, "owner"))).await.unwrap();
    store.create_tenant(&shop(), NOW).await.unwrap();
    store.append(&shop(), admitted(&distinct(0, 1)), NOW).await.unwrap();
    drop(server);
    let appends = (0..40).map(|id| {
        let store = store.clone();
        tokio::spawn(async move { store.append(&shop(), admitted(&distinct(id, 1)), NOW).await })
    });
    let appends: Vec<_> = appends.collect();
    let all = async {
        for append in appends {
            let error = append.await.unwrap().unwrap_err();
            assert!(matches!(error, AppendError::Unavailable(_)), "{error:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(5), all).await.unwrap();
}
