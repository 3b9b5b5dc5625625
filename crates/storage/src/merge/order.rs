//! The order of a stage's events, and which of them repeat others.

use runnel_model::{
    Attribute, ColumnKey, EventBatch, Values, content_hashes, limits, shard_of, visitor_hash,
};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Dropped,
    stage::{NOWHERE, Stage, Vocabulary},
};

/// The rows that stay, in order, and the pairs of a row that stays and one that repeats its identity.
pub(crate) struct Order {
    pub(crate) rows: Vec<u32>,
    pairs: Vec<(u32, u32)>,
}

/// Sorts a stage by (shard, visitor, time, sequence, event id) and leaves of each identity the one with the lowest (number, row).
pub(crate) fn order(stage: &Stage) -> Order {
    let grouped = by_visitor(stage);
    let mut order = Order { rows: Vec::with_capacity(stage.len()), pairs: Vec::new() };
    let mut instants: Vec<(i64, u32)> = Vec::new();
    let mut run: Vec<u32> = Vec::new();
    let mut start = 0;
    while start < grouped.len() {
        let visitor = stage.visitor_codes[grouped[start] as usize];
        let same = |&&row: &&u32| stage.visitor_codes[row as usize] == visitor;
        let end = start + grouped[start..].iter().take_while(same).count();
        instants.clear();
        instants.extend(grouped[start..end].iter().map(|&row| (stage.times[row as usize], row)));
        if !instants.is_sorted() {
            instants.sort_unstable();
        }
        let mut at = 0;
        while at < instants.len() {
            let time = instants[at].0;
            let ties = instants[at..].iter().take_while(|(other, _)| *other == time).count();
            if ties == 1 {
                order.rows.push(instants[at].1);
            } else {
                run.clear();
                run.extend(instants[at..at + ties].iter().map(|&(_, row)| row));
                settle(stage, &mut run, &mut order);
            }
            at += ties;
        }
        start = end;
    }
    order
}

/// Rows grouped by visitor, visitors in order, each visitor's rows as they came: a counting sort.
fn by_visitor(stage: &Stage) -> Vec<u32> {
    let mut visitors: Vec<(usize, &str, u32)> = stage
        .visitors
        .iter()
        .enumerate()
        .map(|(code, visitor)| (shard_of(visitor), visitor, code as u32))
        .collect();
    visitors.sort_unstable();
    let mut counts = vec![0u32; visitors.len()];
    stage.visitor_codes.iter().for_each(|&code| counts[code as usize] += 1);
    let mut next = 0;
    for &(_, _, code) in &visitors {
        let count = std::mem::replace(&mut counts[code as usize], next);
        next += count;
    }
    let mut grouped = vec![0u32; stage.len()];
    for (row, &code) in stage.visitor_codes.iter().enumerate() {
        let place = &mut counts[code as usize];
        grouped[*place as usize] = row as u32;
        *place += 1;
    }
    grouped
}

/// Orders events of one visitor and one instant, and drops repeated identities.
fn settle(stage: &Stage, run: &mut Vec<u32>, order: &mut Order) {
    let id = |row: u32| stage.ids.get(row as usize);
    run.sort_unstable_by_key(|&row| (id(row), stage.numbers[row as usize], row));
    let mut first = run[0];
    let mut kept = 1;
    for at in 1..run.len() {
        let row = run[at];
        if id(row) == id(first) {
            order.pairs.push((first, row));
        } else {
            first = row;
            run[kept] = row;
            kept += 1;
        }
    }
    run.truncate(kept);
    run.sort_unstable_by_key(|&row| (stage.sequences[row as usize], id(row)));
    order.rows.extend_from_slice(run);
}

impl Order {
    /// Tells duplicates and conflicts apart and notes what was dropped.
    pub(crate) fn note(&self, stage: &Stage, vocabulary: &Vocabulary, dropped: &mut Dropped) {
        if self.pairs.is_empty() {
            return;
        }
        let mut rows: Vec<u32> = self.pairs.iter().flat_map(|&(first, row)| [first, row]).collect();
        rows.sort_unstable();
        rows.dedup();
        let hashes = content_hashes(&extract(stage, vocabulary, &rows));
        let hash = |row: u32| rows.binary_search(&row).map_or(0, |at| hashes[at]);
        for &(first, row) in &self.pairs {
            let (kept, lost) = (hash(first), hash(row));
            let finding = dropped.findings.entry(stage.numbers[row as usize]).or_default();
            if kept == lost {
                finding.duplicates += 1;
            } else {
                finding.conflicts += 1;
                dropped.conflicts.push((identity(stage, row), lost));
            }
            dropped.sum = dropped.sum.plus(lost);
        }
    }
}

