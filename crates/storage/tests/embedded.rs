//! What is particular to a data folder: who may open it, and what a crash, damage or a full disk leave.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

#[path = "samples/events.rs"]
mod events;

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use runnel_contracts::proto::journal::v1::Batch;
use runnel_model::{EventBatch, EventRef, limits};
use runnel_storage::{
    Admitted, AppendError, AuditError, BlockError, CompactOptions, EmbeddedOptions, FetchError, JournalError,
    NameKind, OpenError, Request, Store, Unavailable,
};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use xxhash_rust::xxh3::xxh3_64;

use events::{NOW, Random, admitted, distinct, read, requested, shop};

const MINUTE: i64 = 60_000;

fn force() -> CompactOptions {
    CompactOptions { force: true, ..CompactOptions::default() }
}

async fn open(dir: &Path) -> Store {
    open_with(dir, EmbeddedOptions::default()).await
}

async fn open_with(dir: &Path, options: EmbeddedOptions) -> Store {
    // A store that was dropped a moment ago lets go of the folder when its writer has finished.
    for _ in 0..200 {
        match Store::open_embedded(dir, options.clone()).await {
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            result => return result.unwrap(),
        }
    }
    panic!("the folder stays in use");
}

async fn opened(dir: &Path) -> Store {
    let store = open(dir).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    store
}

/// Works on the database behind the store's back, while it is closed.
async fn database(dir: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(dir.join("runnel.db")).connect().await.unwrap()
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new").join("data");
    let store = open(&path).await;
    let second = Store::open_embedded(&path, EmbeddedOptions::default()).await;
    let Err(error @ OpenError::InUse { .. }) = second else { panic!("{second:?}") };
    assert!(
        error.to_string().contains("data") && error.to_string().contains("choose another folder"),
        "{error}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    store.close().await;
    let again = Store::open_embedded(&path, EmbeddedOptions::default()).await.unwrap();
    assert!(matches!(store.list(&shop(), 0).await, Err(Unavailable::Closed)));
    let refused = store.append(&shop(), admitted(&distinct(0, 1)), NOW).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(Unavailable::Closed))), "{refused:?}");
    again.close().await;
}

/// What the first formats of a folder were made of.
const SCHEMAS: [&str; 2] =
    [include_str!("../src/embedded/schema/1.sql"), include_str!("../src/embedded/schema/2.sql")];

