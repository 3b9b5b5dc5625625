//! Rows: events as they were decoded from one journal batch or one row group of a block, in the order of shards and visitors.

use std::{ops::RangeInclusive, sync::Arc};

use hashbrown::HashMap;
use runnel_model::{Attribute, ColumnKey, Erasing, EventBatch, Identities, Selector, is_nobody, shard_of};
use runnel_storage::{Block, BlockError};

use crate::{
    names::Names,
    run::{Arena, Run},
    values::ValueDictionary,
};

/// The columns that are loaded, each with the dictionary of its values.
pub(crate) type LoadedColumns = [(Selector, Arc<ValueDictionary>)];

/// There are more event names than codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has more than 65,535 event names")]
pub struct TooManyNames;

/// Decoded events. Dense columns by row; `order` lists rows by (shard, visitor, time), and by (sequence, id) where they have one sender.
///
/// The visitor of a row is whoever it counts as; its sender is the visitor as sent. Where the two differ, the sender is part of the event's id, since events of
/// two senders are two events whatever ids they came with.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    words: Arena,
    /// Local code of the visitor.
    pub(crate) visitors: Vec<u32>,
    /// Local code of a sender who counts as somebody else, else 0; empty when there is none.
    senders: Vec<u32>,
    /// Senders who count as somebody else, by code; the first is nobody.
    sent: Arena,
    /// Milliseconds since the Unix epoch.
    pub(crate) times: Vec<i64>,
    /// Tenant-wide code of the event name.
    pub(crate) kinds: Vec<u16>,
    /// Value codes, one vector a loaded column; empty where no row has a value.
    pub(crate) columns: Vec<Vec<u32>>,
    /// Rows in order.
    pub(crate) order: Vec<u32>,
    /// Per shard its first position in `order`, and the end.
    pub(crate) shards: Vec<u32>,
    numbers: Numbers,
    identities: Known,
}

/// Who is who, and who is being erased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) people: &'a Identities,
    pub(crate) erasing: &'a Erasing,
}

