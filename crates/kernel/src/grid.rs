//! Cells by code and column, found by an array where codes are small and by a map where they are not.

use std::collections::HashMap;

use crate::slice::Values;

/// Cells below this number are found by an array, others by a map.
const INDEXED: u64 = 1 << 22;

/// Code of an event; 0 where there is none.
#[inline]
pub(crate) fn code(values: Option<Values<'_>>, event: usize) -> u32 {
    values.and_then(|values| values.get(event)).unwrap_or(0)
}

/// A cell of `T` for each code (a `u32`) and column that was asked for. It takes four bytes more for each cell of the codes
/// and columns up to the highest one, as long as they are few.
#[derive(Debug)]
pub(crate) struct Grid<T> {
    width: u64,
    /// Per cell, in the order of code and column, one more than its place in `cells`; 0 if it was not asked for.
    index: Vec<u32>,
    /// Likewise of the cells that are not indexed.
    others: HashMap<u64, u32>,
    /// Cells with their numbers in the order of code and column, as they were first asked for.
    cells: Vec<(u64, T)>,
}

impl<T: Default> Grid<T> {
    /// A grid of so many columns, at least one.
    pub(crate) fn new(width: usize) -> Self {
        Self { width: width.max(1) as u64, index: Vec::new(), others: HashMap::new(), cells: Vec::new() }
    }

    /// The cell of a code and a column below the width.
    #[inline]
    pub(crate) fn at(&mut self, code: u32, column: usize) -> &mut T {
        let number = u64::from(code) * self.width + column as u64;
        let place = if number < INDEXED {
            if number as usize >= self.index.len() {
                self.index.resize(number as usize + 1, 0);
            }
            &mut self.index[number as usize]
        } else {
            self.others.entry(number).or_default()
        };
        if *place == 0 {
            self.cells.push((number, T::default()));
            *place = self.cells.len() as u32;
        }
        &mut self.cells[*place as usize - 1].1
    }

    /// Every cell with its code and column, in the order in which they were first asked for.
    pub(crate) fn cells(self) -> impl Iterator<Item = (u32, u32, T)> {
        let width = self.width;
        let place = move |(number, cell)| ((number / width) as u32, (number % width) as u32, cell);
        self.cells.into_iter().map(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_codes_keep_their_cells() {
        let mut grid = Grid::<u64>::new(3);
        let places = [(0, 0), (0, 2), (7, 1), (u32::MAX, 2), (1_398_101, 0), (1_398_101, 1), (1_398_102, 0)];
        for (count, (code, column)) in (1..).zip(places) {
            *grid.at(code, column) += count;
            *grid.at(code, column) += count;
        }
        let cells: Vec<_> = grid.cells().collect();
        let expected = (1..).zip(places).map(|(count, (code, column))| (code, column as u32, 2 * count));
        assert_eq!(cells, expected.collect::<Vec<_>>());
    }
}