/// Copies what a folder of today holds into one of an earlier format, as the program of that time would have written it.
async fn write_as(format: usize, new: &Path, old: &Path) {
    fs::create_dir(old).unwrap();
    let options = SqliteConnectOptions::new().filename(old.join("runnel.db")).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let marks = format!("PRAGMA application_id = {}; PRAGMA user_version = {format}", 0x524e_4e4c);
    let attach = format!("ATTACH '{}' AS new", new.join("runnel.db").display());
    let copies = [
        "tenants SELECT tenant_id, created_ms, sequence, block_id, accepted_events, dropped_events, journal_bytes, \
         journal_events, definition_version FROM new.tenants JOIN new.heads USING (tenant_id)",
        "journal SELECT * FROM new.journal",
        "journal_payloads SELECT * FROM new.journal_payloads",
        "receipts SELECT * FROM new.receipts",
        "blocks SELECT * FROM new.blocks",
        "block_parts SELECT * FROM new.block_parts",
        "block_parts VALUES ('shop', 77, 0, x'00')",
    ];
    let copies = copies.map(|copy| format!("INSERT INTO main.{copy};")).concat();
    for statement in
        SCHEMAS[..format].iter().map(|schema| (*schema).to_owned()).chain([marks, attach, copies])
    {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
}

#[tokio::test]
async fn folders_of_earlier_formats_are_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    let store = opened(&new).await;
    store.append(&shop(), requested(&distinct(0, 3), "r", 1, ""), NOW).await.unwrap();
    store.compact(&shop(), force(), NOW).await.unwrap();
    store.append(&shop(), admitted(&distinct(3, 3)), NOW).await.unwrap();
    store.close().await;
    for format in [1, 2] {
        let old = dir.path().join(format!("format-{format}"));
        write_as(format, &new, &old).await;
        for again in [false, true] {
            let store = Store::open_embedded(&old, EmbeddedOptions::default()).await.unwrap();
            assert_eq!(store.audit(&shop()).await.unwrap().counted, 6);
            assert_eq!(store.backlog().await.unwrap().len(), 1);
            let names = store.names(&shop(), NameKind::Event).await.unwrap();
            assert_eq!(names.is_empty(), !again);
            let claimed = store.claim_names(&shop(), NameKind::Event, vec!["view".to_owned()], 1, true).await;
            assert!(claimed.unwrap().is_empty());
            store.close().await;
        }
        let store = Store::open_embedded(&old, EmbeddedOptions::default()).await.unwrap();
        store.append(&shop(), admitted(&distinct(6, 3)), NOW).await.unwrap();
        store.compact(&shop(), force(), NOW).await.unwrap();
        store.janitor(NOW + 8 * 24 * 60 * MINUTE).await.unwrap();
        assert_eq!(store.audit(&shop()).await.unwrap().counted, 9);
        assert!(store.receipt(&shop(), "r").await.unwrap().is_none());
        store.close().await;
        let mut connection = database(&old).await;
        for table in ["journal", "journal_payloads", "drafts", "chores", "block_parts WHERE block_id = 77"] {
            let count = format!("SELECT COUNT(*) FROM {table}");
            let count: (i64,) =
                sqlx::query_as(sqlx::AssertSqlSafe(count)).fetch_one(&mut connection).await.unwrap();
            assert_eq!(count.0, 0, "{table}");
        }
    }
}

#[tokio::test]
async fn other_folders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let newer = dir.path().join("newer");
    open(&newer).await.close().await;
    let mut connection = database(&newer).await;
    sqlx::query("PRAGMA user_version = 99").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let refused = Store::open_embedded(&newer, EmbeddedOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::NewerVersion { found: 99, known: 7, .. })), "{refused:?}");

    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    let options = SqliteConnectOptions::new().filename(foreign.join("runnel.db")).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE t (a)").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let refused = Store::open_embedded(&foreign, EmbeddedOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{refused:?}");

    let text = dir.path().join("text");
    fs::create_dir(&text).unwrap();
    fs::write(text.join("runnel.db"), "no database".repeat(99)).unwrap();
    let refused = Store::open_embedded(&text, EmbeddedOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::NoDatabase { .. })), "{refused:?}");

    let refused = Store::open_embedded(&text.join("runnel.db"), EmbeddedOptions::default()).await;
    assert!(matches!(refused, Err(OpenError::Io { .. })), "{refused:?}");
}

#[test]
fn what_was_acknowledged_survives_an_end_without_closing() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for life in 0..6u32 {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        acknowledged += runtime.block_on(async {
            let store = open(dir.path()).await;
            if life == 0 {
                store.create_tenant(&shop(), NOW).await.unwrap();
            }
            let contents = read(&store, &shop()).await;
            assert!(contents.stored >= acknowledged && contents.stored <= u64::from(life) * 300);
            let (mut count, tenant) = (0, shop());
            for at in 0..30 {
                let append = store.append(&tenant, admitted(&distinct(life * 1_000 + at * 10, 10)), NOW);
                if at == 25 + life % 4 {
                    let _ = tokio::time::timeout(Duration::from_micros(200), append).await;
                    tokio::spawn({
                        let store = store.clone();
                        async move { store.compact(&shop(), force(), NOW).await.map(|_| ()) }
                    });
                    break;
                }
                append.await.unwrap();
                count += 10;
            }
            count
        });
        // The writer is dropped in the middle of whatever it does.
        runtime.shutdown_background();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(dir.path()).await;
        store.compact(&shop(), force(), NOW).await.unwrap();
        let contents = read(&store, &shop()).await;
        assert!(contents.stored >= acknowledged, "{} of {acknowledged}", contents.stored);
        assert_eq!(contents.stored as usize, contents.counted.len());
        assert_eq!(store.audit(&shop()).await.unwrap().accepted, contents.stored);
        store.close().await;
    });
}

