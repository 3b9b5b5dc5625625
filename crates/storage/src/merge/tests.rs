//! Blocks hold what went in, and damage never makes reading panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::{prelude::*, strategy::ValueTree};
use runnel_model::{ContentSum, Erasing, EventBatch, content_hashes};
use xxhash_rust::xxh3::xxh3_64;

use super::{Merged, StoredRow, merge_blocks, merge_rows};
use crate::{
    Block, BlockRef,
    journal::{
        self,
        tests::{any_batch, sum},
    },
};

fn stored(number: u64, batch: &EventBatch) -> StoredRow {
    let (payload, _) = journal::encode(batch, sum(batch)).unwrap();
    StoredRow { number, events: batch.len() as u64, payload: Some(payload) }
}

fn opened(merged: Merged, id: &mut u64) -> Vec<(BlockRef, Block)> {
    let blocks = merged.blocks.into_iter().map(|block| {
        *id += 1;
        let reference = BlockRef {
            id: *id,
            first_sequence: block.first_sequence,
            last_sequence: block.last_sequence,
            month: block.month,
            partition: block.partition,
            events: block.events,
            bytes: block.bytes.len() as u64,
        };
        (reference, Block::open(block.bytes).unwrap())
    });
    blocks.collect()
}

fn sum_of_block(block: &Block) -> ContentSum {
    let groups = 0..block.row_groups().len();
    groups.fold(ContentSum::default(), |all, group| all.plus(sum(&block.read_all(group).unwrap()).0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn merging_at_once_or_in_parts_is_the_same(batches in prop::collection::vec(any_batch(), 1..6), split in 0usize..6) {
        let rows: Vec<StoredRow> = batches.iter().zip(1..).map(|(batch, number)| stored(number, batch)).collect();
        let at_once = merge_rows("shop", &rows, &Erasing::default()).unwrap();
        prop_assert_eq!(at_once.events, batches.iter().map(|batch| batch.len() as u64).sum::<u64>());
        let split = split.min(rows.len());
        let mut id = 0;
        let mut parts = opened(merge_rows("shop", &rows[..split], &Erasing::default()).unwrap(), &mut id);
        parts.extend(opened(merge_rows("shop", &rows[split..], &Erasing::default()).unwrap(), &mut id));
        for block in &at_once.blocks {
            let month: Vec<_> = parts.iter().filter(|(part, _)| part.month == block.month).cloned().collect();
            let merged = merge_blocks("shop", &month, &Erasing::default()).unwrap();
            prop_assert_eq!(merged.blocks[0].content_sum, block.content_sum);
            prop_assert_eq!(merged.blocks[0].events, block.events);
            prop_assert_eq!(sum_of_block(&Block::open(merged.blocks[0].bytes.clone()).unwrap()), block.content_sum);
        }
    }
}

#[test]
fn flipped_bits_are_seen_and_never_panic() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let batches: Vec<EventBatch> =
        (0..8).map(|_| any_batch().new_tree(&mut runner).unwrap().current()).collect();
    let mut all = EventBatch::default();
    for (at, batch) in batches.iter().enumerate() {
        for row in 0..batch.len() {
            let properties: Vec<_> = batch
                .columns
                .iter()
                .filter_map(|column| {
                    let place = column.rows.binary_search(&(row as u32)).ok()?;
                    let name = batch.property_name(column.key);
                    (!name.is_empty()).then(|| (name, batch.value(column, place)))
                })
                .collect();
            all.push(&runnel_model::EventRef {
                visitor: batch.strings.get(batch.visitors[row]),
                time_ms: (at + row) as i64,
                name: batch.strings.get(batch.names[row]),
                event_id: std::str::from_utf8(batch.event_ids.get(row)).unwrap(),
                sequence: batch.sequences[row],
                fields: &[],
                properties: &properties,
            });
        }
    }
    let merged = merge_rows("shop", &[stored(1, &all)], &Erasing::default()).unwrap();
    let whole = merged.blocks[0].bytes.clone();
    let (checksum, content) = (xxh3_64(&whole), merged.blocks[0].content_sum);
    let read = |bytes: Vec<u8>| -> Option<ContentSum> {
        let block = Block::open(bytes.into()).ok()?;
        let mut all = ContentSum::default();
        for group in 0..block.row_groups().len() {
            let keys = block.read_keys(group).ok()?;
            block.read_identities(group, Some(&[0, keys.times.len() as u32 - 1])).ok()?;
            for column in 0..block.columns().len() {
                block.read_column(group, column).ok()?.iter().for_each(drop);
            }
            all = all.plus(ContentSum::of(&content_hashes(&block.read_all(group).ok()?)).0);
        }
        Some(all)
    };
    assert_eq!(read(whole.to_vec()), Some(content));
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut state = 7u64;
    let (mut unreadable, mut panics) = (0, 0);
    for _ in 0..2_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 33) as usize % (whole.len() * 8);
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(xxh3_64(&flipped), checksum, "bit {bit}");
        match catch_unwind(AssertUnwindSafe(|| read(flipped))) {
            Ok(found) => unreadable += usize::from(found != Some(content)),
            Err(_) => panics += 1,
        }
    }
    std::panic::set_hook(quiet);
    assert_eq!(panics, 0);
    assert!(unreadable > 1_000, "{unreadable}");
}
