//! Bit columns: a bit per event, which is bit `e & 63` of word `e >> 6`. Bits past the end of a column are 0.
//!
//! Whatever is asked of a range of events touches each of its words once.

use std::ops::Range;

/// The part of word `at` that lies in a range, which must reach into the word.
#[inline(always)]
fn part(at: usize, range: &Range<usize>) -> u64 {
    let first = at << 6;
    let above = u64::MAX << range.start.saturating_sub(first);
    let below = u64::MAX >> 64usize.saturating_sub(range.end - first);
    above & below
}

/// Bits of word `at` of a column that lie in a range; the range must reach into the word.
#[inline(always)]
fn word(column: &[u64], at: usize, range: &Range<usize>) -> u64 {
    column.get(at).map_or(0, |word| word & part(at, range))
}

/// Numbers of the words that a range reaches into.
#[inline(always)]
fn touched(range: &Range<usize>) -> Range<usize> {
    range.start >> 6..range.end.div_ceil(64)
}

/// The bits of `count` events from one on, at most 64, the first of them lowest.
#[inline(always)]
pub(crate) fn cut(column: &[u64], start: usize, count: usize) -> u64 {
    let word = |at: usize| column.get(at).copied().unwrap_or(0);
    let place = start & 63;
    let from = word(start >> 6) >> place | word((start >> 6) + 1) << 1 << (63 - place);
    let mask = if count == 0 { 0 } else { u64::MAX >> (64 - count) };
    from & mask
}

/// Sets a bit; nothing happens past the end of the column.
#[inline(always)]
pub(crate) fn set(column: &mut [u64], at: usize) {
    if let Some(word) = column.get_mut(at >> 6) {
        *word |= 1 << (at & 63);
    }
}

/// Sets a bit to one or zero; nothing happens past the end of the column.
#[inline(always)]
pub(crate) fn put(column: &mut [u64], at: usize, one: bool) {
    if let Some(word) = column.get_mut(at >> 6) {
        *word = *word & !(1 << (at & 63)) | u64::from(one) << (at & 63);
    }
}

/// How many bits of a range are set.
#[inline(always)]
pub(crate) fn count(column: &[u64], range: Range<usize>) -> u32 {
    touched(&range).map(|at| word(column, at, &range).count_ones()).sum()
}

/// The first bit of a range that is set.
#[inline(always)]
pub(crate) fn first(column: &[u64], range: Range<usize>) -> Option<usize> {
    ones(column, range).next()
}

/// The last bit of a range that is set.
#[inline(always)]
pub(crate) fn last(column: &[u64], range: Range<usize>) -> Option<usize> {
    let mut words = touched(&range).rev().map(|at| (at, word(column, at, &range)));
    let (at, word) = words.find(|(_, word)| *word != 0)?;
    Some(at << 6 | word.ilog2() as usize)
}

/// The last bit of a range that is set, and how many are.
#[inline(always)]
pub(crate) fn last_and_count(column: &[u64], range: Range<usize>) -> (Option<usize>, u32) {
    let (mut last, mut count) = (None, 0);
    for at in touched(&range) {
        let word = word(column, at, &range);
        count += word.count_ones();
        last = word.checked_ilog2().map(|place| at << 6 | place as usize).or(last);
    }
    (last, count)
}

/// The `n`-th bit, from 1, of those of a range that are set; 0 means the first.
#[inline(always)]
pub(crate) fn nth(column: &[u64], range: Range<usize>, n: u32) -> Option<usize> {
    let mut before = n.saturating_sub(1);
    for at in touched(&range) {
        let mut word = word(column, at, &range);
        let ones = word.count_ones();
        if before < ones {
            (0..before).for_each(|_| word &= word - 1);
            return Some(at << 6 | word.trailing_zeros() as usize);
        }
        before -= ones;
    }
    None
}

/// The bits of a range that are set, ascending.
#[inline(always)]
pub(crate) fn ones(column: &[u64], range: Range<usize>) -> Ones<'_> {
    let words = touched(&range);
    let at = words.start;
    let left = if words.is_empty() { 0 } else { word(column, at, &range) };
    Ones { column, at, left, range }
}

/// As [`ones`] tells.
#[derive(Debug, Clone)]
pub(crate) struct Ones<'a> {
    column: &'a [u64],
    /// Number of the word that is looked at.
    at: usize,
    /// Its bits that are still to be told.
    left: u64,
    range: Range<usize>,
}

