//! Rows: events as they were decoded from one journal batch or one row group of a block, in the order of shards and visitors.

use std::sync::Arc;

use hashbrown::HashMap;
use runnel_model::{Attribute, ColumnKey, EventBatch, Selector, shard_of};
use runnel_storage::{Block, BlockError};

use crate::{names::Names, run::Arena, values::ValueDictionary};

/// The columns that are loaded, each with the dictionary of its values.
pub(crate) type LoadedColumns = [(Selector, Arc<ValueDictionary>)];

/// There are more event names than codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has more than 65,535 event names")]
pub struct TooManyNames;

/// Decoded events. Dense columns by row; `order` lists rows by (shard, visitor, time, sequence, id).
#[derive(Debug, Default)]
pub(crate) struct Rows {
    words: Arena,
    /// Local code of the visitor.
    pub(crate) visitors: Vec<u32>,
    /// Milliseconds since the Unix epoch.
    pub(crate) times: Vec<i64>,
    /// Tenant-wide code of the event name.
    pub(crate) kinds: Vec<u16>,
    /// Value codes, one vector a loaded column.
    pub(crate) columns: Vec<Vec<u32>>,
    /// Rows in order.
    pub(crate) order: Vec<u32>,
    /// Per shard its first position in `order`, and the end.
    pub(crate) shards: Vec<u32>,
    numbers: Numbers,
    identities: Known,
}

/// The sequence numbers that rows came with.
#[derive(Debug)]
enum Numbers {
    All(u64),
    Each(Vec<u64>),
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers::All(0)
    }
}

/// The identities that are at hand.
#[derive(Debug)]
enum Known {
    All { ids: Arena, sequences: Vec<i64> },
    Some(HashMap<u32, (Vec<u8>, i64)>),
}

impl Default for Known {
    fn default() -> Known {
        Known::Some(HashMap::new())
    }
}

impl Rows {
    /// Rows of a journal batch.
    pub(crate) fn of_batch(
        batch: &EventBatch,
        number: u64,
        names: &Names,
        columns: &LoadedColumns,
    ) -> Result<Rows, TooManyNames> {
        let mut rows = Rows { times: batch.times.clone(), numbers: Numbers::All(number), ..Rows::default() };
        let mut locals = HashMap::new();
        let mut shard_of_word = Vec::new();
        let mut kinds = HashMap::new();
        let (mut ids, mut shards) = (Arena::default(), Vec::with_capacity(batch.len()));
        for row in 0..batch.len() {
            let word = batch.visitors[row];
            let local = *locals.entry(word).or_insert_with(|| {
                let visitor = batch.strings.get(word);
                rows.words.push(visitor.as_bytes());
                shard_of_word.push(shard_of(visitor) as u8);
                rows.words.len() as u32 - 1
            });
            rows.visitors.push(local);
            shards.push(shard_of_word[local as usize]);
            let kind = match kinds.get(&batch.names[row]) {
                Some(&kind) => kind,
                None => {
                    let kind = names.code(batch.strings.get(batch.names[row])).ok_or(TooManyNames)?;
                    kinds.insert(batch.names[row], kind);
                    kind
                }
            };
            rows.kinds.push(kind);
            ids.push(batch.event_ids.get(row));
        }
        rows.columns =
            columns.iter().map(|(selector, dictionary)| dense(batch, selector, dictionary)).collect();
        let key = |&row: &u32| {
            let at = row as usize;
            let word = rows.words.get(rows.visitors[at] as usize);
            (shards[at], word, batch.times[at], batch.sequences[at], ids.get(at))
        };
        let mut order: Vec<u32> = (0..batch.len() as u32).collect();
        order.sort_unstable_by(|left, right| key(left).cmp(&key(right)));
        rows.shards = starts(order.iter().map(|&row| shards[row as usize]));
        rows.order = order;
        rows.identities = Known::All { ids, sequences: batch.sequences.clone() };
        Ok(rows)
    }