#[tokio::test]
async fn the_janitor_frees_what_nobody_needs() {
    let dir = tempfile::tempdir().unwrap();
    opened(dir.path()).await.close().await;
    let mut connection = database(dir.path()).await;
    for part in 0..40 {
        sqlx::query("INSERT INTO block_parts (tenant_id, block_id, part, bytes) VALUES ('shop', 77, ?, zeroblob(9000))")
            .bind(part)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    // A block whose writer ended fifty minutes ago.
    sqlx::query("INSERT INTO drafts (tenant_id, block_id, created_ms) VALUES ('shop', 77, ?)")
        .bind(NOW - 50 * MINUTE)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let store = open(dir.path()).await;
    let mut random = Random(1);
    for at in 0..50 {
        let mut batch = EventBatch::default();
        for row in 0..8_000 {
            let id: String = (0..8).map(|_| format!("{:016x}", random.any())).collect();
            batch.push(&EventRef {
                visitor: &format!("v{}", (at * row) % 999),
                time_ms: NOW,
                name: "n",
                event_id: &id,
                sequence: 0,
                fields: &[],
                properties: &[],
            });
        }
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap();
        store.append(&shop(), admitted, NOW).await.unwrap();
    }
    let before = store.stats(&shop()).await.unwrap();
    store.compact(&shop(), force(), NOW).await.unwrap();
    let rows: Vec<u64> = (1..=50).collect();
    assert_eq!(
        store.fetch_journal(&shop(), &rows[..3]).await.unwrap().len(),
        3,
        "still there for late readers"
    );
    store.janitor(NOW + 10 * MINUTE).await.unwrap();
    assert_eq!(store.fetch_journal(&shop(), &rows[..3]).await.unwrap().len(), 3);
    let full = store.stats(&shop()).await.unwrap();
    assert!(full.file_bytes > before.file_bytes);
    store.janitor(NOW + 11 * MINUTE).await.unwrap();
    assert!(matches!(store.fetch_journal(&shop(), &[1]).await, Err(FetchError::Missing)));
    let after = store.stats(&shop()).await.unwrap();
    assert!(after.file_bytes + (8 << 20) < full.file_bytes, "{after:?} {full:?}");
    assert_eq!(read(&store, &shop()).await.stored, 400_000);
    store.close().await;
    let mut connection = database(dir.path()).await;
    let (orphans,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM block_parts WHERE block_id = 77")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(orphans, 0);
}

#[tokio::test]
async fn a_backlog_is_refused_and_worked_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), EmbeddedOptions { backlog_bytes: 20_000, ..Default::default() }).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    let mut stored = 0;
    let refused = loop {
        match store.append(&shop(), admitted(&distinct(stored, 100)), NOW).await {
            Ok(_) => stored += 100,
            Err(error) => break error,
        }
    };
    let AppendError::Backlog { bytes, limit: 20_000, retry_after_ms } = refused else {
        panic!("{refused:?}")
    };
    assert!(bytes > 20_000 && retry_after_ms > 0 && stored > 0);
    let waiting = store.backlog().await.unwrap().remove(0);
    assert!(waiting.bytes <= 20_000 && waiting.events == u64::from(stored));
    store.compact(&shop(), force(), NOW).await.unwrap();
    store.append(&shop(), admitted(&distinct(stored, 100)), NOW).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let small = EmbeddedOptions { max_bytes: Some(1 << 20), ..Default::default() };
    let store = open_with(dir.path(), small).await;
    store.create_tenant(&shop(), NOW).await.unwrap();
    // Receipts that can be deleted later.
    for at in 0..6 {
        let request = Request { id: format!("large{at}"), content_hash: 1 };
        let outcome = Bytes::from(vec![at; 60_000]);
        let admitted = Admitted::new(EventBatch::default(), Some(request), outcome).unwrap();
        store.append(&shop(), admitted, NOW).await.unwrap();
    }
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for round in 0..60u32 {
        // Several at a time, so that commits are shared.
        let appends = (0..4).map(|sender| {
            let (store, at) = (store.clone(), round * 4 + sender);
            tokio::spawn(async move {
                let admitted = requested(&distinct(at * 1_000, 1_000), &format!("r{at}"), 1, "x");
                (at, store.append(&shop(), admitted, NOW).await)
            })
        });
        for append in appends.collect::<Vec<_>>() {
            match append.await.unwrap() {
                (at, Ok(_)) => acknowledged.push(at),
                (_, Err(AppendError::DiskFull)) => refused += 1,
                (_, Err(error)) => panic!("{error:?}"),
            }
        }
        if refused > 8 {
            break;
        }
    }
    assert!(refused > 8 && !acknowledged.is_empty());
    let contents = read(&store, &shop()).await;
    assert_eq!(contents.stored, acknowledged.len() as u64 * 1_000, "reading goes on");
    let compacted = store.compact(&shop(), force(), NOW).await;
    assert!(compacted.is_err(), "there is no space for blocks");
    store.janitor(NOW + limits::RECEIPT_MS + 1).await.unwrap();
    store.append(&shop(), admitted(&distinct(900_000, 100)), NOW).await.unwrap();
    store.close().await;

    let store = open(dir.path()).await;
    store.compact(&shop(), force(), NOW).await.unwrap();
    let contents = read(&store, &shop()).await;
    assert_eq!(contents.stored, acknowledged.len() as u64 * 1_000 + 100);
    store.append(&shop(), admitted(&distinct(990_000, 1)), NOW).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_is_known_of_ids_is_found_by_id_however_much_there_is() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await;
    let mut connection = database(dir.path()).await;
    for (column, index) in [("id", "aliases_by_id"), ("belongs_to", "aliases_by_whom")] {
        for asked in ["= ?", "IN (?)", "IN (?, ?, ?, ?)"] {
            let query = format!(
                "EXPLAIN QUERY PLAN SELECT number, kind, id, belongs_to, at_ms FROM aliases \
                 WHERE tenant_id = 'shop' AND {column} {asked} ORDER BY number LIMIT 100"
            );
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
            assert!(plan[0].3.contains(&format!("{index} (tenant_id=? AND {column}=?)")), "{plan:?}");
        }
    }
    for statement in ["SELECT list", "DELETE"] {
        let query = format!(
            "EXPLAIN QUERY PLAN {statement} FROM list_members WHERE tenant_id = 'shop' AND visitor_id IN (?, ?, ?, ?)"
        );
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
        assert!(plan[0].3.contains("list_members_by_id (tenant_id=? AND visitor_id=?)"), "{plan:?}");
    }
    sqlx::Connection::close(connection).await.unwrap();
}

