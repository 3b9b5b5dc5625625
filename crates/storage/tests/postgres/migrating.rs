//! The schema changes while others work with it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runnel_model::TenantName;
use runnel_storage::Store;
use tokio::time::{Instant, sleep};

use super::{ASLEEP, HOUR, SCHEMA, open, options, server, sql, until};
use crate::events::{NOW, admitted, distinct, shop};

/// How long somebody holds a table that a migration needs, and how long a migration keeps others waiting at a time.
const HELD: Duration = Duration::from_secs(7);
const WAITS: Duration = Duration::from_secs(2);

/// A database as the first version of the schema has it.
fn version_1() -> String {
    let database = server().database().unwrap();
    let schema = include_str!("../../src/postgres/migrations/1.sql");
    let script = format!(
        "SET ROLE owner;\n{schema}\n\
         CREATE TABLE runnel_schema (version bigint NOT NULL, oldest_program bigint NOT NULL);\n\
         INSERT INTO runnel_schema (version, oldest_program) VALUES (1, 1);\n"
    );
    server().script(&database, script.as_bytes()).unwrap();
    database
}

const VERSION: &str = "SELECT count(*), max(version), max(oldest_program) FROM runnel_schema";

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_has_no_partition_leaves_the_next_ones_theirs() {
    let database = version_1();
    let hour = "SELECT floor(extract(epoch FROM clock_timestamp()) / 3600)::bigint";
    let hour: i64 = sql(&database, hour).parse().unwrap();
    let row = format!(
        "INSERT INTO journal (tenant_id, sequence, hour, created_ms, events, bytes, raw_bytes, content_sum) \
         VALUES ('shop', 1, {hour}, 0, 1, 1, 1, ''); \
         INSERT INTO journal_payloads (tenant_id, sequence, hour, payload) VALUES ('shop', 1, {hour}, '')"
    );
    sql(&database, &row);
    let partition = |hour: i64| {
        let there = ["journal", "journal_payloads"]
            .map(|table| format!("to_regclass('{table}_{hour}') IS NOT NULL"))
            .join(", ");
        sql(&database, &format!("SELECT {there}"))
    };
    let turned = format!("SELECT turn_partitions('journal', {hour})");
    let said = server().sql(&database, &turned).unwrap_err().to_string();
    assert!(said.contains("would be violated by some row"), "{said}");

    let store = open(&database).await;
    assert_eq!(sql(&database, VERSION), format!("1|{SCHEMA}|1"));
    assert_eq!([hour, hour + 1, hour + 2].map(partition), ["f|f", "t|t", "t|t"]);
    store.create_tenant(&shop(), NOW).await.unwrap();
    sql(&database, "UPDATE heads SET sequence = 1 WHERE tenant_id = 'shop'");
    store.append(&shop(), admitted(&distinct(0, 10)), (hour + 1) * HOUR).await.unwrap();
    assert_eq!(sql(&database, &format!("SELECT count(*) FROM journal_{}", hour + 1)), "1");
    // Another hour later nothing is in the way either, and in the end of this one neither.
    store.janitor((hour + 1) * HOUR).await.unwrap();
    assert_eq!([hour, hour + 3].map(partition), ["f|f", "t|t"]);
    let freed = "DELETE FROM journal WHERE sequence = 1; DELETE FROM journal_payloads WHERE sequence = 1";
    sql(&database, freed);
    store.janitor(hour * HOUR).await.unwrap();
    assert_eq!(partition(hour), "t|t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_schema_changes_while_others_work() {
    let database = version_1();
    // One who works with the first version.
    let held = Arc::new(AtomicBool::new(true));
    let appends = tokio::spawn({
        let (database, held) = (database.clone(), held.clone());
        async move {
            let (mut batches, mut longest) = (0, Duration::ZERO);
            while held.load(Ordering::Relaxed) {
                let began = Instant::now();
                older_append(&database, batches).await;
                longest = longest.max(began.elapsed());
                batches += 1;
                sleep(Duration::from_millis(5)).await;
            }
            (batches, longest)
        }
    });
    let holder = tokio::task::spawn_blocking({
        let database = database.clone();
        let seconds = HELD.as_secs();
        move || {
            let hold = "LOCK TABLE chores IN ACCESS SHARE MODE";
            sql(&database, &format!("BEGIN; {hold}; SELECT pg_sleep({seconds}); COMMIT"))
        }
    });
    until(&database, ASLEEP, "t").await;
    let began = Instant::now();
    let migrations = [0, 1].map(|_| {
        let options = options(&database);
        tokio::spawn(async move { Store::open_postgres(&options).await.unwrap() })
    });
    sleep(HELD - WAITS).await;
    assert_eq!(sql(&database, VERSION), "1|1|1");
    holder.await.unwrap();
    let mut stores = Vec::new();
    for migration in migrations {
        stores.push(migration.await.unwrap());
    }
    let took = began.elapsed();
    held.store(false, Ordering::Relaxed);
    let (batches, longest) = appends.await.unwrap();
    println!("migrated in {took:?}; {batches} appends meanwhile, the longest in {longest:?}");
    assert!(longest > WAITS / 2, "no append met the migration: {longest:?}");
    assert!(longest < 2 * WAITS, "an append waited for {longest:?}");
    // However slow the machine: each wait of a migration lets some by, before and behind it.
    assert!(batches > 3, "{batches} appends");
    // One changed it, the other one found it changed: a column cannot be added twice.
    assert_eq!(sql(&database, VERSION), format!("1|{SCHEMA}|1"));
    assert_eq!(sql(&database, "SELECT max(lease_token) FROM chores"), "0");
    // Who was there before works on, beside those who came.
    for (number, store) in (batches..).zip([&stores[0], &stores[1]]) {
        first_append(store, number).await;
    }
    older_append(&database, batches + 2).await;
    let backlog = stores[0].backlog().await.unwrap();
    assert_eq!(backlog.iter().map(|waiting| waiting.events).sum::<u64>(), u64::from(batches + 3) * 10);
}

/// Appends for a tenant of this number, which notes in the table that is held that there is something to do.
async fn first_append(store: &Store, number: u32) {
    let tenant = TenantName::parse(&format!("tenant-{number}")).unwrap();
    store.create_tenant(&tenant, NOW).await.unwrap();
    store.append(&tenant, admitted(&distinct(0, 10)), NOW).await.unwrap();
}

/// The same as a program did it that knows only the first version.
async fn older_append(database: &str, number: u32) {
    let tenant = format!("'tenant-{number}'");
    let statements = format!(
        "BEGIN; SELECT set_config('runnel.tenant', {tenant}, true); \
         INSERT INTO tenants (tenant_id, created_ms) VALUES ({tenant}, {NOW}); \
         INSERT INTO heads (tenant_id) VALUES ({tenant}); \
         SELECT sequence FROM heads WHERE tenant_id = {tenant} FOR NO KEY UPDATE; \
         INSERT INTO journal (tenant_id, sequence, hour, created_ms, events, bytes, raw_bytes, content_sum) \
         VALUES ({tenant}, 1, 0, {NOW}, 10, 1, 1, ''); \
         UPDATE heads SET sequence = 1, journal_bytes = 1, journal_events = 10, accepted_events = 10 \
         WHERE tenant_id = {tenant}; \
         INSERT INTO chores (tenant_id, waiting, sweep_ms) VALUES ({tenant}, 1, {NOW}) \
         ON CONFLICT (tenant_id) DO UPDATE SET waiting = 1; COMMIT"
    );
    let database = database.to_owned();
    tokio::task::spawn_blocking(move || sql(&database, &statements)).await.unwrap();
}
