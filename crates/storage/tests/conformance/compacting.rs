//! Compaction never changes what counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use runnel_model::{ContentSum, content_hashes, shard_of};
use runnel_storage::{CompactOptions, Store};

use crate::events::{Contents, NOW, Random, Simple, admitted, batch, distinct, read, shop};

const MINUTE: i64 = 60_000;

fn force() -> CompactOptions {
    CompactOptions { force: true, ..CompactOptions::default() }
}

/// Compaction in steps as small as chance wants them.
fn some(random: &mut Random) -> CompactOptions {
    CompactOptions {
        force: random.below(4) == 0,
        trigger_bytes: random.below(2_000),
        trigger_age_ms: i64::MAX,
        step_bytes: 1 + random.below(3_000),
        step_events: 1 + random.below(300),
        fan_in: 2 + random.below(3) as usize,
        block_events: 50 + random.below(2_000),
    }
}

pub(crate) async fn the_first_of_an_identity_wins(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let one = Simple { visitor: 1, time_ms: NOW, id: 1, content: 10 };
    let other = Simple { content: 11, ..one };
    let later = Simple { time_ms: NOW + 1, ..one };
    store.append(&shop(), admitted(&[one, other, one]), NOW).await.unwrap();
    store.append(&shop(), admitted(&[other, later]), NOW).await.unwrap();
    store.append(&shop(), admitted(&[one]), NOW).await.unwrap();
    let before = read(store, &shop()).await;
    assert_eq!(before.counted.len(), 2);
    let hash = content_hashes(&batch(&[one]))[0];
    assert!(before.counted.values().any(|&content| content == hash));
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted, audit.duplicates, audit.conflicts), (6, 2, 3, 1));
    let report = store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!((report.inputs, report.events, report.blocks), (3, 6, 1));
    assert_eq!(report.duplicates + report.conflicts, 4);
    let after = read(store, &shop()).await;
    assert_eq!(after.counted, before.counted);
    assert_eq!(after.stored, 2);
    assert_eq!(store.audit(&shop()).await.unwrap(), audit);
    let found = store.found(&shop(), 1).await.unwrap();
    assert_eq!((found.duplicates, found.conflicts), (1, 1));
    assert_eq!(store.found(&shop(), 3).await.unwrap().duplicates, 1);
}

pub(crate) async fn conflicts_count_the_same_in_any_order(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let event = |content| Simple { visitor: 1, time_ms: NOW, id: 1, content };
    // The winner of each compaction is another one, and comes from the youngest block first.
    let step = CompactOptions { step_events: 1, force: false, trigger_bytes: 1, fan_in: 9, ..force() };
    for content in [1, 2, 1, 3, 2, 2, 1] {
        store.append(&shop(), admitted(&[event(content)]), NOW).await.unwrap();
        store.compact(&shop(), step.clone(), NOW).await.unwrap();
    }
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted, audit.duplicates, audit.conflicts), (7, 1, 4, 2));
    store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!(store.audit(&shop()).await.unwrap(), audit);
    store.append(&shop(), admitted(&[event(3), event(4)]), NOW).await.unwrap();
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted, audit.duplicates, audit.conflicts), (9, 1, 5, 3));
}

/// What a plain map says of all that was appended.
#[derive(Default)]
struct Model {
    contents: BTreeMap<(u32, i64, u32), Vec<u32>>,
    appended: u64,
}

impl Model {
    fn append(&mut self, events: &[Simple]) {
        for event in events {
            self.contents.entry((event.visitor, event.time_ms, event.id)).or_default().push(event.content);
            self.appended += 1;
        }
    }

    fn check(&self, contents: &Contents) {
        let expected: BTreeMap<_, _> = self
            .contents
            .iter()
            .map(|(&(visitor, time_ms, id), all)| {
                let first = Simple { visitor, time_ms, id, content: all[0] };
                let identity = (format!("visitor-{visitor}"), time_ms, format!("event-{id}"));
                (identity, content_hashes(&batch(&[first]))[0])
            })
            .collect();
        assert_eq!(contents.counted, expected);
    }

    fn conflicts(&self) -> u64 {
        self.contents.values().map(|all| all.iter().collect::<BTreeSet<_>>().len() as u64 - 1).sum()
    }
}

