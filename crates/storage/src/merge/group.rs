//! The rows of a stage, in order, as the columns of row groups.

use std::ops::Range;

use runnel_model::{Ids, Values};

use super::stage::{NOWHERE, Stage, StageColumn, Vocabulary};
use crate::block::{GroupColumn, GroupColumns};

/// Most events of a row group, unless one visitor has more.
const GROUP_ROWS: usize = 256 * 1024;
/// Bytes of distinct texts that a row group should not exceed.
const GROUP_BYTES: u64 = 128 << 20;

/// Gives words consecutive codes, anew for each column of each row group.
#[derive(Default)]
pub(crate) struct Recoder {
    codes: Vec<(u32, u32)>,
    generation: u32,
}

impl Recoder {
    fn recode<'a>(&mut self, vocabulary: &'a Vocabulary, values: &mut [u32]) -> Vec<&'a str> {
        self.codes.resize(self.codes.len().max(vocabulary.words.len()), (0, 0));
        self.generation += 1;
        let mut words = Vec::new();
        for value in values {
            let known = &mut self.codes[*value as usize];
            if known.0 != self.generation {
                *known = (self.generation, words.len() as u32);
                words.push(vocabulary.words.get(*value));
            }
            *value = known.1;
        }
        words
    }
}

/// Divides ordered rows into row groups at visitors' borders.
pub(crate) fn divide(stage: &Stage, rows: &[u32]) -> Vec<Range<usize>> {
    let mut limit = GROUP_ROWS;
    if stage.text_bytes > GROUP_BYTES {
        limit = ((rows.len() as u64 * GROUP_BYTES / stage.text_bytes) as usize).clamp(1_024, GROUP_ROWS);
    }
    let mut groups = Vec::new();
    let mut start = 0;
    while rows.len() - start > limit {
        let visitor = |at: usize| stage.visitor_codes[rows[at] as usize];
        let mut end = start + limit;
        while end > start && visitor(end - 1) == visitor(end) {
            end -= 1;
        }
        if end == start {
            end = start + limit;
        }
        groups.push(start..end);
        start = end;
    }
    groups.push(start..rows.len());
    groups
}

/// Puts the columns of some ordered rows together. `slots` are the columns wanted.
pub(crate) fn gather<'a>(
    stage: &'a Stage,
    vocabulary: &'a Vocabulary,
    rows: &[u32],
    slots: &[usize],
    shards: Range<usize>,
    recoder: &mut Recoder,
) -> GroupColumns<'a> {
    let mut group = GroupColumns { shards, ..GroupColumns::default() };
    let mut places = vec![NOWHERE; stage.len()];
    let mut before = NOWHERE;
    let mut ids = Ids::default();
    for (place, &row) in rows.iter().enumerate() {
        places[row as usize] = place as u32;
        let visitor = stage.visitor_codes[row as usize];
        if visitor != before {
            before = visitor;
            group.visitors.push(stage.visitors.get(visitor));
        }
        group.visitor_codes.push(group.visitors.len() as u32 - 1);
        ids.push(stage.ids.get(row as usize));
    }
    group.ids = ids;
    group.name_codes = rows.iter().map(|&row| stage.names[row as usize]).collect();
    group.names = recoder.recode(vocabulary, &mut group.name_codes);
    group.times = rows.iter().map(|&row| stage.times[row as usize]).collect();
    group.sequences = rows.iter().map(|&row| stage.sequences[row as usize]).collect();
    group.numbers = rows.iter().map(|&row| stage.numbers[row as usize] as i64).collect();
    for &slot in slots {
        let column = match stage.columns.get(slot) {
            Some(Some(column)) => column,
            _ => {
                let values = Values::new(vocabulary.slots[slot].1);
                group.columns.push(GroupColumn { rows: Vec::new(), values, words: Vec::new() });
                continue;
            }
        };
        let moved = moved(column, &places, rows.len());
        let values = match &column.values {
            Values::Strings(values) => Values::Strings(pick(&moved, values)),
            Values::Ints(values) => Values::Ints(pick(&moved, values)),
            Values::Doubles(values) => Values::Doubles(pick(&moved, values)),
            Values::Bools(values) => Values::Bools(pick(&moved, values)),
        };
        let mut column = GroupColumn {
            rows: moved.into_iter().map(|(place, _)| place).collect(),
            values,
            words: Vec::new(),
        };
        if let Values::Strings(codes) = &mut column.values {
            column.words = recoder.recode(vocabulary, codes);
        }
        group.columns.push(column);
    }
    group
}

/// Where the values of a column go: (row of the group, position of the value), by row.
fn moved(column: &StageColumn, places: &[u32], rows: usize) -> Vec<(u32, u32)> {
    let moves = column
        .rows
        .iter()
        .enumerate()
        .map(|(at, &row)| (places[row as usize], at as u32))
        .filter(|&(place, _)| place != NOWHERE);
    if column.rows.len() < rows / 8 {
        let mut moves: Vec<(u32, u32)> = moves.collect();
        moves.sort_unstable();
        return moves;
    }
    let mut at_row = vec![NOWHERE; rows];
    moves.for_each(|(place, at)| at_row[place as usize] = at);
    (0..).zip(at_row).filter(|&(_, at)| at != NOWHERE).collect()
}

fn pick<T: Copy>(moved: &[(u32, u32)], values: &[T]) -> Vec<T> {
    moved.iter().map(|&(_, at)| values[at as usize]).collect()
}
