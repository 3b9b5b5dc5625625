//! Visitors side by side: where the steps of each lie, as one word of bits per step.
//!
//! Most visitors have at most 64 events. Their bytes are compared with those of the steps, and then the chain is found by
//! arithmetic on words: no branch depends on the data, which on today's processors counts for more than the number of
//! instructions, and the words of several visitors fit one wide register. Visitors are then counted level by level,
//! so that what depends on the level is foreseeable, too.

use super::compare::{Compare, WIDTH};
use super::scan::{Bounds, Chain, Instant, Scan};

/// Visitors side by side.
pub(super) const LANES: usize = 64;
/// Most events of a visitor whose places fit a word.
pub(super) const MOST_EVENTS: usize = WIDTH;

/// One value per visitor.
type Lane<A> = [A; LANES];

/// Up to [`LANES`] visitors. `STEPS` is the number of steps or more; the steps beyond it never occur.
pub(super) struct Lanes<const STEPS: usize> {
    filled: usize,
    /// First event of each visitor in the slice, and the number of visible events.
    visitors: Lane<(usize, usize)>,
    /// Per step the places of its events, as bits.
    words: [Lane<u64>; STEPS],
    /// The places of events in the range of entries.
    range: Lane<u64>,
    /// The places of events that share their millisecond with the one before.
    ties: Lane<u64>,
    /// Lanes with three or more events in one millisecond, which [`reorder`] has brought into order.
    crowded: u64,
    /// The places of the later ones of two events that changed places.
    swapped: Lane<u64>,
    /// The furthest level that order allows, …
    levels: Lane<u8>,
    /// … the place of its earliest completion, …
    completions: Lane<u8>,
    /// … that of the latest entry of a chain so far and to there, …
    chosen: Lane<u8>,
    /// … and those of the first and the newest entry.
    first: Lane<u8>,
    newest: Lane<u8>,
}

impl<const STEPS: usize> Lanes<STEPS> {
    pub(super) fn new() -> Self {
        Self {
            filled: 0,
            visitors: [(0, 0); LANES],
            words: [[0; LANES]; STEPS],
            range: [0; LANES],
            ties: [0; LANES],
            crowded: 0,
            swapped: [0; LANES],
            levels: [0; LANES],
            completions: [0; LANES],
            chosen: [0; LANES],
            first: [0; LANES],
            newest: [0; LANES],
        }
    }

    /// Adds a visitor of at most [`MOST_EVENTS`] events, at least one of them, whose first event is `base` in the slice.
    /// `codes` hold per step the byte that stands for it, any for a step that does not exist;
    /// `column` is the visitor's part of the byte column and may go on after its end; `ties` are the places of events that
    /// share their millisecond with the one before. Answers whether all lanes are filled.
    #[inline(always)]
    pub(super) fn add<T: Instant>(
        &mut self,
        compare: impl Compare,
        codes: &[u8; STEPS],
        column: &[u8],
        scan: Scan<'_, T>,
        bounds: &Bounds,
        (base, ties): (usize, u64),
    ) -> bool {
        let count = scan.times.len();
        let lane = self.filled % LANES;
        let mut words = compare.places(column, count, codes);
        words.iter_mut().skip(bounds.order.steps).for_each(|word| *word = 0);
        // The first event has none before.
        let ties = ties & !1;
        if ties & ties << 1 != 0 {
            reorder(&mut words, ties, bounds.order.strict);
            self.crowded |= 1 << lane;
        }
        (self.ties[lane], self.swapped[lane]) = (ties, 0);
        for (lanes, word) in self.words.iter_mut().zip(words) {
            lanes[lane] = word;
        }
        let mut range = u64::MAX;
        if !scan.inside(bounds) {
            let place = |instant: i64| scan.times.partition_point(|time| time.ms() < instant) as u32;
            let below = |place: u32| 1u64.checked_shl(place).map_or(u64::MAX, |bit| bit - 1);
            range = below(place(bounds.until)) & !below(place(bounds.from));
        }
        self.range[lane] = range;
        self.visitors[lane] = (base, count);
        self.filled += 1;
        self.filled == LANES
    }

