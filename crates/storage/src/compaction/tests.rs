//! What a round cannot do, or not at once: it does the rest, remembers, and loses nothing.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use runnel_model::{ContentSum, EventBatch, EventRef, TenantName, ValueRef, content_hashes};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{Bounds, CompactOptions, CompactionReport, Merges, compact};
use crate::{
    Admitted, EmbeddedOptions, FetchError, SimulatedDatabase, SimulatedFaults, SimulatedOptions, Store,
    backend::{Backend, Inputs, Swap},
    embedded::Embedded,
    merge::{Dropped, NewBlock},
};

const NOW: i64 = 1_767_225_600_000;
const MONTH: i64 = 31 * 86_400_000;
const HOUR: i64 = 3_600_000;

fn shop() -> TenantName {
    TenantName::parse("shop").unwrap()
}

fn force() -> CompactOptions {
    CompactOptions { force: true, ..CompactOptions::default() }
}

/// Events numbered from `first` on with a text each.
fn events(first: u32, count: u32, time_ms: i64, text: impl Fn(u32) -> String) -> Admitted {
    let mut batch = EventBatch::default();
    for id in first..first + count {
        batch.push(&EventRef {
            visitor: &format!("v{}", id % 10),
            time_ms,
            name: "n",
            event_id: &format!("e{id}"),
            sequence: 0,
            fields: &[],
            properties: &[("text", ValueRef::String(&text(id)))],
        });
    }
    Admitted::new(batch, None, Bytes::new()).unwrap()
}

/// What counts, as any reader finds it.
async fn contents(store: &Store) -> BTreeMap<(Vec<u8>, i64), u128> {
    let listing = store.list(&shop(), 0).await.unwrap();
    let sequences: Vec<u64> = listing.journal.iter().map(|row| row.sequence).collect();
    let mut first: BTreeMap<(Vec<u8>, i64), (u64, usize, u128)> = BTreeMap::new();
    let mut add = |batch: &EventBatch, number: &dyn Fn(usize) -> u64| {
        for (row, hash) in content_hashes(batch).into_iter().enumerate() {
            let new = (number(row), row, hash);
            let known = first.entry((batch.event_ids.get(row).to_vec(), batch.times[row])).or_insert(new);
            *known = new.min(*known);
        }
    };
    for (number, batch) in store.fetch_journal(&shop(), &sequences).await.unwrap() {
        add(&batch, &|_| number);
    }
    for block in listing.blocks {
        let block = store.fetch_block(&shop(), block.id).await.unwrap();
        for group in 0..block.row_groups().len() {
            let (batch, numbers) = block.read_events(group).unwrap();
            add(&batch, &|row| numbers[row]);
        }
    }
    first.into_iter().map(|(identity, (_, _, hash))| (identity, hash)).collect()
}

/// A folder, its store, and what one process remembers of it.
struct Folder {
    dir: TempDir,
    backend: Backend,
    store: Store,
    merges: Merges,
}

impl Folder {
    async fn open_in(dir: TempDir, bounds: Bounds) -> Folder {
        let backend =
            Backend::Embedded(Embedded::open(dir.path(), EmbeddedOptions::default()).await.unwrap());
        let store = Store::over(backend.clone());
        Folder { dir, backend, store, merges: Merges { bounds, ..Merges::default() } }
    }

    async fn new(bounds: Bounds) -> Folder {
        let folder = Folder::open_in(tempfile::tempdir().unwrap(), bounds).await;
        folder.store.create_tenant(&shop(), NOW).await.unwrap();
        folder
    }

    /// A new process opens the folder after somebody worked on it behind its back.
    async fn changed(self, change: impl AsyncFnOnce(&mut SqliteConnection)) -> Folder {
        self.store.close().await;
        let mut connection = database(self.dir.path()).await;
        change(&mut connection).await;
        sqlx::Connection::close(connection).await.unwrap();
        Folder::open_in(self.dir, self.merges.bounds).await
    }

    async fn append(&self, admitted: Admitted) {
        self.store.append(&shop(), admitted, NOW).await.unwrap();
    }

    async fn compact(&self, options: &CompactOptions) -> CompactionReport {
        compact(&self.backend, &self.merges, &shop(), options.clone(), NOW).await.unwrap()
    }

