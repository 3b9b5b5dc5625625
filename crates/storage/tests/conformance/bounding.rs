//! However events lie, a round of compaction ends, and nothing is lost over several.

use std::collections::BTreeSet;

use runnel_model::TenantName;
use runnel_storage::{CompactOptions, CompactionReport, Store};

use crate::events::{Contents, NOW, Simple, admitted, distinct, read, shop};

/// An average month of the Gregorian calendar. In the middle of months, one step leads to the next.
const MONTH_MS: i64 = 2_629_746_000;
const MONTHS: u32 = 3_000;

/// The middle of a month, far back.
fn middle(month: u32) -> i64 {
    NOW + 14 * 86_400_000 - i64::from(MONTHS - month) * MONTH_MS
}

/// One event in each of these months.
fn spread(months: impl Iterator<Item = u32>, content: u32) -> Vec<Simple> {
    months.map(|id| Simple { visitor: id % 97, time_ms: middle(id), id, content: content + id }).collect()
}

/// Rounds in turn with another tenant's, as a service does them, until nothing is due.
async fn rounds(store: &Store, options: &CompactOptions, before: &Contents) -> Vec<CompactionReport> {
    let other = TenantName::parse("other").unwrap();
    store.create_tenant(&other, NOW).await.unwrap();
    let mut reports = Vec::new();
    loop {
        let report = store.compact(&shop(), options.clone(), NOW).await.unwrap();
        assert_eq!(report.quarantined, 0);
        let at = reports.len() as u32;
        store.append(&other, admitted(&distinct(at * 10, 10)), NOW).await.unwrap();
        assert_eq!(store.compact(&other, options.clone(), NOW).await.unwrap().inputs, 1, "it has its turn");
        let ends = !report.more;
        reports.push(report);
        if ends {
            break;
        }
    }
    assert_eq!(read(store, &shop()).await.counted, before.counted);
    reports
}

pub(crate) async fn many_months_are_compacted_over_several_rounds(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    // Batches of a few months each, and one that has them all.
    for batch in 0..30 {
        let months = (0..MONTHS / 30).map(|at| at * 30 + batch);
        store.append(&shop(), admitted(&spread(months, 0)), NOW).await.unwrap();
    }
    store.append(&shop(), admitted(&spread(0..MONTHS, 1)), NOW).await.unwrap();
    let before = read(store, &shop()).await;
    assert_eq!((before.counted.len() as u32, before.stored), (MONTHS, u64::from(MONTHS) * 2));
    let audit = store.audit(&shop()).await.unwrap();
    let eager = CompactOptions { trigger_bytes: 1, fan_in: 99, ..CompactOptions::default() };
    let reports = rounds(store, &eager, &before).await;
    let written: Vec<u64> = reports.iter().map(|report| report.blocks).collect();
    assert!(written.len() > 4, "{written:?}");
    // One batch goes through however many months it has; all others are bounded.
    let large: Vec<&u64> = written.iter().filter(|blocks| **blocks > 768).collect();
    assert!(matches!(large[..], [blocks] if *blocks <= u64::from(MONTHS) + 512), "{written:?}");
    let listing = store.list(&shop(), 0).await.unwrap();
    assert_eq!((listing.journal.len(), listing.blocks.len() as u32), (0, 2 * MONTHS));
    let months: BTreeSet<i32> = listing.blocks.iter().map(|block| block.month).collect();
    assert_eq!(months.len() as u32, MONTHS);
    // Rounds that merge are bounded as well.
    let report = store.compact(&shop(), CompactOptions { fan_in: 2, ..eager }, NOW).await.unwrap();
    assert!(report.more && (2..=128).contains(&report.merged), "{report:?}");
    assert_eq!(read(store, &shop()).await.counted, before.counted);
    assert_eq!(store.audit(&shop()).await.unwrap(), audit);
}
