//! Visitors side by side: where the steps of each lie, as one word of bits per step.
//!
//! Most visitors have few events. Their parts of the bit columns are cut out, and then the chain is found by arithmetic on
//! words: no branch depends on the data, which on today's processors counts for more than the number of instructions, and
//! the words of several visitors fit one wide register. Visitors are then counted level by level, so that what depends
//! on the level is foreseeable, too.

use std::ops::Range;

use super::marks::{MOST_EVENTS, Marks};
use super::places;
use super::scan::{Bounds, Found, Instant};
use crate::simd::{Simd, WIDTH};

/// Visitors side by side.
pub(super) const LANES: usize = WIDTH;

/// One value per visitor.
pub(super) type Lane<A> = [A; LANES];

/// Up to [`LANES`] visitors. `STEPS` is the number of steps or more; the steps beyond it never occur. Places are those of
/// the slice.
pub(super) struct Lanes<const STEPS: usize> {
    /// The lanes with a visitor, as bits.
    filled: u64,
    /// First event of each visitor, …
    starts: Lane<u32>,
    /// … and their number.
    counts: Lane<u32>,
    /// Per step the places of its events, as bits, counted from the first event.
    words: [Lane<u64>; STEPS],
    /// Those of the first step that lie in the range of entries.
    entries: Lane<u64>,
    /// The furthest level that order allows, 0 without an entry, …
    levels: Lane<u8>,
    /// … the place of its earliest completion, …
    pub(super) completions: Lane<u32>,
    /// … that of the latest entry of a chain so far and to there, …
    pub(super) chosen: Lane<u32>,
    /// … and those of the first and the newest entry.
    pub(super) first: Lane<u32>,
    pub(super) newest: Lane<u32>,
    /// The places of the steps of the earliest chain from the chosen entry. Wanted only of steps that the chain has.
    steps: [Lane<u32>; STEPS],
}

impl<const STEPS: usize> Lanes<STEPS> {
    pub(super) fn new() -> Self {
        Self {
            filled: 0,
            starts: [0; LANES],
            counts: [1; LANES],
            words: [[0; LANES]; STEPS],
            entries: [0; LANES],
            levels: [0; LANES],
            completions: [0; LANES],
            chosen: [0; LANES],
            first: [0; LANES],
            newest: [0; LANES],
            steps: [[0; LANES]; STEPS],
        }
    }

    /// Adds a visitor by its events, of which there are one to [`MOST_EVENTS`]. Answers whether all lanes are filled.
    #[inline(always)]
    pub(super) fn add(&mut self, start: u32, count: u32) -> bool {
        let lane = self.filled.trailing_ones() as usize % LANES;
        (self.starts[lane], self.counts[lane]) = (start, count);
        self.filled |= 1 << lane;
        self.filled == u64::MAX
    }

    /// Puts those of 64 visitors with one to [`MOST_EVENTS`] events into the lanes, which must be empty. Answers those that
    /// it left, as bits.
    #[inline(always)]
    pub(super) fn add_all(&mut self, simd: impl Simd, wanted: u64, offsets: &[u32; LANES + 1]) -> u64 {
        let mut fits = [0; LANES];
        for lane in 0..LANES {
            let count = offsets[lane + 1] - offsets[lane];
            let fit = count.wrapping_sub(1) < MOST_EVENTS as u32;
            fits[lane] = u8::from(fit);
            self.starts[lane] = offsets[lane];
            self.counts[lane] = if fit { count } else { 1 };
        }
        self.filled = wanted & simd.equal(&fits, 1);
        wanted & !self.filled
    }

    /// Whether there is no visitor.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Empties the lanes.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Finds the furthest chain of every visitor. Answers which lanes are filled, as bits.
    #[inline(always)]
    pub(super) fn solve<T: Instant>(
        &mut self,
        simd: impl Simd,
        marks: &Marks<'_>,
        times: &[T],
        bounds: &Bounds,
    ) -> u64 {
        let bytes = self.starts.map(|start| start >> 3);
        for (step, words) in self.words.iter_mut().enumerate() {
            *words = simd.words(marks.column(step), &bytes);
            for (word, (start, count)) in words.iter_mut().zip(self.starts.iter().zip(&self.counts)) {
                let below = u64::MAX >> ((64 - count) & 63);
                *word = *word >> (start & 7) & below;
            }
        }
        self.entries = self.words[0];
        if !bounds.all_inside {
            for lane in places(self.filled) {
                self.entries[lane] &= bounds.inside(&times[self.events(lane)]);
            }
        }
        self.furthest();
        self.filled
    }

    /// Lanes whose visitors reach this level and no further, as bits.
    #[inline(always)]
    pub(super) fn of_level(&self, simd: impl Simd, level: usize) -> u64 {
        simd.equal(&self.levels, level as u8)
    }

    /// The events of a lane's visitor.
    #[inline(always)]
    pub(super) fn events(&self, lane: usize) -> Range<usize> {
        let start = self.starts[lane] as usize;
        start..start + self.counts[lane] as usize
    }

