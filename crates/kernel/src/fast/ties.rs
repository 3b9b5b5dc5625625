//! Simultaneous events, brought into an order in which each step can be looked for on its own.
//!
//! Each event serves at most one step here. So where ties favour order, the events of an instant go from the first step to
//! the last, and a chain can take several of them; where order is strict, they go from the last step to the first,
//! and it can take only one (SEMANTICS.md §2). Mostly two events share an instant, and pairs change places by arithmetic on
//! the bit columns of the steps; of more events in an instant each is moved.

use std::ops::Range;

use super::marks::MOST_EVENTS;
use super::places;
use crate::slice::bit;

/// Words of the columns that are looked at together.
const BLOCK: usize = 32;
/// Bytes of them.
const BLOCK_BYTES: usize = BLOCK * 8;

/// How the order in which events are taken differs from that of the slice.
pub(super) struct Ties<'a> {
    /// A bit per event that shares its instant with the one before.
    ties: &'a [u64],
    /// Whether the question tells events of one instant apart, so that it must be known which went where.
    told: bool,
    /// A bit per event that shares its instant with the one before or behind, if they are told apart.
    near: Vec<u64>,
    /// A bit per event that changed places with the one before.
    swapped: Vec<u64>,
    /// Of instants with three events or more: the place and the event of each, ascending by place.
    moved: Vec<(u32, u32)>,
}

impl<'a> Ties<'a> {
    /// Orders the events of each instant in the columns of the steps, which go on for sixteen bytes or more after the last
    /// event. `strict` is whether order is, `told` whether the question tells events of one instant apart.
    #[inline(always)]
    pub(super) fn resolve(columns: &mut [Vec<u8>], ties: &'a [u64], strict: bool, told: bool) -> Self {
        let behind = ties.iter().skip(1).chain([&0]);
        let near = |(word, behind): (&u64, &u64)| word | word >> 1 | behind << 63;
        let mut resolved = Self {
            ties,
            told,
            near: if told { ties.iter().zip(behind).map(near).collect() } else { Vec::new() },
            swapped: vec![0; ties.len().next_multiple_of(BLOCK) + 1],
            moved: Vec::new(),
        };
        let mut crowds = Vec::new();
        for block in 0..ties.len().div_ceil(BLOCK) {
            let crowded = resolved.swap_pairs(columns, block, strict);
            for (word, crowded) in crowded.iter().enumerate() {
                crowds.extend(places(*crowded).map(|place| (block * BLOCK + word) * 64 + place));
            }
        }
        let mut end = 0;
        for second in crowds {
            if second >= end {
                end = resolved.order_crowd(columns, second.saturating_sub(1), strict);
            }
        }
        resolved
    }

    /// Swaps the pairs of a block that stand in the wrong order. Answers, as bits, the second events of instants that have
    /// three or more, and some others of theirs.
    #[inline(always)]
    fn swap_pairs(&mut self, columns: &mut [Vec<u8>], block: usize, strict: bool) -> [u64; BLOCK] {
        // Bit `i` of `tied` is set if event `i` shares its instant with the next; `before` and `behind` are those of its
        // neighbours.
        let ties = |word: usize| self.ties.get(word).copied().unwrap_or(0);
        let first = block * BLOCK;
        let all: [u64; BLOCK + 2] = std::array::from_fn(|at| ties(first + at));
        let (mut tied, mut crowded) = ([0; BLOCK], [0; BLOCK]);
        for at in 0..BLOCK {
            let next = all[at] >> 1 | all[at + 1] << 63;
            let behind = all[at] >> 2 | all[at + 1] << 62;
            tied[at] = next & !all[at] & !behind;
            // The second event of three is tied, and so is the one behind it.
            crowded[at] = all[at] & next;
        }
        let load = |step: usize| {
            let mut words = [0; BLOCK + 1];
            let bytes = columns[step].get(block * BLOCK_BYTES..).unwrap_or_default();
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            words
        };
        // Of each pair: the steps that are looked at so far and served by the earlier and by the later event.
        let (mut earlier, mut later, mut wrong) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
        let steps = columns.len();
        for step in (0..steps).rev() {
            let words = load(step);
            for at in 0..BLOCK {
                let behind = words[at] >> 1 | words[at + 1] << 63;
                wrong[at] |= if strict { words[at] & later[at] } else { behind & earlier[at] };
                earlier[at] |= words[at];
                later[at] |= behind;
            }
        }
        for at in 0..BLOCK {
            wrong[at] &= tied[at];
        }
        for column in columns {
            let mut words = [0; BLOCK + 1];
            let bytes = column.get_mut(block * BLOCK_BYTES..).unwrap_or_default();
            let (bytes, _) = bytes.as_chunks_mut::<8>();
            for (word, bytes) in words.iter_mut().zip(&*bytes) {
                *word = u64::from_le_bytes(*bytes);
            }
            let mut differ = [0; BLOCK + 1];
            for at in 0..BLOCK {
                differ[at + 1] = (words[at] ^ (words[at] >> 1 | words[at + 1] << 63)) & wrong[at];
            }
            for at in 0..BLOCK {
                words[at] ^= differ[at + 1] | differ[at + 1] << 1 | differ[at] >> 63;
            }
            words[BLOCK] ^= differ[BLOCK] >> 63;
            for (word, bytes) in words.iter().zip(bytes) {
                *bytes = word.to_le_bytes();
            }
        }
        if let Some(swapped) = self.swapped.get_mut(first..first + BLOCK + 1) {
            for at in 1..BLOCK {
                swapped[at] = wrong[at] << 1 | wrong[at - 1] >> 63;
            }
            // The block before has set the lowest bit of the first word.
            swapped[0] |= wrong[0] << 1;
            swapped[BLOCK] = wrong[BLOCK - 1] >> 63;
        }
        crowded
    }