    /// Every batch becomes blocks of its own.
    async fn append_as_blocks(&self, admitted: Admitted) {
        self.append(admitted).await;
        let report =
            self.compact(&CompactOptions { trigger_bytes: 1, fan_in: 99, ..CompactOptions::default() }).await;
        assert_eq!((report.inputs, report.merged), (1, 0));
    }

    async fn blocks(&self) -> Vec<u64> {
        let listing = self.store.list(&shop(), 0).await.unwrap();
        assert_eq!(listing.journal, []);
        listing.blocks.iter().map(|block| block.id).collect()
    }
}

async fn database(dir: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(dir.join("runnel.db")).connect().await.unwrap()
}

#[tokio::test]
async fn rows_of_a_newer_program_are_left_to_it() {
    let folder = Folder::new(Bounds::default()).await;
    for at in 0..6 {
        folder.append(events(at * 10, 10, NOW, |_| "x".to_owned())).await;
    }
    let whole = contents(&folder.store).await;
    let mut stored = Vec::new();
    let folder = folder
        .changed(async |connection| {
            let read = "SELECT payload FROM journal_payloads WHERE sequence = 4";
            (stored,) = sqlx::query_as(read).fetch_one(&mut *connection).await.unwrap();
            let mut newer = stored[..stored.len() - 8].to_vec();
            newer[4] = 2;
            newer.extend(xxh3_64(&newer).to_le_bytes());
            write_payload(connection, newer).await;
        })
        .await;
    for (options, inputs) in [(force(), 3), (force(), 0), (CompactOptions::default(), 0)] {
        let report = compact(&folder.backend, &folder.merges, &shop(), options, NOW + HOUR).await.unwrap();
        assert_eq!((report.inputs, report.quarantined, report.more), (inputs, 0, false));
    }
    let listing = folder.store.list(&shop(), 0).await.unwrap();
    assert_eq!(listing.journal.iter().map(|row| row.sequence).collect::<Vec<_>>(), [4, 5, 6]);
    let read = folder.store.fetch_journal(&shop(), &[4, 5]).await;
    assert!(matches!(read, Err(FetchError::Newer { sequence: 4, .. })), "{read:?}");
    assert_eq!(folder.store.list(&shop(), 0).await.unwrap(), listing, "who reads it does not set it aside");
    assert!(folder.store.audit(&shop()).await.is_err());
    // Another tenant is not held up.
    let other = TenantName::parse("other").unwrap();
    folder.store.create_tenant(&other, NOW).await.unwrap();
    folder.store.append(&other, events(0, 10, NOW, |_| "x".to_owned()), NOW).await.unwrap();
    assert_eq!(folder.store.compact(&other, force(), NOW).await.unwrap().inputs, 1);
    // The newer program.
    let folder = folder.changed(async |connection| write_payload(connection, stored).await).await;
    assert_eq!(folder.compact(&force()).await.inputs, 3);
    assert_eq!(contents(&folder.store).await, whole);
    folder.store.close().await;
}

#[tokio::test]
async fn a_round_that_is_not_forced_waits_for_no_other() {
    let folder = Folder::new(Bounds::default()).await;
    folder.append(events(0, 10, NOW, |_| "x".to_owned())).await;
    let due = CompactOptions { trigger_bytes: 1, ..CompactOptions::default() };
    let alone = folder.backend.compaction_lock(&shop(), true).await.unwrap().unwrap();
    assert_eq!(folder.compact(&due).await, CompactionReport::default());
    folder.backend.compaction_ends(&shop(), alone).await;
    assert_eq!(folder.compact(&due).await.inputs, 1);
    folder.store.close().await;
}

async fn write_payload(connection: &mut SqliteConnection, payload: Vec<u8>) {
    let write = "UPDATE journal_payloads SET payload = ? WHERE sequence = 4 AND tenant_id = 'shop'";
    sqlx::query(write).bind(payload).execute(connection).await.unwrap();
}