    /// What is found of a lane's visitor: its chain has this level.
    #[inline(always)]
    pub(super) fn found(&self, lane: usize, level: usize) -> Found {
        Found {
            level,
            entry: self.chosen[lane],
            completion: self.completions[lane],
            first: self.first[lane],
            // The earliest completion of all is that of the chain from the first entry.
            first_completion: Some(self.completions[lane]),
        }
    }

    /// The place of a step of a lane's chain, after [`Self::follow`].
    #[inline(always)]
    pub(super) fn step(&self, lane: usize, step: usize) -> u32 {
        self.steps[step % STEPS][lane]
    }

    /// The furthest chain of every lane.
    ///
    /// The earliest event of each step after the one before gives the furthest level that order allows, and its earliest
    /// completion; from there back, the latest event of each step gives the latest entry. If that chain fits
    /// the window, no other one is better.
    #[inline(always)]
    fn furthest(&mut self) {
        for lane in 0..LANES {
            let entries = self.entries[lane];
            let mut step = lowest(entries);
            let mut level = u64::from(step != 0);
            let mut completion = step;
            for at in 1..STEPS {
                step = lowest(self.words[at][lane] & above(step));
                level += u64::from(step != 0);
                completion = if step != 0 { step } else { completion };
            }
            let mut entry = completion;
            for at in (0..STEPS - 1).rev() {
                let word = if at == 0 { entries } else { self.words[at][lane] };
                let step = highest(word & entry.wrapping_sub(1));
                entry = if at as u64 + 1 < level { step } else { entry };
            }
            let start = self.starts[lane];
            self.levels[lane] = level as u8;
            self.completions[lane] = start + place_of(completion);
            self.chosen[lane] = start + place_of(entry);
            self.first[lane] = start + place_of(lowest(entries));
            self.newest[lane] = start + place_of(highest(entries));
        }
    }

    /// Finds the places of the steps of every lane's chain.
    #[inline(always)]
    pub(super) fn follow(&mut self) {
        self.steps[0] = self.chosen;
        for lane in 0..LANES {
            let start = self.starts[lane];
            let mut step = 1u64 << ((self.chosen[lane] - start) & 63);
            for at in 1..STEPS {
                step = lowest(self.words[at][lane] & above(step));
                self.steps[at][lane] = start + place_of(step);
            }
        }
    }

    /// The furthest chain that fits the window, of a lane whose furthest one by order does not: the highest level, its
    /// earliest completion, and the latest entry that leads there. Puts the places of its steps into `places`.
    pub(super) fn furthest_within<T: Instant>(
        &self,
        lane: usize,
        times: &[T],
        window: i64,
        places: &mut [u32; 32],
    ) -> Found {
        let word = |step: usize| self.words[step][lane];
        let place = |bit: u64| self.starts[lane] + place_of(bit);
        let time = |bit: u64| times.get(place(bit) as usize).map_or(0, |time| time.ms());
        let entries = self.entries[lane];
        let first = lowest(entries);
        // Of each level the earliest completion, starting from the entries in `from`.
        let earliest = |from: u64, level: usize| {
            (1..level).try_fold(lowest(from), |step, at| match lowest(word(at) & above(step)) {
                0 => None,
                step => Some(step),
            })
        };
        for level in (2..=usize::from(self.levels[lane]).min(STEPS)).rev() {
            let mut completions = word(level - 1) & above(first);
            while completions != 0 {
                let completion = lowest(completions);
                completions ^= completion;
                // The latest event of each step before the next.
                let mut entry = completion;
                for step in (0..level - 1).rev() {
                    let before = if step == 0 { entries } else { word(step) } & entry.wrapping_sub(1);
                    if before == 0 {
                        entry = 0;
                        break;
                    }
                    entry = highest(before);
                }
                if entry != 0 && time(completion) - time(entry) <= window {
                    let mut step = entry;
                    for (at, slot) in (1..level).zip(&mut places[1..]) {
                        step = lowest(word(at) & above(step));
                        *slot = place(step);
                    }
                    return Found {
                        level,
                        entry: place(entry),
                        completion: place(completion),
                        first: place(first),
                        first_completion: earliest(first, level).map(place),
                    };
                }
            }
        }
        let first = place(first);
        Found { level: 1, entry: first, completion: first, first, first_completion: None }
    }
}

/// The lowest bit of a word alone.
#[inline(always)]
fn lowest(word: u64) -> u64 {
    word & word.wrapping_neg()
}

/// The highest bit of a word alone; that of an empty word is without meaning.
#[inline(always)]
fn highest(word: u64) -> u64 {
    1 << (63 - (word | 1).leading_zeros())
}

/// The bits above a single bit; none above an empty word.
#[inline(always)]
fn above(bit: u64) -> u64 {
    !(bit | bit.wrapping_sub(1))
}

/// The place of a single bit; 0 of an empty word.
#[inline(always)]
fn place_of(bit: u64) -> u32 {
    63 - (bit | 1).leading_zeros()
}

const _: () = assert!(MOST_EVENTS < 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_neighbours() {
        assert_eq!((lowest(0b1100), highest(0b1100)), (0b100, 0b1000));
        assert_eq!((above(0b100), above(1 << 63), above(0)), (!0b111, 0, 0));
        assert_eq!((place_of(1), place_of(1 << 63), place_of(0)), (0, 63, 0));
    }
}