    /// Empties the lanes.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        (self.filled, self.crowded) = (0, 0);
    }

    /// Finds the furthest chain of every visitor. Answers which lanes are filled, as bits.
    #[inline(always)]
    pub(super) fn solve(&mut self, strict: bool) -> u64 {
        if self.ties.iter().fold(0, |all, ties| all | ties) != 0 {
            self.order_pairs(strict);
        }
        self.furthest();
        let filled = self.filled.min(LANES);
        1u64.checked_shl(filled as u32).map_or(u64::MAX, |bit| bit - 1)
    }

    /// Lanes whose visitors reach this level and no further, as bits.
    #[inline(always)]
    pub(super) fn of_level(&self, compare: impl Compare, level: usize) -> u64 {
        let [lanes] = compare.places(&self.levels, LANES, &[level as u8]);
        lanes
    }

    /// Lanes whose furthest chain fits the window. If it does not, others have to be looked at.
    #[inline(always)]
    pub(super) fn fitting<T: Instant>(&self, times: &[T], window: i64) -> u64 {
        let time = |lane: usize, places: &Lane<u8>| self.time(times, lane, places);
        let fits = |lane| time(lane, &self.completions) - time(lane, &self.chosen) <= window;
        (0..self.filled.min(LANES)).fold(0, |lanes, lane| lanes | u64::from(fits(lane)) << lane)
    }

    /// Lanes whose newest entry is at an instant or later.
    #[inline(always)]
    pub(super) fn newest_since<T: Instant>(&self, times: &[T], instant: i64) -> u64 {
        let since = |lane| self.time(times, lane, &self.newest) >= instant;
        (0..self.filled.min(LANES)).fold(0, |lanes, lane| lanes | u64::from(since(lane)) << lane)
    }

    /// Lanes whose first entry is at an instant or later.
    #[inline(always)]
    pub(super) fn first_since<T: Instant>(&self, times: &[T], instant: i64) -> u64 {
        let since = |lane| self.time(times, lane, &self.first) >= instant;
        (0..self.filled.min(LANES)).fold(0, |lanes, lane| lanes | u64::from(since(lane)) << lane)
    }

    /// The instant of a place of a lane's visitor.
    #[inline(always)]
    fn time<T: Instant>(&self, times: &[T], lane: usize, places: &Lane<u8>) -> i64 {
        times.get(self.visitors[lane].0 + usize::from(places[lane])).map_or(0, |time| time.ms())
    }

    /// The visitor of a lane; `all` are the events of the slice.
    #[inline(always)]
    pub(super) fn visitor<'a, T>(&'a self, lane: usize, all: Scan<'a, T>) -> Visitor<'a, T, STEPS> {
        let lane = lane % LANES;
        let (base, count) = self.visitors[lane];
        let range = base..base + count;
        let scan = Scan { table: all.table, column: &all.column[range.clone()], times: &all.times[range] };
        Visitor { lanes: self, lane, scan, base }
    }

    /// Brings two events of one instant into the order of [`super::ties`].
    #[inline(always)]
    fn order_pairs(&mut self, strict: bool) {
        for lane in 0..LANES {
            let crowded = 0u64.wrapping_sub(self.crowded >> lane & 1);
            // Of the later event of each pair: whether the one before serves a later step, or an earlier one.
            let (mut after_later, mut after_earlier, mut served) = (0, 0, 0);
            for words in self.words.iter().rev() {
                after_later |= words[lane] & served << 1;
                after_earlier |= words[lane] << 1 & served;
                served |= words[lane];
            }
            after_later |= !served & served << 1;
            after_earlier |= !served << 1 & served;
            let wrong = if strict { after_earlier } else { after_later };
            let wrong = wrong & self.ties[lane] & !crowded;
            self.swapped[lane] = wrong;
            for words in &mut self.words {
                let differ = (words[lane] >> 1 ^ words[lane]) & wrong >> 1;
                words[lane] ^= differ | differ << 1;
            }
        }
    }

    /// The furthest chain of every lane.
    ///
    /// The earliest event of each step after the one before gives the furthest level that order allows, and its earliest
    /// completion; from there back, the latest event of each step gives the latest entry. If that chain fits
    /// the window, no other one is better.
    #[inline(always)]
    fn furthest(&mut self) {
        for lane in 0..LANES {
            let entries = self.words[0][lane] & self.range[lane];
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
            self.levels[lane] = level as u8;
            self.completions[lane] = place_of(completion);
            self.chosen[lane] = place_of(entry);
            self.first[lane] = place_of(lowest(entries));
            self.newest[lane] = place_of(highest(entries));
        }
    }
}

/// A visitor of some lanes.
pub(super) struct Visitor<'a, T, const STEPS: usize> {
    lanes: &'a Lanes<STEPS>,
    lane: usize,
    pub(super) scan: Scan<'a, T>,
    /// Its first event in the slice.
    pub(super) base: usize,
}

