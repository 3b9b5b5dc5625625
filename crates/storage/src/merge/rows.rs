//! Journal rows into blocks, one a month.

use std::collections::BTreeMap;

use bytes::Bytes;
use runnel_model::{ContentSum, Erasing, SHARDS, shard_of};

use super::{
    Dropped, MergeError, Merged, Months, NewBlock, UnprovedError,
    erased::erased_rows,
    stage::{NOWHERE, Numbers, Stage, Vocabulary, scatter},
    target::{Target, ranges_for, shards_of},
};
use crate::{JournalError, block::IdForm, journal};

/// Most months, which is blocks, of several journal rows that are merged at once: all their blocks are in memory and go into one swap.
const MONTHS: usize = 256;

/// A journal row as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    pub(crate) number: u64,
    /// How many events were noted when it was appended.
    pub(crate) events: u64,
    /// Its bytes, if they are there.
    pub(crate) payload: Option<Bytes>,
}

impl StoredRow {
    fn decode(&self) -> Result<journal::Decoded, JournalError> {
        let decoded = journal::decode(self.payload.as_ref().ok_or(JournalError::Lost)?)?;
        let found = decoded.batch.len() as u64;
        if found == self.events {
            Ok(decoded)
        } else {
            Err(JournalError::Events { found, noted: self.events })
        }
    }
}

/// A journal row that was read, the month of each of its events, and which of them are erased.
struct Source {
    number: u64,
    decoded: journal::Decoded,
    months: Vec<i32>,
    erased: Vec<u32>,
}

/// The stages of one month.
struct Month {
    events: u64,
    ranges: usize,
    /// Position of its first stage.
    stages: usize,
}

/// Merges journal rows, without what is erased. Rows that cannot be read are named in the outcome and left out. Several rows that are of too many
/// months are refused; a single one becomes as many blocks as it has months.
pub(crate) fn merge_rows(tenant: &str, rows: &[StoredRow], erasing: &Erasing) -> Result<Merged, MergeError> {
    let mut merged = Merged::default();
    let mut sources = Vec::with_capacity(rows.len());
    let mut months: BTreeMap<i32, Month> = BTreeMap::new();
    let mut expected = ContentSum::default();
    let mut calendar = Months::default();
    for row in rows {
        let decoded = match row.decode() {
            Ok(decoded) => decoded,
            Err(error) if error.is_newer() => {
                merged.newer = Some(row.number);
                break;
            }
            Err(error) => {
                merged.broken.push((row.number, error));
                continue;
            }
        };
        expected = expected.plus(decoded.content_sum.0);
        merged.events += decoded.batch.len() as u64;
        let of: Vec<i32> = decoded.batch.times.iter().map(|&time| calendar.of(time)).collect();
        let erased = erased_rows(&decoded.batch, erasing);
        merged.erased.note(&decoded.batch, &erased);
        let mut gone = erased.iter().peekable();
        for (row, month) in of.iter().enumerate() {
            if gone.next_if(|gone| **gone as usize == row).is_none() {
                months.entry(*month).or_insert(Month { events: 0, ranges: 1, stages: 0 }).events += 1;
            }
        }
        if rows.len() > 1 && months.len() > MONTHS {
            return Err(MergeError::Months);
        }
        sources.push(Source { number: row.number, decoded, months: of, erased });
    }
    let mut stages: Vec<Stage> = Vec::new();
    for month in months.values_mut() {
        month.ranges = ranges_for(month.events);
        month.stages = stages.len();
        stages.resize_with(stages.len() + month.ranges, Stage::default);
    }
    let first = sources.first().map_or(0, |source| source.number);
    let last = sources.last().map_or(0, |source| source.number);
    let mut vocabulary = Vocabulary::default();
    for source in sources {
        let assigned = assign(&source, &months);
        scatter(&source.decoded.batch, Numbers::All(source.number), &assigned, &mut stages, &mut vocabulary);
    }
    let mut found = ContentSum::default();
    for (&month, place) in &months {
        let staged = &mut stages[place.stages..place.stages + place.ranges];
        let target = Target::new(&vocabulary, columns_of(staged), has_sequences(staged), ids_of(staged))?;
        let (bytes, events, sum) =
            write(target, staged, &vocabulary, &mut merged.dropped)?.finish(tenant, first, last)?;
        found = found.plus(sum.0);
        merged.blocks.push(NewBlock {
            month,
            partition: 0,
            first_sequence: first,
            last_sequence: last,
            events,
            content_sum: sum,
            bytes,
        });
    }
    let found = found.plus(merged.dropped.sum.0).plus(merged.erased.sum.0);
    if found != expected {
        return Err(UnprovedError { expected: expected.0, found: found.0 }.into());
    }
    Ok(merged)
}

fn write(
    mut target: Target,
    stages: &mut [Stage],
    vocabulary: &Vocabulary,
    dropped: &mut Dropped,
) -> Result<Target, MergeError> {
    let ranges = stages.len();
    for (range, stage) in stages.iter_mut().enumerate() {
        let stage = std::mem::take(stage);
        target.write(&stage, vocabulary, &shards_of(range, ranges), dropped)?;
    }
    Ok(target)
}

/// The stage of each event of a source.
fn assign(source: &Source, months: &BTreeMap<i32, Month>) -> Vec<u32> {
    let batch = &source.decoded.batch;
    let mut shards = vec![u8::MAX; batch.strings.len()];
    let mut known: Option<(i32, &Month)> = None;
    let mut assigned = Vec::with_capacity(batch.len());
    let mut gone = source.erased.iter().peekable();
    for (row, (&visitor, &month)) in batch.visitors.iter().zip(&source.months).enumerate() {
        if gone.next_if(|gone| **gone as usize == row).is_some() {
            assigned.push(NOWHERE);
            continue;
        }
        let shard = &mut shards[visitor as usize];
        if *shard == u8::MAX {
            *shard = shard_of(batch.strings.get(visitor)) as u8;
        }
        let place = match known {
            Some((of, place)) if of == month => place,
            _ => {
                let place = &months[&month];
                known = Some((month, place));
                place
            }
        };
        assigned.push((place.stages + usize::from(*shard) * place.ranges / SHARDS) as u32);
    }
    assigned
}

fn columns_of(stages: &[Stage]) -> Vec<usize> {
    let slots = stages.iter().map(|stage| stage.columns.len()).max().unwrap_or(0);
    (0..slots)
        .filter(|&slot| stages.iter().any(|stage| matches!(stage.columns.get(slot), Some(Some(_)))))
        .collect()
}

fn has_sequences(stages: &[Stage]) -> bool {
    stages.iter().any(Stage::has_sequences)
}

fn ids_of(stages: &[Stage]) -> IdForm {
    let forms = stages.iter().filter_map(|stage| IdForm::of_all(&stage.ids));
    forms.reduce(IdForm::join).unwrap_or(IdForm::Text)
}