pub(crate) async fn compaction_changes_nothing_that_counts(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    for seed in 0..3 {
        let (mut random, mut model) = (Random(seed), Model::default());
        let tenant = runnel_model::TenantName::parse(&format!("t{seed}")).unwrap();
        store.create_tenant(&tenant, NOW).await.unwrap();
        for round in 0..60 {
            let events: Vec<Simple> = (0..random.below(60))
                .map(|_| Simple {
                    visitor: random.below(20) as u32,
                    time_ms: NOW + random.below(3) as i64 * 40 * 24 * 60 * MINUTE + random.below(3) as i64,
                    id: random.below(6) as u32,
                    content: random.below(3) as u32,
                })
                .collect();
            store.append(&tenant, admitted(&events), NOW).await.unwrap();
            model.append(&events);
            if random.below(3) == 0 {
                store.compact(&tenant, some(&mut random), NOW + round).await.unwrap();
                model.check(&read(store, &tenant).await);
            }
            if random.below(10) == 0 {
                store.janitor(NOW + random.below(20) as i64 * MINUTE).await.unwrap();
            }
        }
        let audit = store.audit(&tenant).await.unwrap();
        assert_eq!(
            (audit.accepted, audit.counted),
            (model.appended, model.contents.len() as u64),
            "seed {seed}"
        );
        assert_eq!(audit.conflicts, model.conflicts(), "seed {seed}");
        let report = store.compact(&tenant, force(), NOW).await.unwrap();
        assert!(!report.more);
        model.check(&read(store, &tenant).await);
        assert_eq!(store.audit(&tenant).await.unwrap(), audit, "seed {seed}");
        let listing = store.list(&tenant, 0).await.unwrap();
        assert_eq!((listing.journal.len(), listing.blocks.len()), (0, 3), "one block a month");
        let contents = read(store, &tenant).await;
        assert_eq!(contents.stored as usize, contents.counted.len(), "no repeats are left");
    }
}

pub(crate) async fn months_and_columns_survive(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let events: Vec<Simple> = (0..5_000)
        .map(|id| Simple {
            visitor: id % 700,
            time_ms: [-62_135_596_800_000, -1, 0, NOW, 253_402_300_799_999][id as usize % 5],
            id,
            content: id * 7,
        })
        .collect();
    for some in events.chunks(999) {
        store.append(&shop(), admitted(some), NOW).await.unwrap();
    }
    let sum = ContentSum::of(&content_hashes(&batch(&events)));
    assert_eq!(read(store, &shop()).await.sum, sum);
    store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!(read(store, &shop()).await.sum, sum);
    let listing = store.list(&shop(), 0).await.unwrap();
    let months: Vec<i32> = listing.blocks.iter().map(|block| block.month).collect();
    assert_eq!(months, [12, 1969 * 12 + 11, 1970 * 12, 2026 * 12, 9999 * 12 + 11]);
    let block = store.fetch_block(&shop(), listing.blocks[0].id).await.unwrap();
    let columns = block.columns();
    assert_eq!(columns.len(), 5);
    let (at, text) = columns.iter().enumerate().find(|(_, info)| info.values == 1_000).unwrap();
    assert_eq!(block.read_column(0, at).unwrap().iter().count(), 1_000, "{text:?}");
    let all = block.read_identities(0, None).unwrap();
    let rows: Vec<u32> = (0..1_000).filter(|row| row % 13 == 5).collect();
    let chosen = block.read_identities(0, Some(&rows)).unwrap();
    for (at, &row) in rows.iter().enumerate() {
        assert_eq!(chosen.0.get(at), all.0.get(row as usize));
        assert_eq!(chosen.1[at], all.1[row as usize]);
    }
    let stats = store.stats(&shop()).await.unwrap();
    assert_eq!((stats.journal_rows, stats.blocks, stats.block_events), (0, 5, 5_000));
    assert!(stats.columns.iter().any(|column| column.name == "p.price%2Eeur.double"), "{:?}", stats.columns);
    let columns: u64 = stats.columns.iter().map(|column| column.bytes).sum();
    assert!(columns < stats.block_bytes && stats.block_bytes < stats.file_bytes);
}

pub(crate) async fn listings_after_a_number_hold_what_came_behind_it(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let mut random = Random(3);
    for at in 0..60u32 {
        store.append(&shop(), admitted(&distinct(at * 20, 20)), NOW).await.unwrap();
        if random.below(2) == 0 {
            store.compact(&shop(), some(&mut random), NOW).await.unwrap();
        }
        let after = random.below(u64::from(at) + 1);
        let listing = store.list(&shop(), after).await.unwrap();
        let mut numbers = BTreeMap::new();
        for row in &listing.journal {
            *numbers.entry(row.sequence).or_insert(0) += row.events;
        }
        for block in &listing.blocks {
            assert!(block.first_sequence <= block.last_sequence && block.last_sequence > after);
            let block = store.fetch_block(&shop(), block.id).await.unwrap();
            for group in 0..block.row_groups().len() {
                for number in block.read_keys(group).unwrap().numbers {
                    *numbers.entry(number).or_insert(0) += 1;
                }
            }
        }
        for number in after + 1..=listing.sequence {
            assert_eq!(numbers.get(&number), Some(&20), "number {number} after {after}");
        }
    }
}

