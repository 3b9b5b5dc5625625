//! Conversions over time: how many, by how many visitors, in how many sessions, worth what.

use std::collections::BTreeMap;

use crate::edges::Edges;
use crate::grid::{self, Grid};
use crate::sessions::{Marked, Sessions};
use crate::slice::Values;

/// What conversions are worth, in one currency each.
#[derive(Debug, Clone, Copy)]
pub struct Amounts<'a> {
    /// Amounts by their code, in millionths of the currency's unit.
    pub micros: &'a [i64],
    /// Code of each event's amount. 0 means that it has none, and so does a code past the end of `micros`.
    pub codes: Values<'a>,
    /// Code of each event's currency; 0, which means that it is missing, is a currency of its own.
    pub currencies: Values<'a>,
}

impl Amounts<'_> {
    /// Currency and amount of an event that has one.
    #[inline]
    fn of(&self, event: usize) -> Option<(u32, i64)> {
        let code = self.codes.get(event).filter(|code| *code != 0)?;
        let micros = self.micros.get(code as usize)?;
        Some((grid::code(Some(self.currencies), event), *micros))
    }
}

/// The marks of one code in one bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// Marked events.
    pub events: u64,
    /// Distinct visitors with a mark in this cell.
    pub visitors: u64,
    /// Distinct sessions with a mark in this cell. Marks that belong to no session add none.
    pub sessions: u64,
    /// Sum of the amounts per code of the currency, in millionths of its unit.
    pub sums: BTreeMap<u32, i128>,
}

/// Marks by code and bucket.
///
/// Visitors and sessions are distinct within a cell, so those of several cells cannot be added up: a wider bucket, or a
/// code for several, is to be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrendCounts {
    /// Cells with a mark, by code of the split (0 if missing or if there is no split) and number of the bucket.
    pub cells: BTreeMap<(u32, u32), Cell>,
}

impl TrendCounts {
    /// Adds the cells of other visitors. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        for (place, cell) in &other.cells {
            let mine = self.cells.entry(*place).or_default();
            mine.events += cell.events;
            mine.visitors += cell.visitors;
            mine.sessions += cell.sessions;
            for (currency, micros) in &cell.sums {
                *mine.sums.entry(*currency).or_default() += micros;
            }
        }
    }
}

/// A cell while it is counted. Marks come in ascending order, so whoever made the last is the only one to remember.
#[derive(Debug, Default)]
struct Counting {
    cell: Cell,
    /// Number of the last visitor with a mark; 0 before the first.
    visitor: u32,
    /// One more than the number of the last session with a mark; 0 before the first.
    session: u32,
}

/// Counts marks (a bit per event) by the code of the marked event in `split` and by the bucket that its instant is
/// in. `edges` are ascending instants in milliseconds; bucket `b` holds `edges[b] <= t < edges[b + 1]`. Marks
/// outside all buckets are ignored.
pub fn trend(
    sessions: &Sessions<'_>,
    marks: &[u64],
    edges: &[i64],
    split: Option<Values<'_>>,
    amounts: Option<Amounts<'_>>,
) -> TrendCounts {
    let (slice, edges) = (sessions.slice(), Edges(edges));
    let mut numbers = sessions.numbers();
    let mut grid = Grid::<Counting>::new(edges.buckets());
    for (event, visitor) in Marked::new(sessions, marks) {
        let Some(bucket) = edges.bucket(slice.time(event)) else {
            continue;
        };
        let Counting { cell, visitor: last_visitor, session } = grid.at(grid::code(split, event), bucket);
        cell.events += 1;
        cell.visitors += u64::from(std::mem::replace(last_visitor, visitor) != visitor);
        if let Some(number) = numbers.of(event) {
            cell.sessions += u64::from(std::mem::replace(session, number + 1) != number + 1);
        }
        if let Some((currency, micros)) = amounts.and_then(|amounts| amounts.of(event)) {
            *cell.sums.entry(currency).or_default() += i128::from(micros);
        }
    }
    let cells = grid.cells().map(|(code, bucket, counting)| ((code, bucket), counting.cell));
    TrendCounts { cells: cells.collect() }
}