impl Iterator for Ones<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            self.at += 1;
            if self.at << 6 >= self.range.end {
                // A range that is told to its end stays there.
                self.at = self.range.end >> 6;
                return None;
            }
            self.left = word(self.column, self.at, &self.range);
        }
        let one = self.at << 6 | self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(one)
    }
}

/// Tells how many bits of a range are set up to a place. Asking in ascending order costs a constant time each, and once
/// per word that lies between; asking for an earlier place starts anew.
#[derive(Debug, Clone)]
pub(crate) struct Rank<'a> {
    column: &'a [u64],
    start: usize,
    /// The first bit that has not been counted: the start, or the first of a word.
    at: usize,
    /// Bits that are set from the start to there.
    before: u32,
}

impl<'a> Rank<'a> {
    /// Counts from `start` on.
    pub(crate) fn new(column: &'a [u64], start: usize) -> Self {
        Self { column, start, at: start, before: 0 }
    }

    /// How many bits are set from the start up to and with a place; 0 for a place before the start.
    #[inline]
    pub(crate) fn upto(&mut self, place: usize) -> u32 {
        if place < self.at {
            (self.at, self.before) = (self.start, 0);
        }
        while self.at >> 6 < place >> 6 {
            let next = (self.at | 63) + 1;
            self.before += count(self.column, self.at..next);
            self.at = next;
        }
        self.before + count(self.column, self.at..place + 1)
    }
}

/// Changes all bits of a range to ones, or to zeros.
pub(crate) fn fill(column: &mut [u64], range: Range<usize>, ones: bool) {
    for at in touched(&range) {
        let part = part(at, &range);
        if let Some(word) = column.get_mut(at) {
            *word = if ones { *word | part } else { *word & !part };
        }
    }
}

/// The bits that are set in both columns, as long as the first.
pub(crate) fn both(left: &[u64], right: &[u64]) -> Vec<u64> {
    let right = right.iter().chain(std::iter::repeat(&0));
    left.iter().zip(right).map(|(left, right)| left & right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every range of three words, one of which is missing, against looking at each bit.
    #[test]
    fn ranges_agree_with_single_bits() {
        let column = [0x8000_0000_0000_0001, 0xF0F0_0000_0000_1111];
        let is_set = |at: &usize| column.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        for start in 0..=192 {
            for end in start..=192 {
                let expected: Vec<usize> = (start..end).filter(is_set).collect();
                assert_eq!(ones(&column, start..end).collect::<Vec<_>>(), expected);
                assert_eq!(count(&column, start..end) as usize, expected.len());
                assert_eq!(first(&column, start..end), expected.first().copied());
                assert_eq!(last(&column, start..end), expected.last().copied());
                if end - start <= 64 {
                    let cut = expected.iter().fold(0, |bits, at| bits | 1 << (at - start));
                    assert_eq!(super::cut(&column, start, end - start), cut);
                }
                let both = (expected.last().copied(), expected.len() as u32);
                assert_eq!(last_and_count(&column, start..end), both);
                for n in 0..=expected.len() {
                    let found = nth(&column, start..end, n as u32 + 1);
                    assert_eq!(found, expected.get(n).copied());
                }
            }
        }
    }

    #[test]
    fn ranks_count_from_their_start() {
        let mut column = vec![0; 3];
        fill(&mut column, 60..140, true);
        fill(&mut column, 65..130, false);
        let ones: Vec<usize> = ones(&column, 0..192).collect();
        assert_eq!(ones, [60, 61, 62, 63, 64].into_iter().chain(130..140).collect::<Vec<_>>());
        for start in 0..192 {
            let mut rank = Rank::new(&column, start);
            for place in (0..192).step_by(7).chain((0..192).rev()) {
                let expected = ones.iter().filter(|one| (start..=place).contains(*one)).count();
                assert_eq!(rank.upto(place) as usize, expected, "{start}..={place}");
            }
        }
    }

    #[test]
    fn what_is_told_to_the_end_stays_there() {
        let mut bits = ones(&[1, 1], 0..128);
        assert_eq!((bits.next(), bits.next(), bits.next(), bits.next()), (Some(0), Some(64), None, None));
    }

    #[test]
    fn a_short_column_goes_on_with_zeros() {
        let mut column = vec![0; 2];
        set(&mut column, 65);
        set(&mut column, 128);
        assert_eq!(column, [0, 2]);
        put(&mut column, 65, false);
        put(&mut column, 64, true);
        put(&mut column, 128, true);
        assert_eq!(column, [0, 1]);
        assert_eq!(both(&[3, 6], &[2]), [2, 0]);
    }
}