/// Changes the stored bytes of a journal row, with the store closed.
async fn tamper(dir: &Path, sequence: i64, change: impl FnOnce(&mut Vec<u8>)) {
    let mut connection = database(dir).await;
    let (mut payload,): (Vec<u8>,) =
        sqlx::query_as("SELECT payload FROM journal_payloads WHERE sequence = ?")
            .bind(sequence)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    change(&mut payload);
    sqlx::query("UPDATE journal_payloads SET payload = ? WHERE sequence = ?")
        .bind(payload)
        .bind(sequence)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

/// A row that reads well, but whose events are not those that were admitted.
fn forge(payload: &mut Vec<u8>) {
    let raw = zstd::decode_all(&payload[12..payload.len() - 8]).unwrap();
    let mut batch = Batch::decode(&raw[..]).unwrap();
    batch.time_deltas[0] += 1;
    let raw = batch.encode_to_vec();
    payload.truncate(8);
    payload.extend((raw.len() as u32).to_le_bytes());
    payload.extend(zstd::encode_all(&raw[..], 1).unwrap());
    let checksum = xxh3_64(payload);
    payload.extend(checksum.to_le_bytes());
}

#[tokio::test]
async fn damaged_rows_go_to_quarantine_and_others_flow_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path()).await;
    for at in 0..20 {
        store.append(&shop(), admitted(&distinct(at * 10, 10)), NOW).await.unwrap();
    }
    store.close().await;
    tamper(dir.path(), 3, |payload| payload[40] ^= 1).await;
    tamper(dir.path(), 7, forge).await;
    tamper(dir.path(), 12, forge).await;
    tamper(dir.path(), 13, |payload| payload.truncate(5)).await;
    let mut connection = database(dir.path()).await;
    sqlx::query("DELETE FROM journal_payloads WHERE sequence = 20").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();

    let store = open(dir.path()).await;
    let damaged = store.fetch_journal(&shop(), &[2, 3, 4]).await;
    assert!(
        matches!(damaged, Err(FetchError::Damaged { sequence: 3, source: JournalError::Checksum })),
        "{damaged:?}"
    );
    let listed: Vec<u64> =
        store.list(&shop(), 0).await.unwrap().journal.iter().map(|row| row.sequence).collect();
    assert!(!listed.contains(&3) && listed.len() == 19, "the next listing leaves it out");
    let report = store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!((report.quarantined, report.inputs, report.more), (4, 15, false));
    assert_eq!(read(&store, &shop()).await.stored, 150);
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted, audit.quarantined), (200, 150, 50));
    assert_eq!(audit.quarantine_reasons.len(), 5);
    for (reason, part) in
        audit.quarantine_reasons.iter().zip(["checksum", "sums to", "sums to", "mark", "missing"])
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(store.backlog().await.unwrap(), []);
    // What is in quarantine is kept.
    store.janitor(NOW + 60 * MINUTE).await.unwrap();
    store.append(&shop(), admitted(&distinct(0, 300)), NOW).await.unwrap();
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted, audit.duplicates, audit.quarantined), (500, 300, 150, 50));
    store.close().await;
}

