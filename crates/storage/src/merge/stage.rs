//! Events on their way into a block: dealt out by month and shards, column by column, so that what is sorted next fits a processor's cache.

use std::collections::HashMap;

use runnel_model::{Attribute, ColumnKey, Dictionary, EventBatch, Ids, ValueType, Values};

/// No stage: the row stays behind.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The events of some shards of one month, in the order in which they came.
#[derive(Default)]
pub(crate) struct Stage {
    pub(crate) visitors: Dictionary,
    pub(crate) visitor_codes: Vec<u32>,
    /// Indices into the vocabulary's words.
    pub(crate) names: Vec<u32>,
    pub(crate) times: Vec<i64>,
    pub(crate) sequences: Vec<i64>,
    pub(crate) ids: Ids,
    pub(crate) numbers: Vec<u64>,
    /// By slot. Texts are indices into the vocabulary's words.
    pub(crate) columns: Vec<Option<StageColumn>>,
    /// Bytes of distinct texts, about.
    pub(crate) text_bytes: u64,
}

/// A sparse column of a stage.
pub(crate) struct StageColumn {
    pub(crate) rows: Vec<u32>,
    pub(crate) values: Values,
}

impl Stage {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn visitor(&self, row: u32) -> &str {
        self.visitors.get(self.visitor_codes[row as usize])
    }

    /// Whether some event has a sequence.
    pub(crate) fn has_sequences(&self) -> bool {
        self.sequences.iter().any(|&sequence| sequence != 0)
    }

    fn column(&mut self, slot: usize, value_type: ValueType) -> &mut StageColumn {
        if self.columns.len() <= slot {
            self.columns.resize_with(slot + 1, || None);
        }
        self.columns[slot]
            .get_or_insert_with(|| StageColumn { rows: Vec::new(), values: Values::new(value_type) })
    }
}

/// What stages share: words other than visitors, and the columns there are.
#[derive(Default)]
pub(crate) struct Vocabulary {
    pub(crate) words: Dictionary,
    /// The column of each slot.
    pub(crate) slots: Vec<(Attribute, ValueType)>,
    places: HashMap<(Attribute, ValueType), usize>,
}

impl Vocabulary {
    pub(crate) fn slot(&mut self, column: (Attribute, ValueType)) -> usize {
        if let Some(&place) = self.places.get(&column) {
            return place;
        }
        self.places.insert(column.clone(), self.slots.len());
        self.slots.push(column);
        self.slots.len() - 1
    }
}

/// The numbers of a batch's events.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    All(u64),
    Each(&'a [u64]),
}

/// Deals a batch's events out: row `r` goes to `stages[assigned[r]]`.
pub(crate) fn scatter(
    batch: &EventBatch,
    numbers: Numbers<'_>,
    assigned: &[u32],
    stages: &mut [Stage],
    vocabulary: &mut Vocabulary,
) {
    let mut words = WordMap { of: vec![NOWHERE; batch.strings.len()] };
    let mut visitors = vec![(NOWHERE, 0u32); batch.strings.len()];
    let mut places = vec![0u32; batch.len()];
    let share = batch.strings.text().len() as u64 / batch.len().max(1) as u64;
    for (row, &to) in assigned.iter().enumerate() {
        if to == NOWHERE {
            continue;
        }
        let stage = &mut stages[to as usize];
        places[row] = stage.times.len() as u32;
        stage.times.push(batch.times[row]);
        stage.sequences.push(batch.sequences[row]);
        stage.ids.push(batch.event_ids.get(row));
        stage.numbers.push(match numbers {
            Numbers::All(number) => number,
            Numbers::Each(numbers) => numbers[row],
        });
        stage.names.push(words.word(batch.names[row], batch, &mut vocabulary.words));
        let local = batch.visitors[row];
        let known = &mut visitors[local as usize];
        if known.0 != to {
            *known = (to, stage.visitors.intern(batch.strings.get(local)));
        }
        stage.visitor_codes.push(known.1);
        stage.text_bytes += share;
    }
    for column in &batch.columns {
        let value_type = column.values.value_type();
        let selector = match column.key {
            ColumnKey::Field(field) => Attribute::Field(field),
            ColumnKey::Property(name) => Attribute::Property(batch.strings.get(name).to_owned()),
        };
        let slot = vocabulary.slot((selector, value_type));
        for (at, &row) in column.rows.iter().enumerate() {
            let to = assigned[row as usize];
            if to == NOWHERE {
                continue;
            }
            let staged = stages[to as usize].column(slot, value_type);
            match (&mut staged.values, &column.values) {
                (Values::Strings(out), Values::Strings(values)) => {
                    out.push(words.word(values[at], batch, &mut vocabulary.words));
                }
                (Values::Ints(out), Values::Ints(values)) => out.push(values[at]),
                (Values::Doubles(out), Values::Doubles(values)) => out.push(values[at]),
                (Values::Bools(out), Values::Bools(values)) => out.push(values[at]),
                _ => continue,
            }
            staged.rows.push(places[row as usize]);
        }
    }
}

/// Words of a batch as words of the vocabulary, looked up once each.
struct WordMap {
    of: Vec<u32>,
}

impl WordMap {
    fn word(&mut self, local: u32, batch: &EventBatch, words: &mut Dictionary) -> u32 {
        let known = &mut self.of[local as usize];
        if *known == NOWHERE {
            *known = words.intern(batch.strings.get(local));
        }
        *known
    }
}
