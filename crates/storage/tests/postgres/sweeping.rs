//! Janitors of several processes at once, and one that cannot do all of its work.

use runnel_model::TenantName;

use super::{ASLEEP, HOUR, MINUTE, open, server, sql, until};
use crate::events::{NOW, shop};

/// What can be freed of a tenant: journal rows with their payloads, and blocks of several parts.
fn leave(database: &str, tenant: &str, rows: u32, blocks: u32) {
    let hour = NOW / HOUR;
    sql(
        database,
        &format!(
            "INSERT INTO journal (tenant_id, sequence, hour, created_ms, events, bytes, raw_bytes, content_sum, retired_ms) \
             SELECT '{tenant}', number, {hour}, {NOW}, 1, 1, 1, '', {NOW} FROM generate_series(1, {rows}) AS number; \
             INSERT INTO journal_payloads (tenant_id, sequence, hour, payload) \
             SELECT '{tenant}', number, {hour}, 'payload' FROM generate_series(1, {rows}) AS number; \
             INSERT INTO blocks (tenant_id, block_id, first_sequence, last_sequence, month, partition_id, events, bytes, \
             checksum, content_sum, created_ms, retired_ms) \
             SELECT '{tenant}', block, 1, 1, 1, 0, 1, 1, '', '', {NOW}, {NOW} FROM generate_series(1, {blocks}) AS block; \
             INSERT INTO block_parts (tenant_id, block_id, part, bytes) SELECT '{tenant}', block, part, 'part' \
             FROM generate_series(1, {blocks}) AS block, generate_series(0, 29) AS part; \
             INSERT INTO chores (tenant_id, waiting, sweep_ms) VALUES ('{tenant}', 0, {NOW}) \
             ON CONFLICT (tenant_id) DO UPDATE SET sweep_ms = excluded.sweep_ms"
        ),
    );
}

fn left(database: &str, tenant: &str) -> String {
    let count = |table: &str| format!("(SELECT count(*) FROM {table} WHERE tenant_id = '{tenant}')");
    let counts = ["journal", "journal_payloads", "blocks", "block_parts"].map(count);
    sql(database, &format!("SELECT {}", counts.join(", ")))
}

/// Payloads without a row, and parts without a block or a draft.
const LOST: &str = "SELECT (SELECT count(*) FROM journal_payloads LEFT JOIN journal USING (tenant_id, sequence) WHERE journal.hour IS NULL), \
                    (SELECT count(*) FROM block_parts LEFT JOIN blocks USING (tenant_id, block_id) \
                    LEFT JOIN drafts USING (tenant_id, block_id) WHERE blocks.month IS NULL AND drafts.created_ms IS NULL)";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_janitors_leave_nothing_behind() {
    let database = server().database().unwrap();
    let stores = [open(&database).await, open(&database).await];
    stores[0].create_tenant(&shop(), NOW).await.unwrap();
    // A pause behind each of these deletions: so both are at the same rows and parts again and again.
    sql(
        &database,
        "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.005); RETURN NULL; END $$; \
         CREATE TRIGGER pause AFTER DELETE ON journal_payloads FOR EACH STATEMENT EXECUTE FUNCTION pause(); \
         CREATE TRIGGER pause AFTER DELETE ON block_parts FOR EACH STATEMENT EXECUTE FUNCTION pause()",
    );
    for round in 0..4 {
        leave(&database, "shop", 400, 8);
        // Who finds the other one at work leaves the rest to it, and it may have been about to end.
        for _ in 0..3 {
            let sweeps = stores
                .clone()
                .map(|store| tokio::spawn(async move { store.janitor(NOW + 11 * MINUTE).await.unwrap() }));
            for sweep in sweeps {
                sweep.await.unwrap();
            }
            assert_eq!(sql(&database, LOST), "0|0", "round {round}");
        }
        assert_eq!(left(&database, "shop"), "0|0|0|0", "round {round}");
    }
}

/// The same with one that holds for a second what it has begun with.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_janitor_has_begun_with_is_left_to_it() {
    let rows = "DELETE FROM journal WHERE sequence <= 32; DELETE FROM journal_payloads WHERE sequence <= 32";
    let parts = "SELECT block_id FROM blocks WHERE block_id = 1 FOR UPDATE; \
                 DELETE FROM block_parts WHERE block_id = 1 AND part >= 22";
    for begun in [rows, parts] {
        let database = server().database().unwrap();
        let store = open(&database).await;
        store.create_tenant(&shop(), NOW).await.unwrap();
        leave(&database, "shop", 100, 3);
        let other = tokio::task::spawn_blocking({
            let database = database.clone();
            move || sql(&database, &format!("BEGIN; {begun}; SELECT pg_sleep(1); COMMIT"))
        });
        until(&database, ASLEEP, "t").await;
        store.janitor(NOW + 11 * MINUTE).await.unwrap();
        other.await.unwrap();
        assert_eq!(sql(&database, LOST), "0|0", "{begun}");
        store.janitor(NOW + 11 * MINUTE).await.unwrap();
        assert_eq!(left(&database, "shop"), "0|0|0|0", "{begun}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_be_swept_holds_up_nobody() {
    let database = server().database().unwrap();
    let store = open(&database).await;
    // Tenants are swept in this order.
    for tenant in ["broken", "sound"] {
        store.create_tenant(&TenantName::parse(tenant).unwrap(), NOW).await.unwrap();
        leave(&database, tenant, 40, 2);
    }
    sql(
        &database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '40P01'; END $$; \
         CREATE TRIGGER refuse BEFORE DELETE ON journal FOR EACH ROW WHEN (OLD.tenant_id = 'broken') EXECUTE FUNCTION refuse()",
    );
    store.janitor(NOW + 11 * MINUTE).await.unwrap();
    assert_eq!(
        (left(&database, "broken"), left(&database, "sound")),
        ("40|40|2|60".into(), "0|0|0|0".into())
    );
    let next = format!("SELECT to_regclass('journal_{}') IS NOT NULL", NOW / HOUR + 1);
    assert_eq!(sql(&database, &next), "t");
    // It is not forgotten.
    sql(&database, "DROP TRIGGER refuse ON journal");
    store.janitor(NOW + 11 * MINUTE).await.unwrap();
    assert_eq!(left(&database, "broken"), "0|0|0|0");
}
