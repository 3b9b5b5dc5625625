//! What storage costs: `cargo bench -p runnel-storage --bench storage -- [VISITORS]`. A visitor has about ten events. Small by default, so that it can run with
//! the tests.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where something fails"
)]

#[path = "../tests/samples/shop.rs"]
mod shop;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use runnel_model::{ContentSum, EventBatch, TenantName, content_hashes};
use runnel_storage::{Admitted, CompactOptions, EmbeddedOptions, Store};

const NOW: i64 = 1_767_225_600_000;
const BATCH: usize = 5_000;

fn main() {
    let visitors = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(visitors));
    runtime.block_on(side_by_side(visitors));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]
fn clock() -> Instant {
    Instant::now()
}

/// Prints what one event took.
fn show(what: &str, events: u64, taken: Duration) {
    let each = taken.as_nanos() as f64 / events as f64;
    println!("{what:<44} {each:>8.0} ns an event {:>8.2} M events/s", 1_000.0 / each);
}

async fn run(visitors: u64) {
    let mut batches = Vec::new();
    shop::batches(1, visitors, BATCH, |batch| batches.push(batch));
    let events: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
    println!("{events} events of {visitors} visitors in batches of {BATCH}; wall time");

    let start = clock();
    let sum = batches.iter().fold(ContentSum::default(), |sum, batch| sum.plus(sum_of(batch).0));
    show("content hashes", events, start.elapsed());

    let start = clock();
    let admitted: Vec<Admitted> =
        batches.into_iter().map(|batch| Admitted::new(batch, None, Bytes::new()).unwrap()).collect();
    show("admit: content hashes, encode, compress", events, start.elapsed());
    let stored: usize = admitted.iter().map(Admitted::stored_bytes).sum();
    println!("{:<44} {:>8.1} bytes an event", "a journal row", stored as f64 / events as f64);

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(dir.path(), EmbeddedOptions::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    store.create_tenant(&tenant, NOW).await.unwrap();
    let commits = admitted.len();
    let start = clock();
    for batch in admitted {
        store.append(&tenant, batch, NOW).await.unwrap();
    }
    let taken = start.elapsed();
    show("append, one batch at a time, fsync", events, taken);
    println!("{:<44} {:>8.2} ms", "a commit", taken.as_secs_f64() * 1_000.0 / commits as f64);

    let sequences: Vec<u64> = (1..=commits as u64).collect();
    let start = clock();
    let mut read = 0;
    for some in sequences.chunks(64) {
        read += store
            .fetch_journal(&tenant, some)
            .await
            .unwrap()
            .iter()
            .map(|(_, batch)| batch.len())
            .sum::<usize>();
    }
    assert_eq!(read as u64, events);
    show("fetch and decode journal rows", events, start.elapsed());

    let mut compacted =
        CompactOptions { trigger_bytes: 1, step_events: 250_000, ..CompactOptions::default() };
    compacted.fan_in = usize::MAX;
    let start = clock();
    let mut dropped = 0;
    loop {
        let report = store.compact(&tenant, compacted.clone(), NOW).await.unwrap();
        dropped += report.duplicates + report.conflicts;
        if report.inputs == 0 {
            break;
        }
    }
    show("compact journal rows, 250,000 at a time", events, start.elapsed());

    let blocks = store.list(&tenant, 0).await.unwrap().blocks.len();
    let start = clock();
    let report = store
        .compact(&tenant, CompactOptions { force: true, ..CompactOptions::default() }, NOW)
        .await
        .unwrap();
    dropped += report.duplicates + report.conflicts;
    if report.events > 0 {
        show(&format!("merge {blocks} blocks into {}", report.blocks), report.events, start.elapsed());
    }

    let listing = store.list(&tenant, 0).await.unwrap();
    let start = clock();
    let mut found = ContentSum::default();
    let (mut keys, mut left) = (Duration::ZERO, 0);
    for block in &listing.blocks {
        let block = store.fetch_block(&tenant, block.id).await.unwrap();
        for group in 0..block.row_groups().len() {
            let start = clock();
            left += block.read_keys(group).unwrap().times.len() as u64;
            keys += start.elapsed();
            found = found.plus(sum_of(&block.read_all(group).unwrap()).0);
        }
    }
    show("read the keys of blocks", left, keys);
    show("read blocks whole, and sum them", left, start.elapsed() - keys);
    assert_eq!(left + dropped, events);
    assert!(dropped > 0 || found == sum);

    let start = clock();
    let audit = store.audit(&tenant).await.unwrap();
    show("audit", left, start.elapsed());
    // Copies in blocks that were not merged with each other are still there; the audit, like every reader, drops them.
    let copies = audit.duplicates + audit.conflicts;
    assert_eq!((audit.accepted, audit.counted + copies), (events, events));
    assert!(copies >= dropped && audit.counted <= left, "{copies} {dropped} {left}");

    let stats = store.stats(&tenant).await.unwrap();
    println!("bytes an event in blocks:");
    let per_event = |bytes: u64| bytes as f64 / left as f64;
    for column in &stats.columns {
        println!("    {:<40} {:>8.2}", column.name, per_event(column.bytes));
    }
    let ids: u64 =
        stats.columns.iter().filter(|column| column.name == "event_id").map(|column| column.bytes).sum();
    println!("    {:<40} {:>8.2}", "all", per_event(stats.block_bytes));
    println!("    {:<40} {:>8.2}", "all beside event_id", per_event(stats.block_bytes - ids));
    store.close().await;
}

/// Appends while compaction keeps up.
async fn side_by_side(visitors: u64) {
    let mut admitted = Vec::new();
    shop::batches(2, visitors, BATCH, |batch| {
        admitted.push(Admitted::new(batch, None, Bytes::new()).unwrap())
    });
    let events: u64 = admitted.iter().map(|admitted| admitted.batch().len() as u64).sum();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(dir.path(), EmbeddedOptions::default()).await.unwrap();
    let tenant = TenantName::parse("shop").unwrap();
    store.create_tenant(&tenant, NOW).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let compactor = tokio::spawn({
        let (store, tenant, done) = (store.clone(), tenant.clone(), done.clone());
        async move {
            while !done.load(Ordering::Relaxed) {
                let report = store.compact(&tenant, CompactOptions::default(), NOW).await.unwrap();
                store.janitor(NOW + 3_600_000).await.unwrap();
                if !report.more {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    let start = clock();
    let mut waits = Vec::with_capacity(admitted.len());
    for batch in admitted {
        let start = clock();
        store.append(&tenant, batch, NOW).await.unwrap();
        waits.push(start.elapsed());
    }
    show("append while compacting and cleaning up", events, start.elapsed());
    done.store(true, Ordering::Relaxed);
    compactor.await.unwrap();
    waits.sort_unstable();
    let share = |share: usize| waits[(waits.len() - 1) * share / 1_000].as_secs_f64() * 1_000.0;
    println!(
        "{:<44} {:>8.2} ms median, {:.2} ms p99, {:.2} ms longest",
        "an acknowledgement then",
        share(500),
        share(990),
        share(1_000)
    );
    let stats = store.stats(&tenant).await.unwrap();
    println!(
        "{:<44} {:>8} blocks, {} journal rows, file {:.1} bytes an event",
        "left",
        stats.blocks,
        stats.journal_rows,
        stats.file_bytes as f64 / events as f64
    );
    store.close().await;
}

fn sum_of(batch: &EventBatch) -> ContentSum {
    ContentSum::of(&content_hashes(batch))
}