impl<T: Instant, const STEPS: usize> Visitor<'_, T, STEPS> {
    /// The instant of the first entry.
    #[inline(always)]
    pub(super) fn first_entry(&self) -> i64 {
        self.scan.time(usize::from(self.lanes.first[self.lane]))
    }

    /// The furthest chain that fits the window, for a visitor whose furthest one by order does not: the highest level, its
    /// earliest completion, and the latest entry that leads there.
    pub(super) fn furthest_within(&self, window: i64) -> Chain {
        let word = |step: usize| self.lanes.words[step][self.lane];
        let entries = word(0) & self.lanes.range[self.lane];
        let first = lowest(entries);
        for level in (2..=usize::from(self.lanes.levels[self.lane]).min(STEPS)).rev() {
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
                let (entry_place, place) = (usize::from(place_of(entry)), usize::from(place_of(completion)));
                if entry != 0 && self.scan.time(place) - self.scan.time(entry_place) <= window {
                    return Chain {
                        level,
                        entry: entry_place,
                        completion: place,
                        first: first.trailing_zeros() as usize,
                    };
                }
            }
        }
        let first = usize::from(place_of(first));
        Chain { level: 1, entry: first, completion: first, first }
    }

    /// Whether three or more of its events share a millisecond.
    #[inline(always)]
    pub(super) fn crowded(&self) -> bool {
        self.lanes.crowded >> self.lane & 1 != 0
    }

    /// The chain, of this level.
    #[inline(always)]
    pub(super) fn chain(&self, level: usize) -> Chain {
        let place = |places: &Lane<u8>| usize::from(places[self.lane]);
        Chain {
            level,
            entry: place(&self.lanes.chosen),
            completion: place(&self.lanes.completions),
            first: place(&self.lanes.first),
        }
    }
}

/// Where the events of one visitor lie.
pub(super) trait Follow {
    /// Places of the steps of the earliest chain from place `entry`, as many of `levels` as there are. Answers how many.
    fn follow(&self, entry: usize, levels: usize, places: &mut [u32; 32]) -> usize;

    /// The first of the entries at the instant of `entry`, up to it.
    fn first_of_instant(&self, entry: usize) -> usize;

    /// The place in the slice of the event at a place, counted from the visitor's first.
    fn unswapped(&self, place: u32) -> u32;
}

impl<T, const STEPS: usize> Follow for Visitor<'_, T, STEPS> {
    #[inline(always)]
    fn follow(&self, entry: usize, levels: usize, places: &mut [u32; 32]) -> usize {
        let mut step = 1u64 << (entry % MOST_EVENTS);
        places[0] = entry as u32;
        for (level, (words, slot)) in self.lanes.words.iter().zip(places).enumerate().take(levels).skip(1) {
            step = lowest(words[self.lane] & above(step));
            if step == 0 {
                return level;
            }
            *slot = u32::from(place_of(step));
        }
        levels
    }

    #[inline(always)]
    fn first_of_instant(&self, entry: usize) -> usize {
        let before = (self.lanes.ties[self.lane] << (MOST_EVENTS - 1 - entry)).leading_ones();
        let instant = u64::MAX << (entry - before as usize);
        usize::from(place_of(lowest(self.lanes.words[0][self.lane] & instant)))
    }

    #[inline(always)]
    fn unswapped(&self, place: u32) -> u32 {
        // Place 63 has none behind it.
        let swapped = u128::from(self.lanes.swapped[self.lane]);
        let (later, earlier) = (swapped >> place & 1, swapped >> (place + 1) & 1);
        place + earlier as u32 - later as u32
    }
}

/// Brings the events of each instant into the order of [`super::ties`], by the bits of the steps alone.
fn reorder<const STEPS: usize>(words: &mut [u64; STEPS], ties: u64, strict: bool) {
    let served = words.iter().fold(0, |all, word| all | word);
    for instant in instants(ties) {
        let others = (instant & !served).count_ones();
        let mut next = instant.trailing_zeros() + if strict { 0 } else { others };
        let mut put = |word: &mut u64| {
            let count = (*word & instant).count_ones();
            *word = *word & !instant | ((1u64 << count) - 1).wrapping_shl(next);
            next += count;
        };
        if strict {
            words.iter_mut().rev().for_each(&mut put);
        } else {
            words.iter_mut().for_each(&mut put);
        }
    }
}

/// The places of the events of each instant that has several.
#[inline(always)]
fn instants(ties: u64) -> impl Iterator<Item = u64> {
    let mut rest = ties & !1;
    std::iter::from_fn(
        #[inline(always)]
        move || {
            (rest != 0).then(|| {
                let first = lowest(rest);
                let run = rest & !rest.wrapping_add(first);
                rest &= !run;
                run | first >> 1
            })
        },
    )
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
fn place_of(bit: u64) -> u8 {
    (63 - (bit | 1).leading_zeros()) as u8
}

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