#[tokio::test]
async fn damaged_blocks_are_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path()).await;
    let one_by_one = CompactOptions { fan_in: 99, trigger_bytes: 1, ..CompactOptions::default() };
    for at in 0..4 {
        store.append(&shop(), admitted(&distinct(at * 1_000, 1_000)), NOW).await.unwrap();
        store.compact(&shop(), one_by_one.clone(), NOW).await.unwrap();
    }
    store.close().await;
    let mut random = Random(4);
    for _ in 0..40 {
        let mut connection = database(dir.path()).await;
        let (mut bytes,): (Vec<u8>,) = sqlx::query_as("SELECT bytes FROM block_parts WHERE block_id = 2")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let bit = random.below(bytes.len() as u64 * 8) as usize;
        let whole = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        for (bytes, damaged) in [(bytes, true), (whole, false)] {
            sqlx::query("UPDATE block_parts SET bytes = ? WHERE block_id = 2")
                .bind(bytes)
                .execute(&mut connection)
                .await
                .unwrap();
            let store = open(dir.path()).await;
            let fetched = store.fetch_block(&shop(), 2).await;
            assert_eq!(fetched.is_err(), damaged);
            if let Err(error) = fetched {
                assert!(matches!(error, FetchError::DamagedBlock { id: 2, source: BlockError::Checksum }));
            }
            store.close().await;
        }
    }
    let mut connection = database(dir.path()).await;
    sqlx::query("DELETE FROM block_parts WHERE block_id = 2").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let store = open(dir.path()).await;
    let report = store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!((report.damaged, report.merged), (vec![2], 3));
    assert_eq!(store.list(&shop(), 0).await.unwrap().blocks.len(), 2, "it stays listed");
    let audit = store.audit(&shop()).await;
    assert!(matches!(audit, Err(AuditError::Fetch(FetchError::DamagedBlock { id: 2, .. }))), "{audit:?}");
    store.close().await;
}