pub(crate) async fn readers_and_compaction_run_side_by_side(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let (acknowledged, attempted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let compactor = {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move {
            let mut random = Random(11);
            for round in 0.. {
                store.compact(&shop(), some(&mut random), NOW + round).await.unwrap();
                // Whatever was retired goes at once, so that readers do miss things.
                store.janitor(NOW + round + 11 * MINUTE).await.unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        })
    };
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            let (acknowledged, attempted) = (acknowledged.clone(), attempted.clone());
            tokio::spawn(async move {
                let mut reads = 0u32;
                while !done.load(Ordering::SeqCst) {
                    let at_least = acknowledged.load(Ordering::SeqCst);
                    let contents = read(&store, &shop()).await;
                    let at_most = attempted.load(Ordering::SeqCst);
                    assert_eq!(contents.stored as usize, contents.counted.len(), "every event is there once");
                    assert!((at_least..=at_most).contains(&contents.stored));
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for at in 0..150u32 {
        attempted.fetch_add(20, Ordering::SeqCst);
        store.append(&shop(), admitted(&distinct(at * 20, 20)), NOW).await.unwrap();
        acknowledged.fetch_add(20, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    compactor.await.unwrap();
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    assert_eq!(read(store, &shop()).await.counted.len(), 3_000);
}

pub(crate) async fn a_large_visitor_stays_together(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let event = |id: u32| {
        let visitor = if id < 60_000 { 1 } else { id % 9_000 };
        Simple { visitor, time_ms: NOW + i64::from(id / 7), id, content: id % 5 }
    };
    let events: Vec<Simple> = (0..200_000).map(event).collect();
    for some in events.chunks(10_000) {
        store.append(&shop(), admitted(some), NOW).await.unwrap();
    }
    let options = CompactOptions { step_events: 30_000, ..force() };
    store.compact(&shop(), options, NOW).await.unwrap();
    let listing = store.list(&shop(), 0).await.unwrap();
    let block = store.fetch_block(&shop(), listing.blocks[0].id).await.unwrap();
    assert_eq!((listing.blocks.len(), block.row_groups().len()), (1, 4));
    let (mut last, mut rows) = (None, 0);
    for (at, group) in block.row_groups().iter().enumerate() {
        let keys = block.read_keys(at).unwrap();
        assert_eq!(keys.times.len(), group.rows as usize);
        rows += group.rows;
        let (ids, sequences) = block.read_identities(at, None).unwrap();
        for (row, (&code, (&time_ms, &sequence))) in
            keys.visitor_codes.iter().zip(keys.times.iter().zip(&sequences)).enumerate()
        {
            let visitor = keys.visitors.get(code as usize).to_vec();
            let shard = shard_of(std::str::from_utf8(&visitor).unwrap());
            assert!(group.shards.contains(&shard));
            let key = Some((shard, visitor, time_ms, sequence, ids.get(row).to_vec()));
            assert!(key > last, "rows are sorted");
            last = key;
        }
    }
    assert_eq!(rows, 200_000);
}

pub(crate) async fn what_is_due_is_done(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    store.append(&shop(), admitted(&distinct(0, 10)), NOW).await.unwrap();
    let options = CompactOptions::default();
    let report = store.compact(&shop(), options.clone(), NOW + 5 * MINUTE - 1).await.unwrap();
    assert_eq!((report.inputs, report.more), (0, false));
    assert_eq!(store.backlog().await.unwrap()[0].oldest_ms, NOW);
    let report = store.compact(&shop(), options.clone(), NOW + 5 * MINUTE).await.unwrap();
    assert_eq!((report.inputs, report.blocks, report.more), (1, 1, false));
    assert_eq!(store.backlog().await.unwrap(), []);
    for at in 1..8 {
        store.append(&shop(), admitted(&distinct(at * 10, 10)), NOW).await.unwrap();
        store.compact(&shop(), CompactOptions { trigger_bytes: 1, ..options.clone() }, NOW).await.unwrap();
    }
    assert_eq!(store.list(&shop(), 0).await.unwrap().blocks.len(), 1, "eight of a size became one");
    let report = store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!(report, Default::default());
}