#[tokio::test]
async fn blocks_of_many_texts_are_merged_as_far_as_memory_goes() {
    let bounds = Bounds { merge_raw_bytes: 1_000_000, ..Bounds::default() };
    let folder = Folder::new(bounds).await;
    // Texts that nothing compresses away: some 250 KiB a block, and 2 MiB in the fourth.
    let text =
        |id: u32| (0..40).map(|at| format!("{:x}", (id * 41 + at).wrapping_mul(2_654_435_761))).collect();
    for at in 0..10 {
        folder.append_as_blocks(events(at * 10_000, if at == 3 { 6_000 } else { 700 }, NOW, text)).await;
    }
    let before = contents(&folder.store).await;
    let listing = folder.store.list(&shop(), 0).await.unwrap();
    let large = listing.blocks[3].id;
    let report = folder.compact(&force()).await;
    assert!(report.merged >= 9 && report.damaged.is_empty() && !report.more, "{report:?}");
    let blocks = folder.blocks().await;
    assert!(blocks.contains(&large) && (4..7).contains(&blocks.len()), "{blocks:?}");
    for id in blocks.iter().filter(|id| **id != large) {
        let block = folder.store.fetch_block(&shop(), *id).await.unwrap();
        assert!(block.raw_bytes() < 1_100_000, "{}", block.raw_bytes());
    }
    assert_eq!(folder.compact(&force()).await, CompactionReport::default(), "nothing is tried again");
    assert_eq!(contents(&folder.store).await, before);
    let folder = Folder { merges: Merges::default(), ..folder };
    folder.compact(&force()).await;
    assert_eq!(folder.blocks().await.len(), 1, "who has more memory merges more");
    assert_eq!(contents(&folder.store).await, before);
    folder.store.close().await;
}

#[tokio::test]
async fn steps_and_merges_with_many_conflicts_take_fewer_inputs() {
    let folder = Folder::new(Bounds { swap_rows: 250, ..Bounds::default() }).await;
    // Every event comes sixteen times with other content.
    for at in 0..16 {
        folder.append(events(0, 100, NOW, |id| format!("{at} {id}"))).await;
    }
    let (before, audit) = (contents(&folder.store).await, folder.store.audit(&shop()).await.unwrap());
    assert_eq!((audit.counted, audit.conflicts), (100, 1_500));
    let report =
        folder.compact(&CompactOptions { trigger_bytes: 1, fan_in: 99, ..CompactOptions::default() }).await;
    assert_eq!((report.inputs, report.blocks, report.conflicts), (16, 8, 800));
    let report = folder.compact(&force()).await;
    assert!(!report.more && report.damaged.is_empty());
    assert_eq!(folder.blocks().await.len(), 1);
    assert_eq!(contents(&folder.store).await, before);
    assert_eq!(folder.store.audit(&shop()).await.unwrap(), audit);
    // Two that are too much together stay as they are.
    for at in 0..2 {
        folder.append_as_blocks(events(1_000, 400, NOW, |id| format!("{at} {id}"))).await;
    }
    let (before, audit) = (contents(&folder.store).await, folder.store.audit(&shop()).await.unwrap());
    folder.compact(&force()).await;
    assert_eq!(folder.blocks().await.len(), 2);
    assert_eq!(folder.compact(&force()).await, CompactionReport::default());
    assert_eq!(contents(&folder.store).await, before);
    assert_eq!(folder.store.audit(&shop()).await.unwrap(), audit);
    folder.store.close().await;
}