/// Whether an event counts for nobody: whoever sent it is erased, or denied consent.
pub(crate) fn is_hidden(sent: &str, time_ms: i64, erasing: &Erasing) -> bool {
    is_nobody(sent.as_bytes()) || erasing.until(sent).is_some_and(|until_ms| time_ms <= until_ms)
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
        Who { people, erasing }: Who<'_>,
    ) -> Result<Rows, TooManyNames> {
        let mut rows = Rows { times: batch.times.clone(), numbers: Numbers::All(number), ..Rows::default() };
        let (mut locals, mut known) = (HashMap::new(), Visitors::default());
        let mut kinds = HashMap::new();
        let (mut ids, mut shards) = (Arena::default(), Vec::with_capacity(batch.len()));
        for row in 0..batch.len() {
            let word = batch.visitors[row];
            let sent = batch.strings.get(word);
            let (visitor, sender) = *locals.entry(word).or_insert_with(|| known.of(sent, people, &mut rows));
            rows.visitors.push(visitor);
            rows.note_sender(row, sender);
            shards.push(known.shards[visitor as usize]);
            let kind = match kinds.get(&batch.names[row]) {
                Some(&kind) => kind,
                None => {
                    let kind = names.code(batch.strings.get(batch.names[row])).ok_or(TooManyNames)?;
                    kinds.insert(batch.names[row], kind);
                    kind
                }
            };
            rows.kinds.push(kind);
            match sender {
                0 => ids.push(batch.event_ids.get(row)),
                _ => ids.push(&sent_id(batch.event_ids.get(row), sent.as_bytes())),
            }
        }
        rows.end_senders();
        rows.columns =
            columns.iter().map(|(selector, dictionary)| dense(batch, selector, dictionary)).collect();
        let key = |&row: &u32| {
            let at = row as usize;
            let word = rows.words.get(rows.visitors[at] as usize);
            (shards[at], word, batch.times[at], batch.sequences[at], ids.get(at))
        };
        let hidden = |row: &u32| {
            let at = *row as usize;
            erasing
                .until(batch.strings.get(batch.visitors[at]))
                .is_some_and(|until_ms| batch.times[at] <= until_ms)
        };
        let mut order: Vec<u32> = (0..batch.len() as u32).collect();
        if !erasing.is_empty() {
            order.retain(|row| !hidden(row));
        }
        order.sort_unstable_by(|left, right| key(left).cmp(&key(right)));
        rows.shards = starts(order.iter().map(|&row| shards[row as usize]));
        rows.order = order;
        rows.identities = Known::All { ids, sequences: batch.sequences.clone() };
        Ok(rows)
    }

    /// Rows of one row group of a block with these numbers. Identities are read when they are needed, by [`Rows::read_identities`], or at once with
    /// `identities`.
    pub(crate) fn of_block(
        block: &Block,
        row_group: usize,
        numbers: &RangeInclusive<u64>,
        names: &Names,
        columns: &LoadedColumns,
        Who { people, erasing }: Who<'_>,
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
        let mut hidden = Vec::new();
        if !erasing.is_empty() {
            let until = |at: usize| erasing.until(text(keys.visitors.get(at))).unwrap_or(i64::MIN);
            let until: Vec<i64> = (0..keys.visitors.len()).map(until).collect();
            let sent = rows.visitors.iter().zip(&rows.times);
            hidden = sent.map(|(&sent, &time_ms)| time_ms <= until[sent as usize]).collect();
        }
        let is_hidden = |row: u32| hidden.get(row as usize).copied().unwrap_or(false);
        let mut known = Visitors::default();
        let words: Vec<(u32, u32)> = (0..keys.visitors.len())
            .map(|at| known.of(text(keys.visitors.get(at)), people, &mut rows))
            .collect();
        let wanted = |&row: &u32| numbers.contains(&keys.numbers[row as usize]) && !is_hidden(row);
        rows.order = (0..rows.times.len() as u32).filter(wanted).collect();
        // Where everybody counts as themselves, visitors have the codes of the block, and rows are in order.
        if !rows.sent.is_empty() {
            for row in 0..rows.visitors.len() {
                let (visitor, sender) = words[rows.visitors[row] as usize];
                rows.visitors[row] = visitor;
                rows.note_sender(row, sender);
            }
            rows.end_senders();
            rows.sort(&known);
        }
        rows.shards =
            starts(rows.order.iter().map(|&row| known.shards[rows.visitors[row as usize] as usize]));
        rows.numbers = Numbers::Each(keys.numbers);
        for (selector, dictionary) in columns {
            let mut codes = Vec::new();
            for (at, info) in block.columns().iter().enumerate() {
                if matches!(selector, Selector::Attribute(wanted) if info.selector == *wanted) {
                    let column = block.read_column(row_group, at)?;
                    codes.resize(rows.times.len(), 0);
                    let values = dictionary.codes(column.iter());
                    column.rows.iter().zip(values).for_each(|(&row, code)| codes[row as usize] = code);
                }
            }
            rows.columns.push(codes);
        }
        if identities {
            let (ids, sequences) = block.read_identities(row_group, None)?;
            let mut arena = Arena::default();
            for at in 0..ids.len() {
                match rows.sender_of(at) {
                    None => arena.push(ids.get(at)),
                    Some(sender) => arena.push(&sent_id(ids.get(at), sender)),
                }
            }
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
        for (at, &row) in wanted.iter().enumerate() {
            let id = match self.sender_of(row as usize) {
                None => ids.get(at).to_vec(),
                Some(sender) => sent_id(ids.get(at), sender),
            };
            self.know(row, id, sequences[at]);
        }
        Ok(())
    }

    /// Rows of whole journeys in memory that count as parts of others' now: of each its run, its place, whose it is, and whether it may have events of several senders.
    /// An id that is resident says who sent the event: where it names nobody, the visitor did whose journey it was.
    pub(crate) fn of_journeys(journeys: &[(&Run, usize, &str, bool)], columns: usize) -> Rows {
        let mut rows = Rows { columns: vec![Vec::new(); columns], ..Rows::default() };
        let mut known = Visitors::default();
        rows.sent.push(&[]);
        for (run, at, whose, several) in journeys {
            let visitor = known.named(whose, &mut rows);
            let was = run.visitors.get(*at);
            rows.sent.push(was);
            for (number, event) in run.range(*at).enumerate() {
                // Where they tie, several senders are ordered otherwise by who is one of them and who is the visitor. So any two may differ.
                if *several && number > 0 {
                    rows.sent.push(was);
                }
                let sender = rows.sent.len() as u32 - 1;
                let row = rows.times.len() as u32;
                rows.times.push(run.time(event));
                rows.kinds.push(run.kind(event));
                rows.visitors.push(visitor);
                rows.senders.push(sender);
                for (column, codes) in rows.columns.iter_mut().zip(&run.columns) {
                    column.push(codes.values().get(event).unwrap_or(0));
                }
                if let Some((id, sequence)) = run.identity(event) {
                    let id = if id.contains(&0) { id.to_vec() } else { sent_id(id, was) };
                    rows.know(row, id, sequence);
                }
            }
        }
        rows.order = (0..rows.times.len() as u32).collect();
        rows.sort(&known);
        rows.shards =
            starts(rows.order.iter().map(|&row| known.shards[rows.visitors[row as usize] as usize]));
        rows
    }

    fn know(&mut self, row: u32, id: Vec<u8>, sequence: i64) {
        if let Known::Some(known) = &mut self.identities {
            known.insert(row, (id, sequence));
        }
    }

    /// Orders rows by (shard, visitor, time); those of one sender stay as they are.
    fn sort(&mut self, known: &Visitors) {
        let mut ranks: Vec<u32> = (0..self.words.len() as u32).collect();
        let name = |&at: &u32| (known.shards[at as usize], self.words.get(at as usize));
        ranks.sort_unstable_by(|left, right| name(left).cmp(&name(right)));
        let mut rank = vec![0u32; ranks.len()];
        ranks.iter().zip(0..).for_each(|(&at, place)| rank[at as usize] = place);
        let (visitors, times) = (&self.visitors, &self.times);
        self.order.sort_by_key(|&row| (rank[visitors[row as usize] as usize], times[row as usize]));
    }

    fn note_sender(&mut self, row: usize, sender: u32) {
        if sender != 0 {
            self.senders.resize(row, 0);
            self.senders.push(sender);
        }
    }

    fn end_senders(&mut self) {
        if !self.senders.is_empty() {
            self.senders.resize(self.visitors.len(), 0);
        }
    }

    fn sender_of(&self, row: usize) -> Option<&[u8]> {
        Some(self.sender(row)).filter(|sender| *sender != 0).map(|sender| self.sent.get(sender as usize))
    }

    /// The local code of whoever sent a row and counts as somebody else; 0 where the visitor did.
    #[must_use]
    #[inline]
    pub(crate) fn sender(&self, row: usize) -> u32 {
        self.senders.get(row).copied().unwrap_or(0)
    }

    /// Whether somebody sent rows who counts as somebody else.
    #[must_use]
    pub(crate) fn is_mixed(&self) -> bool {
        !self.senders.is_empty()
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

/// The id of an event whose sender counts as somebody else. No id of a client has a NUL.
fn sent_id(id: &[u8], sender: &[u8]) -> Vec<u8> {
    [id, &[0], sender].concat()
}

/// Visitors of rows, as they are met.
#[derive(Debug, Default)]
struct Visitors {
    /// By local code.
    shards: Vec<u8>,
    /// Codes by name, of everybody once somebody counts as somebody else.
    codes: HashMap<Vec<u8>, u32>,
}

impl Visitors {
    /// The codes of the visitor that a sender counts as, and of the sender if that is somebody else. Senders are met once.
    fn of(&mut self, sent: &str, people: &Identities, rows: &mut Rows) -> (u32, u32) {
        if people.is_empty() {
            return (self.add(sent, rows), 0);
        }
        let Some(visitor) = people.moved(sent) else { return (self.named(sent, rows), 0) };
        if rows.sent.is_empty() {
            rows.sent.push(&[]);
        }
        rows.sent.push(sent.as_bytes());
        (self.named(visitor, rows), rows.sent.len() as u32 - 1)
    }

    fn named(&mut self, visitor: &str, rows: &mut Rows) -> u32 {
        if let Some(&code) = self.codes.get(visitor.as_bytes()) {
            return code;
        }
        let code = self.add(visitor, rows);
        self.codes.insert(visitor.as_bytes().to_vec(), code);
        code
    }

    fn add(&mut self, visitor: &str, rows: &mut Rows) -> u32 {
        rows.words.push(visitor.as_bytes());
        self.shards.push(shard_of(visitor) as u8);
        self.shards.len() as u32 - 1
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
    let mut codes = Vec::new();
    for column in &batch.columns {
        let named = match (column.key, selector) {
            (ColumnKey::Field(field), Selector::Attribute(Attribute::Field(wanted))) => field == *wanted,
            (ColumnKey::Property(name), Selector::Attribute(Attribute::Property(wanted))) => {
                batch.strings.get(name) == wanted
            }
            _ => false,
        };
        if named {
            codes.resize(batch.len(), 0);
            let values = dictionary.codes((0..column.rows.len()).map(|at| batch.value(column, at)));
            column.rows.iter().zip(values).for_each(|(&row, code)| codes[row as usize] = code);
        }
    }
    codes
}