/// A hash of an identity that is kept with conflicts. Stored, so it never changes: the visitor's hash, and XXH3-128 over visitor, length of the visitor, time
/// and event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IdentityHash {
    visitor: u64,
    rest: u128,
}

impl IdentityHash {
    /// The hash of an identity whose visitor has a known hash.
    pub(crate) fn new(visitor_hash: u64, visitor: &[u8], time_ms: i64, event_id: &[u8]) -> IdentityHash {
        let mut bytes = [0; 2 * limits::ID_BYTES + 16];
        let (mut long, length) = (Vec::new(), visitor.len() + event_id.len() + 16);
        let buffer = match bytes.get_mut(..length) {
            Some(buffer) => buffer,
            None => {
                long.resize(length, 0);
                &mut long[..]
            }
        };
        let (head, tail) = buffer.split_at_mut(visitor.len());
        head.copy_from_slice(visitor);
        tail[..8].copy_from_slice(&(visitor.len() as u64).to_le_bytes());
        tail[8..16].copy_from_slice(&time_ms.to_le_bytes());
        tail[16..].copy_from_slice(event_id);
        IdentityHash { visitor: visitor_hash, rest: xxh3_128(buffer) }
    }

    /// The part that tells identities apart.
    pub(crate) fn rest(self) -> u128 {
        self.rest
    }

    /// As it is stored. Bytes order as visitors' hashes do.
    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.visitor.to_be_bytes());
        bytes[8..].copy_from_slice(&self.rest.to_be_bytes());
        bytes
    }

    /// What was stored.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<IdentityHash> {
        let (visitor, rest) = bytes.split_first_chunk::<8>()?;
        let rest = rest.try_into().ok()?;
        Some(IdentityHash { visitor: u64::from_be_bytes(*visitor), rest: u128::from_be_bytes(rest) })
    }
}

fn identity(stage: &Stage, row: u32) -> IdentityHash {
    let (visitor, at) = (stage.visitor(row), row as usize);
    IdentityHash::new(visitor_hash(visitor), visitor.as_bytes(), stage.times[at], stage.ids.get(at))
}

/// Some rows of a stage, ascending, as a batch of their own.
fn extract(stage: &Stage, vocabulary: &Vocabulary, rows: &[u32]) -> EventBatch {
    let mut batch = EventBatch::default();
    let mut places = vec![NOWHERE; stage.len()];
    for (place, &row) in rows.iter().enumerate() {
        places[row as usize] = place as u32;
        let at = row as usize;
        batch.visitors.push(batch.strings.intern(stage.visitor(row)));
        batch.names.push(batch.strings.intern(vocabulary.words.get(stage.names[at])));
        batch.times.push(stage.times[at]);
        batch.sequences.push(stage.sequences[at]);
        batch.event_ids.push(stage.ids.get(at));
    }
    for (slot, column) in stage.columns.iter().enumerate() {
        let Some(column) = column else { continue };
        let (selector, value_type) = &vocabulary.slots[slot];
        let key = match selector {
            Attribute::Field(field) => ColumnKey::Field(*field),
            Attribute::Property(name) => ColumnKey::Property(batch.strings.intern(name)),
        };
        let target = batch.place(key, *value_type);
        for (at, &row) in column.rows.iter().enumerate() {
            let place = places[row as usize];
            if place == NOWHERE {
                continue;
            }
            let word = match &column.values {
                Values::Strings(values) => batch.strings.intern(vocabulary.words.get(values[at])),
                _ => 0,
            };
            let out = &mut batch.columns[target];
            out.rows.push(place);
            match (&mut out.values, &column.values) {
                (Values::Strings(out), Values::Strings(_)) => out.push(word),
                (Values::Ints(out), Values::Ints(values)) => out.push(values[at]),
                (Values::Doubles(out), Values::Doubles(values)) => out.push(values[at]),
                (Values::Bools(out), Values::Bools(values)) => out.push(values[at]),
                _ => {}
            }
        }
    }
    batch
}
