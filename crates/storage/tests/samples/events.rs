//! Small batches, and reading a store back the plain way.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
pub(crate) use runnel_harness::Random;
use runnel_model::{ContentSum, EventBatch, EventRef, TenantName, ValueRef, content_hashes};
use runnel_storage::{Admitted, FetchError, Request, Store};

/// An instant that tests count from.
pub(crate) const NOW: i64 = 1_767_225_600_000;

/// An event that differs from others in what is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Simple {
    pub(crate) visitor: u32,
    pub(crate) time_ms: i64,
    pub(crate) id: u32,
    pub(crate) content: u32,
}

pub(crate) fn shop() -> TenantName {
    TenantName::parse("shop").unwrap()
}

/// A batch of simple events. Contents show in every kind of column.
pub(crate) fn batch(events: &[Simple]) -> EventBatch {
    let mut batch = EventBatch::default();
    for event in events {
        let (visitor, id) = (format!("visitor-{}", event.visitor), format!("event-{}", event.id));
        let (text, content) = (format!("value-{}", event.content % 7), event.content);
        let all = [
            ("text", ValueRef::String(&text)),
            ("number", ValueRef::Int(i64::from(content) - 3)),
            ("price.eur", ValueRef::Double(f64::from(content) / 4.0)),
            ("truth", ValueRef::Bool(content.is_multiple_of(2))),
        ];
        let some = &all[..1 + content as usize % 4];
        batch.push(&EventRef {
            visitor: &visitor,
            time_ms: event.time_ms,
            name: if content.is_multiple_of(3) { "view" } else { "buy" },
            event_id: &id,
            sequence: i64::from(content % 2),
            fields: &[(runnel_model::Field::LatencyMs, ValueRef::Int(i64::from(content)))],
            properties: some,
        });
    }
    batch
}

/// So many events of their own visitors and ids from `first` on.
pub(crate) fn distinct(first: u32, count: u32) -> Vec<Simple> {
    (first..first + count)
        .map(|id| Simple { visitor: id / 3, time_ms: NOW + i64::from(id % 50), id, content: id })
        .collect()
}

pub(crate) fn admitted(events: &[Simple]) -> Admitted {
    Admitted::new(batch(events), None, Bytes::new()).unwrap()
}

pub(crate) fn requested(events: &[Simple], id: &str, content_hash: u128, outcome: &'static str) -> Admitted {
    let request = Request { id: id.to_owned(), content_hash };
    Admitted::new(batch(events), Some(request), Bytes::from_static(outcome.as_bytes())).unwrap()
}

/// Visitor, time and id of an event.
pub(crate) type Identity = (String, i64, String);

/// Everything that a store holds of a tenant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Content hash of each event that counts.
    pub(crate) counted: BTreeMap<Identity, u128>,
    /// Events that are there, repeats included.
    pub(crate) stored: u64,
    pub(crate) sum: ContentSum,
    pub(crate) sequence: u64,
}

/// Reads a tenant as any reader would: list, fetch, begin again when something is gone.
pub(crate) async fn read(store: &Store, tenant: &TenantName) -> Contents {
    for _ in 0..1_000 {
        match try_read(store, tenant).await {
            Ok(contents) => return contents,
            Err(FetchError::Missing) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("what was listed was always gone")
}

pub(crate) async fn try_read(store: &Store, tenant: &TenantName) -> Result<Contents, FetchError> {
    let listing = store.list(tenant, 0).await?;
    let mut first: HashMap<Identity, (u64, usize, u128)> = HashMap::new();
    let mut contents = Contents { sequence: listing.sequence, ..Contents::default() };
    let mut add = |batch: &EventBatch, number: &dyn Fn(usize) -> u64| {
        for (row, hash) in content_hashes(batch).into_iter().enumerate() {
            let identity = (
                batch.strings.get(batch.visitors[row]).to_owned(),
                batch.times[row],
                String::from_utf8(batch.event_ids.get(row).to_vec()).unwrap(),
            );
            contents.stored += 1;
            contents.sum = contents.sum.plus(hash);
            let new = (number(row), row, hash);
            let known = first.entry(identity).or_insert(new);
            if (new.0, new.1) < (known.0, known.1) {
                *known = new;
            }
        }
    };
    let sequences: Vec<u64> = listing.journal.iter().map(|row| row.sequence).collect();
    for (number, batch) in store.fetch_journal(tenant, &sequences).await? {
        add(&batch, &|_| number);
    }
    for block in &listing.blocks {
        let block = store.fetch_block(tenant, block.id).await?;
        for group in 0..block.row_groups().len() {
            let keys = block.read_keys(group).unwrap();
            add(&block.read_all(group).unwrap(), &|row| keys.numbers[row]);
        }
    }
    contents.counted = first.into_iter().map(|(identity, (_, _, hash))| (identity, hash)).collect();
    Ok(contents)
}
