//! Stored bytes are a contract: what was written once must read for ever.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use runnel_model::{ContentSum, Erasing, EventBatch, EventRef, Field, ValueRef, content_hashes};

use crate::{
    Block, journal,
    merge::{self, StoredRow},
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// What the golden files hold.
fn expected() -> EventBatch {
    let mut batch = EventBatch::default();
    for at in 0..60i64 {
        let (visitor, id) =
            (format!("visitor-{}", at % 7), format!("018f3f5e-7c1a-7b2c-8d3e-{:012x}", at * 977));
        let page = format!("/page/{}", at % 5);
        let properties = [
            ("page", ValueRef::String(&page)),
            ("rank", ValueRef::Int(at * at - 30)),
            ("price.eur", ValueRef::Double(at as f64 / 8.0)),
            ("läuft", ValueRef::Bool(at % 3 == 0)),
        ];
        batch.push(&EventRef {
            visitor: &visitor,
            time_ms: 1_767_225_600_000 + at * 61_007,
            name: ["view", "buy", "möchte"][at as usize % 3],
            event_id: &id,
            sequence: if at % 2 == 0 { at } else { 0 },
            fields: &[
                (Field::ValueMicros, ValueRef::Int(at * 1_000_000)),
                (Field::Outcome, ValueRef::String("ok")),
            ],
            properties: &properties[..(at % 5) as usize],
        });
    }
    batch
}

fn sum() -> ContentSum {
    ContentSum::of(&content_hashes(&expected()))
}

#[test]
#[ignore = "writes the golden files anew, which is only right for a new format beside the old ones"]
fn write() {
    let (row, _) = journal::encode(&expected(), sum()).unwrap();
    let stored = StoredRow { number: 5, events: 60, payload: Some(row.clone()) };
    let block = merge::merge_rows("golden", &[stored], &Erasing::default()).unwrap().blocks.remove(0);
    fs::create_dir_all(path("")).unwrap();
    fs::write(path("journal-1.bin"), row).unwrap();
    fs::write(path("block-1.parquet"), block.bytes).unwrap();
}

#[test]
fn a_journal_row_of_format_1_reads() {
    let decoded = journal::decode(&fs::read(path("journal-1.bin")).unwrap()).unwrap();
    assert_eq!(content_hashes(&decoded.batch), content_hashes(&expected()));
    assert_eq!(decoded.content_sum, sum());
    assert_eq!(sum().0, 44_043_990_156_916_179_103_630_231_859_392_700_555);
}

#[test]
fn a_block_of_format_1_reads() {
    let block = Block::open(Bytes::from(fs::read(path("block-1.parquet")).unwrap())).unwrap();
    assert_eq!((block.tenant(), block.content_sum()), ("golden", sum()));
    assert_eq!(block.row_groups().len(), 1);
    assert_eq!((block.row_groups()[0].rows, block.row_groups()[0].shards.clone()), (60, 0..64));
    let batch = block.read_all(0).unwrap();
    assert_eq!(ContentSum::of(&content_hashes(&batch)), sum());
    let keys = block.read_keys(0).unwrap();
    assert_eq!((keys.visitors.len(), keys.names.len()), (7, 3));
    assert!(keys.numbers.iter().all(|&number| number == 5));
    assert_eq!(block.columns().len(), 6);
}
