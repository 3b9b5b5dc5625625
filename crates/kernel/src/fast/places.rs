//! Where the steps of a visitor lie, as one word of bits per step.
//!
//! Most visitors have at most 64 events. Sixteen events are compared with a step at once, and then the chain is found by
//! arithmetic on words: no branch depends on the data, which on today's processors counts for more than the number of
//! instructions.

#![expect(unsafe_code, reason = "comparing sixteen bytes by SSE2 takes 7 to 11 % off the whole pass")]

use std::hint::select_unpredictable;

use super::scan::{Bounds, Found, Instant, Scan};

/// Most events of a visitor whose places fit a word.
pub(super) const MOST_EVENTS: usize = 64;
/// Events compared at once.
const CHUNK: usize = 16;

/// Per step the places of its events, as bits. `STEPS` is the number of steps or more; the steps beyond it never occur.
#[derive(Debug, Clone)]
pub(super) struct Places<const STEPS: usize> {
    words: [u64; STEPS],
    /// The places of entries in the range.
    entries: u64,
}

impl<const STEPS: usize> Places<STEPS> {
    /// Reads a visitor of at most [`MOST_EVENTS`] events, at least one of them. `bytes` hold per step the byte that stands
    /// for it, 0 for a step that does not exist; `column` is the visitor's part of the byte column and may go on
    /// after its end.
    #[inline(always)]
    pub(super) fn read<T: Instant>(
        bytes: &[u8; STEPS],
        steps: usize,
        column: &[u8],
        scan: Scan<'_, T>,
        bounds: &Bounds,
    ) -> Self {
        let count = scan.times.len();
        let valid = u64::MAX >> (MOST_EVENTS - count.clamp(1, MOST_EVENTS));
        let first = chunk(column, 0);
        let mut words: [u64; STEPS] = std::array::from_fn(|step| u64::from(equal(first, bytes[step])));
        for at in (CHUNK..count).step_by(CHUNK) {
            let chunk = chunk(column, at);
            for (word, byte) in words.iter_mut().zip(bytes) {
                *word |= u64::from(equal(chunk, *byte)) << (at % 64);
            }
        }
        for (step, word) in words.iter_mut().enumerate() {
            *word &= if step < steps { valid } else { 0 };
        }
        let mut entries = words[0];
        if !scan.inside(bounds) {
            let place = |instant: i64| scan.times.partition_point(|time| time.ms() < instant) as u32;
            let below = |place: u32| 1u64.checked_shl(place).map_or(u64::MAX, |bit| bit - 1);
            entries &= below(place(bounds.until)) & !below(place(bounds.from));
        }
        Self { words, entries }
    }

    /// The furthest chain, or `None` if it does not fit the window, so that others have to be looked at.
    ///
    /// The earliest event of each step after the one before gives the furthest level that order allows, and its earliest
    /// completion; from there back, the latest event of each step gives the latest entry. If that chain fits
    /// the window, no other one is better.
    #[inline(always)]
    pub(super) fn furthest<T: Instant>(&self, scan: Scan<'_, T>, window: i64) -> Option<Found> {
        let mut step = lowest(self.entries);
        let mut level = usize::from(step != 0);
        let mut completion = step;
        for word in &self.words[1..] {
            step = lowest(word & above(step));
            level += usize::from(step != 0);
            completion = select_unpredictable(step != 0, step, completion);
        }
        if level == 0 {
            return Some(Found::default());
        }
        let mut entry = completion;
        for at in (0..STEPS - 1).rev() {
            let word = if at == 0 { self.entries } else { self.words[at] };
            let step = highest(word & entry.wrapping_sub(1));
            entry = select_unpredictable(at + 1 < level, step, entry);
        }
        let (entry, completion) = (place(entry), place(completion));
        let fits = scan.time(completion) - scan.time(entry) <= window;
        let newest = scan.time(place(highest(self.entries)));
        fits.then_some(Found { level, entry, completion, newest, first: place(lowest(self.entries)) })
    }

    /// Places of the steps of the earliest chain from place `entry`, as many as there are. Answers how many.
    #[inline(always)]
    pub(super) fn follow(&self, entry: usize, levels: usize, places: &mut [u32; 32]) -> usize {
        let mut step = 1u64 << (entry % 64);
        places[0] = entry as u32;
        for (level, (word, slot)) in self.words.iter().zip(places).enumerate().take(levels).skip(1) {
            step = lowest(word & above(step));
            if step == 0 {
                return level;
            }
            *slot = place(step) as u32;
        }
        levels
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
    1 << (word | 1).ilog2()
}

/// The bits above a single bit; none above an empty word.
#[inline(always)]
fn above(bit: u64) -> u64 {
    !(bit | bit.wrapping_sub(1))
}

/// The place of a single bit.
#[inline(always)]
fn place(bit: u64) -> usize {
    bit.trailing_zeros() as usize
}

/// Sixteen bytes of a column from `at` on, zeros after its end.
#[inline(always)]
fn chunk(column: &[u8], at: usize) -> [u8; CHUNK] {
    match column.get(at..at + CHUNK).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => bytes,
        None => {
            let mut bytes = [0; CHUNK];
            let rest = column.get(at..).unwrap_or_default();
            bytes.iter_mut().zip(rest).for_each(|(byte, rest)| *byte = *rest);
            bytes
        }
    }
}

/// The bytes of a chunk that equal `code`, as bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn equal(chunk: [u8; CHUNK], code: u8) -> u16 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let bytes = u128::from_le_bytes(chunk);
    // SAFETY: these functions take and return values and touch no memory; all they require is a processor with SSE2,
    // and every processor of this architecture has it.
    unsafe {
        let chunk = _mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(chunk, _mm_set1_epi8(code.cast_signed()))) as u16
    }
}

/// The bytes of a chunk that equal `code`, as bits.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn equal(chunk: [u8; CHUNK], code: u8) -> u16 {
    const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    let bytes = u128::from_le_bytes(chunk);
    let half = |bytes: u64| {
        let differs = bytes ^ (u64::from(code) * 0x0101_0101_0101_0101);
        // The high bit of every byte that is zero, then all eight of them side by side.
        let equals = !(((differs & LOW) + LOW) | differs | LOW);
        (equals >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    };
    (half(bytes as u64) | half((bytes >> 64) as u64) << 8) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_in_order() {
        let mut bytes = [7; CHUNK];
        (bytes[0], bytes[9], bytes[15]) = (1, 1, 1);
        assert_eq!(equal(bytes, 1), 1 | 1 << 9 | 1 << 15);
        assert_eq!(equal(bytes, 7), !(1 | 1 << 9 | 1 << 15));
        assert_eq!(equal(bytes, 0), 0);
    }

    #[test]
    fn chunks_end_with_zeros() {
        let column: Vec<u8> = (1..=20).collect();
        assert_eq!(chunk(&column, 0)[15], 16);
        assert_eq!(chunk(&column, 16), [17, 18, 19, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(chunk(&column, 32), [0; CHUNK]);
    }

    #[test]
    fn bits_have_neighbours() {
        assert_eq!((lowest(0b1100), highest(0b1100)), (0b100, 0b1000));
        assert_eq!((above(0b100), above(1 << 63), above(0)), (!0b111, 0, 0));
    }
}