#[tokio::test]
async fn a_merge_that_fails_does_not_hold_up_others() {
    let folder = Folder::new(Bounds::default()).await;
    for at in 0..8 {
        let month = i64::from(at / 4);
        folder.append_as_blocks(events(at * 10, 10, NOW + month * MONTH, |_| "x".to_owned())).await;
    }
    let before = contents(&folder.store).await;
    // A block that holds something else than it says: what is made of it cannot be proved.
    let folder = folder
        .changed(async |connection| {
            let read = "SELECT bytes FROM block_parts WHERE block_id = 2";
            let (mut bytes,): (Vec<u8>,) = sqlx::query_as(read).fetch_one(&mut *connection).await.unwrap();
            let key = b"runnel.content_sum";
            let at = bytes.windows(key.len()).rposition(|window| window == key).unwrap() + key.len();
            let digit = at + bytes[at..].iter().position(|byte| byte.is_ascii_hexdigit()).unwrap() + 8;
            bytes[digit] = if bytes[digit] == b'0' { b'1' } else { b'0' };
            let checksum = xxh3_64(&bytes).to_le_bytes().to_vec();
            for (statement, value) in [
                ("UPDATE block_parts SET bytes = ? WHERE block_id = 2", bytes),
                ("UPDATE blocks SET checksum = ? WHERE block_id = 2", checksum),
            ] {
                sqlx::query(statement).bind(value).execute(&mut *connection).await.unwrap();
            }
        })
        .await;
    let options = CompactOptions { fan_in: 4, ..CompactOptions::default() };
    let report = folder.compact(&options).await;
    assert_eq!((report.damaged, report.merged, report.more), (vec![1, 2, 3, 4], 4, false));
    assert_eq!(folder.blocks().await, [1, 2, 3, 4, 9]);
    let report = folder.compact(&options).await;
    assert_eq!(report, CompactionReport::default(), "it is not tried again");
    folder.append_as_blocks(events(900, 10, NOW, |_| "x".to_owned())).await;
    folder.append_as_blocks(events(910, 10, NOW, |_| "x".to_owned())).await;
    assert_eq!(folder.compact(&force()).await.merged, 2, "others of its month are merged");
    assert!(contents(&folder.store).await.len() == before.len() + 20);
    folder.store.close().await;
}