    /// Orders the events of an instant, the first of which is given. Answers the first event behind it.
    fn order_crowd(&mut self, columns: &mut [Vec<u8>], first: usize, strict: bool) -> usize {
        let end = (first + 1..).find(|event| !bit(self.ties, *event)).unwrap_or(first);
        let count = end - first;
        if self.told || count > MOST_EVENTS {
            self.order_each(columns, first..end, strict);
            return end;
        }
        // The events that serve a step stand next to each other, behind those of the steps before.
        let (at, shift) = (first >> 3, (first & 7) as u32);
        let instant = (u64::MAX >> (64 - count)) << shift;
        let of_instant = |column: &Vec<u8>| {
            let bytes = column.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes) & instant)
        };
        let served: u32 = columns.iter().map(|column| of_instant(column).count_ones()).sum();
        let mut next = shift + if strict { 0 } else { (count as u32).saturating_sub(served) };
        let mut put = |column: &mut Vec<u8>| {
            let count = of_instant(column).count_ones();
            if let Some(bytes) = column.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
                && count > 0
            {
                let run = ((1u64 << count) - 1).checked_shl(next).unwrap_or(0);
                *bytes = (u64::from_le_bytes(*bytes) & !instant | run & instant).to_le_bytes();
                next += count;
            }
        };
        if strict {
            columns.iter_mut().rev().for_each(&mut put);
        } else {
            columns.iter_mut().for_each(&mut put);
        }
        end
    }

    /// Orders the events of an instant one by one, and remembers where each went.
    fn order_each(&mut self, columns: &mut [Vec<u8>], instant: Range<usize>, strict: bool) {
        let mask = |event: usize| 1u8 << (event & 7);
        let code = |event: usize| {
            let serves = |column: &Vec<u8>| column[event >> 3] & mask(event) != 0;
            columns.iter().position(serves).map_or(0, |step| step + 1)
        };
        let rank = |code: usize| if strict { usize::MAX - code } else { code };
        let mut order: Vec<(usize, usize)> = instant.clone().map(|event| (code(event), event)).collect();
        // Stable, so that of two events that serve one step the first in the slice stays the first.
        order.sort_by_key(|(code, _)| rank(*code));
        for (place, (code, event)) in instant.zip(order) {
            for (column, of_step) in columns.iter_mut().zip(1..) {
                column[place >> 3] &= !mask(place);
                column[place >> 3] |= if code == of_step { mask(place) } else { 0 };
            }
            self.moved.push((place as u32, event as u32));
        }
    }

    /// Whether an event of the same instant stands next to a place, for a question that tells them apart.
    #[inline(always)]
    pub(super) fn near(&self, place: u32) -> bool {
        bit(&self.near, place as usize)
    }

    /// The event, in the slice, at a place, for a question that tells events of one instant apart.
    pub(super) fn event_at(&self, place: u32) -> usize {
        if let Ok(moved) = self.moved.binary_search_by_key(&place, |(place, _)| *place) {
            return self.moved[moved].1 as usize;
        }
        let at = place as usize;
        at + usize::from(bit(&self.swapped, at + 1)) - usize::from(bit(&self.swapped, at))
    }

    /// The first place of those at the instant of `place` whose events serve the same step; `column` is the step's.
    pub(super) fn first_alike(&self, column: &[u8], mut place: u32) -> u32 {
        let serves = |at: usize| column.get(at >> 3).is_some_and(|byte| byte >> (at & 7) & 1 != 0);
        while place > 0 && bit(self.ties, place as usize) && serves(place as usize - 1) {
            place -= 1;
        }
        place
    }
}