    /// Rows of one row group of a block with numbers above `after`. Identities are read when they are needed, by [`Rows::read_identities`],
    /// or at once with `identities`.
    pub(crate) fn of_block(
        block: &Block,
        row_group: usize,
        after: u64,
        names: &Names,
        columns: &LoadedColumns,
        identities: bool,
    ) -> Result<Rows, RowsError> {
        let keys = block.read_keys(row_group)?;
        let codes: Result<Vec<u16>, TooManyNames> = (0..keys.names.len())
            .map(|at| names.code(text(keys.names.get(at))).ok_or(TooManyNames))
            .collect();
        let codes = codes?;
        let mut rows = Rows {
            kinds: keys.name_codes.iter().map(|&code| codes[code as usize]).collect(),
            visitors: keys.visitor_codes,
            times: keys.times,
            ..Rows::default()
        };
        let mut shard_of_word = Vec::with_capacity(keys.visitors.len());
        for at in 0..keys.visitors.len() {
            let word = keys.visitors.get(at);
            rows.words.push(word);
            shard_of_word.push(shard_of(text(word)) as u8);
        }
        rows.order = (0..rows.times.len() as u32).filter(|&row| keys.numbers[row as usize] > after).collect();
        rows.shards =
            starts(rows.order.iter().map(|&row| shard_of_word[rows.visitors[row as usize] as usize]));
        rows.numbers = Numbers::Each(keys.numbers);
        for (selector, dictionary) in columns {
            let mut codes = vec![0; rows.times.len()];
            for (at, info) in block.columns().iter().enumerate() {
                if matches!(selector, Selector::Attribute(wanted) if info.selector == *wanted) {
                    let column = block.read_column(row_group, at)?;
                    let values = dictionary.codes(column.iter());
                    column.rows.iter().zip(values).for_each(|(&row, code)| codes[row as usize] = code);
                }
            }
            rows.columns.push(codes);
        }
        if identities {
            let (ids, sequences) = block.read_identities(row_group, None)?;
            let mut arena = Arena::default();
            (0..ids.len()).for_each(|at| arena.push(ids.get(at)));
            rows.identities = Known::All { ids: arena, sequences };
        }
        Ok(rows)
    }

    /// Reads the identities of some rows, ascending, so that a merge can be tried again.
    pub(crate) fn read_identities(
        &mut self,
        block: &Block,
        row_group: usize,
        wanted: &[u32],
    ) -> Result<(), BlockError> {
        let (ids, sequences) = block.read_identities(row_group, Some(wanted))?;
        if let Known::Some(known) = &mut self.identities {
            for (at, &row) in wanted.iter().enumerate() {
                known.insert(row, (ids.get(at).to_vec(), sequences[at]));
            }
        }
        Ok(())
    }

    /// The visitor of a row.
    #[must_use]
    pub(crate) fn visitor(&self, row: usize) -> &[u8] {
        self.words.get(self.visitors[row] as usize)
    }

    /// The id and sequence of a row, if at hand.
    #[must_use]
    pub(crate) fn identity(&self, row: usize) -> Option<(&[u8], i64)> {
        match &self.identities {
            Known::All { ids, sequences } => Some((ids.get(row), sequences[row])),
            Known::Some(known) => known.get(&(row as u32)).map(|(id, sequence)| (&id[..], *sequence)),
        }
    }

    /// The sequence number that a row came with.
    #[must_use]
    pub(crate) fn number(&self, row: usize) -> u64 {
        match &self.numbers {
            Numbers::All(number) => *number,
            Numbers::Each(numbers) => numbers[row],
        }
    }
}

/// Why rows could not be read from a block.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    /// The block is damaged.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// More names than codes.
    #[error(transparent)]
    Names(#[from] TooManyNames),
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Where each shard begins in rows that are ordered by shard.
fn starts(shards: impl Iterator<Item = u8>) -> Vec<u32> {
    let mut starts = vec![0u32; runnel_model::SHARDS + 1];
    for shard in shards {
        starts[usize::from(shard) + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    starts
}

/// Codes by row of every column of a batch that the selector names, whatever its type.
fn dense(batch: &EventBatch, selector: &Selector, dictionary: &ValueDictionary) -> Vec<u32> {
    let mut codes = vec![0; batch.len()];
    for column in &batch.columns {
        let named = match (column.key, selector) {
            (ColumnKey::Field(field), Selector::Attribute(Attribute::Field(wanted))) => field == *wanted,
            (ColumnKey::Property(name), Selector::Attribute(Attribute::Property(wanted))) => {
                batch.strings.get(name) == wanted
            }
            _ => false,
        };
        if named {
            let values = dictionary.codes((0..column.rows.len()).map(|at| batch.value(column, at)));
            column.rows.iter().zip(values).for_each(|(&row, code)| codes[row as usize] = code);
        }
    }
    codes
}