#[tokio::test]
async fn what_another_round_has_taken_is_not_taken_again() {
    let folder = Folder::new(Bounds::default()).await;
    for at in 0..4 {
        folder.append(events(at * 10, 10, NOW, |_| "x".to_owned())).await;
    }
    let rows = folder.store.list(&shop(), 0).await.unwrap().journal;
    let of = |first: u64, last: u64| {
        let taken: Vec<_> = rows.iter().filter(|row| (first..=last).contains(&row.sequence)).collect();
        let (events, bytes) =
            (taken.iter().map(|row| u64::from(row.events)).sum(), taken.iter().map(|row| row.bytes).sum());
        Inputs::Rows { first, last, rows: taken.len() as u64, bytes, events }
    };
    // Puts a block in the place of its inputs, as a round does that has read them.
    let swap = async |inputs: Inputs| {
        let block = NewBlock {
            month: 0,
            partition: 0,
            first_sequence: 1,
            last_sequence: 4,
            events: 10,
            content_sum: ContentSum::default(),
            bytes: Bytes::from_static(b"a block"),
        };
        let written = folder.backend.write_block(&shop(), block, NOW).await.unwrap();
        let id = written.id;
        let swap = Swap { inputs, blocks: vec![written], dropped: Dropped::default(), erased: 0 };
        folder.backend.swap(&shop(), swap, NOW).await.unwrap().then_some(id)
    };
    let first = swap(of(1, 2)).await.unwrap();
    assert_eq!(swap(of(1, 2)).await, None, "all of these rows are taken");
    assert_eq!(swap(of(2, 3)).await, None, "one of these rows is taken");
    let second = swap(of(3, 3)).await.unwrap();
    let merged = swap(Inputs::Blocks(vec![first])).await.unwrap();
    assert_eq!(swap(Inputs::Blocks(vec![first])).await, None, "the block is taken");
    assert_eq!(swap(Inputs::Blocks(vec![second, first])).await, None, "one of the blocks is taken");
    let listing = folder.store.list(&shop(), 0).await.unwrap();
    let there: Vec<u64> = listing.blocks.iter().map(|block| block.id).collect();
    assert_eq!(there, [second, merged]);
    assert_eq!(listing.journal, &rows[3..], "what was not taken is still there");
    folder.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_deleted_while_it_is_written_leaves_nothing() {
    let folder = Folder::new(Bounds::default()).await;
    // Too large to be written together with the note of them.
    let text =
        |id: u32| (0..40).map(|at| format!("{:x}", (id * 41 + at).wrapping_mul(2_654_435_761))).collect();
    for at in 0..30 {
        folder.append(events(at * 1_000, 1_000, NOW + i64::from(at % 5) * MONTH, text)).await;
    }
    let before = contents(&folder.store).await;
    let sweeping = tokio::spawn({
        let store = folder.store.clone();
        async move {
            // A janitor for whom every block that is being written is hours old.
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(1) {
                store.janitor(NOW + 2 * HOUR).await.unwrap();
            }
        }
    });
    let small = CompactOptions { step_events: 3_000, ..force() };
    folder.compact(&small).await;
    sweeping.await.unwrap();
    assert_eq!(contents(&folder.store).await, before);
    folder
        .changed(async |connection| {
            let (orphans,): (i64,) = sqlx::query_as(
                "SELECT COUNT(*) FROM block_parts WHERE block_id NOT IN (SELECT block_id FROM blocks) \
                 AND block_id NOT IN (SELECT block_id FROM drafts)",
            )
            .fetch_one(connection)
            .await
            .unwrap();
            assert_eq!(orphans, 0);
        })
        .await
        .store
        .close()
        .await;
}

/// A database that takes about a second for each statement, by a clock that runs ahead.
fn slow(database: &SimulatedDatabase) {
    database.set_faults(SimulatedFaults { latency_ms: 1_000, ..SimulatedFaults::default() });
}

fn simulated() -> (SimulatedDatabase, Store) {
    let database = SimulatedDatabase::new(SimulatedOptions { now_ms: NOW, ..SimulatedOptions::default() });
    let store = database.process().store();
    (database, store)
}

/// Compacts until it succeeds. Answers how often it did not.
async fn until_done(store: &Store, options: &CompactOptions) -> u32 {
    for failed in 0..200 {
        if store.compact(&shop(), options.clone(), NOW).await.is_ok() {
            return failed;
        }
    }
    panic!("it fails for ever");
}

#[tokio::test(start_paused = true)]
async fn swaps_that_take_too_long_get_smaller() {
    let (database, store) = simulated();
    store.create_tenant(&shop(), NOW).await.unwrap();
    let altered = |at: u32| events(0, 400, NOW, move |id| format!("{at} {id}"));
    for at in 0..32 {
        store.append(&shop(), altered(at), NOW).await.unwrap();
    }
    let (before, audit) = (contents(&store).await, store.audit(&shop()).await.unwrap());
    slow(&database);
    let failed = until_done(&store, &CompactOptions { fan_in: 99, ..force() }).await;
    assert!(failed > 1, "{failed}");
    database.set_faults(SimulatedFaults::default());
    assert_eq!(contents(&store).await, before);
    assert_eq!(store.audit(&shop()).await.unwrap(), audit);
    // The same of blocks.
    for at in 32..64 {
        store.append(&shop(), altered(at), NOW).await.unwrap();
        let one = CompactOptions { trigger_bytes: 1, fan_in: 99, ..CompactOptions::default() };
        store.compact(&shop(), one, NOW).await.unwrap();
    }
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!(store.list(&shop(), 0).await.unwrap().blocks.len(), 33);
    slow(&database);
    let failed = until_done(&store, &force()).await;
    assert!(failed > 1, "{failed}");
    database.set_faults(SimulatedFaults::default());
    assert_eq!(store.list(&shop(), 0).await.unwrap().blocks.len(), 1);
    assert_eq!(contents(&store).await, before);
    assert_eq!(store.audit(&shop()).await.unwrap(), audit);
}

#[tokio::test(start_paused = true)]
async fn what_a_long_round_retires_late_is_young() {
    let (database, store) = simulated();
    store.create_tenant(&shop(), NOW).await.unwrap();
    for at in 0..120 {
        store.append(&shop(), events(at * 10, 10, NOW, |_| "x".to_owned()), NOW).await.unwrap();
    }
    let began = Instant::now();
    slow(&database);
    // A batch a step, and blocks that are full.
    store
        .compact(&shop(), CompactOptions { step_events: 1, block_events: 10, ..force() }, NOW)
        .await
        .unwrap();
    database.set_faults(SimulatedFaults::default());
    assert!(began.elapsed() > Duration::from_secs(20 * 60), "{:?}", began.elapsed());
    store.janitor(NOW + began.elapsed().as_millis() as i64).await.unwrap();
    assert!(matches!(store.fetch_journal(&shop(), &[1]).await, Err(FetchError::Missing)));
    assert_eq!(store.fetch_journal(&shop(), &[120]).await.unwrap().len(), 1);
}
