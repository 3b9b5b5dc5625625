//! From columns of events to bits: which events have a code that holds, and which lie before an instant.

use std::ops::RangeInclusive;

use crate::simd::{Simd, WIDTH, Width, with_processor};
use crate::slice::{INSTANT_BOUND_MS, Kinds, Slice, Times, Values, words};

/// With more ranges of codes than this, each code is looked up.
const FEW: usize = 8;

impl Values<'_> {
    /// A bit per event whose code holds; one behind the end of `holds` does not.
    pub fn holding(&self, holds: &[bool]) -> Vec<u64> {
        self.holding_by(holds, Width::ANY)
    }

    fn holding_by(&self, holds: &[bool], most: Width) -> Vec<u64> {
        match self {
            Self::U8(codes) => with_processor!(most, |simd| of_codes(simd, codes, holds)),
            Self::U16(codes) => with_processor!(most, |simd| of_codes(simd, codes, holds)),
            Self::U32(codes) => with_processor!(most, |simd| of_codes(simd, codes, holds)),
            Self::Unset(events) => all(*events, holds.first() == Some(&true)),
        }
    }
}

impl<'a> From<Kinds<'a>> for Values<'a> {
    fn from(kinds: Kinds<'a>) -> Self {
        match kinds {
            Kinds::U8(kinds) => Self::U8(kinds),
            Kinds::U16(kinds) => Self::U16(kinds),
        }
    }
}

impl Slice<'_> {
    /// A bit per event that lies before an instant, those of skipped visitors included.
    pub fn before(&self, instant_ms: i64) -> Vec<u64> {
        self.before_by(instant_ms, Width::ANY)
    }

    fn before_by(&self, instant_ms: i64, most: Width) -> Vec<u64> {
        match self.layout().times {
            Times::Narrow { epoch_ms, since_epoch_ms } => {
                let epoch_ms = epoch_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
                match u32::try_from(instant_ms.saturating_sub(epoch_ms)) {
                    Ok(until) => with_processor!(most, |simd| below(simd, since_epoch_ms, until)),
                    Err(_) => all(self.events(), instant_ms > epoch_ms),
                }
            }
            // Instants beyond the bound are read as it.
            Times::Wide(_) if instant_ms <= -INSTANT_BOUND_MS => all(self.events(), false),
            Times::Wide(_) if instant_ms > INSTANT_BOUND_MS => all(self.events(), true),
            Times::Wide(times) => with_processor!(most, |simd| below(simd, times, instant_ms)),
        }
    }
}

/// The bits of all of so many events, or of none.
fn all(events: usize, ones: bool) -> Vec<u64> {
    let mut all = vec![0; words(events)];
    if ones {
        crate::bits::fill(&mut all, 0..events, true);
    }
    all
}

/// A stored code.
trait Code: Copy + Default + Ord {
    /// The code, if it can be stored so; else the largest.
    fn clamped(code: usize) -> Self;

    /// Its place in a table.
    fn place(self) -> usize;

    /// How far it lies above another one, or would if codes went round.
    fn above(self, other: Self) -> Self;
}

macro_rules! code {
    ($($code:ty),*) => {$(
        impl Code for $code {
            #[inline(always)]
            fn clamped(code: usize) -> Self {
                Self::try_from(code).unwrap_or(Self::MAX)
            }

            #[inline(always)]
            fn place(self) -> usize {
                self as usize
            }

            #[inline(always)]
            fn above(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}

code!(u8, u16, u32);

/// The ranges of codes that hold, ascending.
fn ranges(holds: &[bool]) -> Vec<RangeInclusive<usize>> {
    let mut places = (0..).zip(holds).filter_map(|(place, holds)| holds.then_some(place)).peekable();
    std::iter::from_fn(|| {
        let first = places.next()?;
        let mut last = first;
        while let Some(next) = places.next_if_eq(&(last + 1)) {
            last = next;
        }
        Some(first..=last)
    })
    .collect()
}

#[inline(always)]
fn of_codes<C: Code>(simd: impl Simd, codes: &[C], holds: &[bool]) -> Vec<u64> {
    let most = C::clamped(usize::MAX).place();
    let ranges: Vec<(C, C)> = ranges(&holds[..holds.len().min(most.saturating_add(1))])
        .into_iter()
        .map(|range| (C::clamped(*range.start()), C::clamped(range.end() - range.start())))
        .collect();
    if ranges.len() > FEW {
        return pack(codes, |some| {
            let looked_up = some.map(|code| u8::from(holds.get(code.place()).copied().unwrap_or(false)));
            simd.equal(&looked_up, 1)
        });
    }
    pack(codes, |some| {
        let mut found = [0; WIDTH];
        for (first, span) in &ranges {
            for (found, code) in found.iter_mut().zip(some) {
                *found |= u8::from(code.above(*first) <= *span);
            }
        }
        simd.equal(&found, 1)
    })
}

#[inline(always)]
fn below<T: Copy + Default + Ord>(simd: impl Simd, times: &[T], until: T) -> Vec<u64> {
    pack(times, |some| simd.equal(&some.map(|time| u8::from(time < until)), 1))
}

/// A word for every 64 values; bits behind the last are 0.
#[inline(always)]
fn pack<A: Copy + Default>(values: &[A], word: impl Fn(&[A; WIDTH]) -> u64) -> Vec<u64> {
    let (whole, rest) = values.as_chunks::<WIDTH>();
    let mut bits = vec![0; words(values.len())];
    for (bits, some) in bits.iter_mut().zip(whole) {
        *bits = word(some);
    }
    if let (Some(bits), false) = (bits.last_mut(), rest.is_empty()) {
        let mut last = [A::default(); WIDTH];
        last[..rest.len()].copy_from_slice(rest);
        *bits = word(&last) & (u64::MAX >> (WIDTH - rest.len()));
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::Layout;

    const WIDTHS: [Width; 3] = [Width::Narrow, Width::Avx2, Width::Avx512];

    fn random(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    fn slow(length: usize, holds: impl Fn(usize) -> bool) -> Vec<u64> {
        let mut bits = vec![0; length.div_ceil(64)];
        (0..length).filter(|at| holds(*at)).for_each(|at| bits[at / 64] |= 1 << (at % 64));
        bits
    }

    #[test]
    fn codes_are_found_as_by_looking_at_each() {
        for seed in 0..300 {
            let mut random = random(seed);
            let (length, known) = (random(300) as usize, [3, 40, 256, 700][random(4) as usize]);
            let often = [1, 5, 9][random(3) as usize];
            let holds: Vec<bool> = (0..random(known + 1)).map(|_| random(10) < often).collect();
            let codes: Vec<u32> = (0..length).map(|_| random(known) as u32).collect();
            let expected = slow(length, |at| holds.get(codes[at] as usize).copied().unwrap_or(false));
            let bytes: Vec<u8> = codes.iter().map(|code| *code as u8).collect();
            let pairs: Vec<u16> = codes.iter().map(|code| *code as u16).collect();
            for most in WIDTHS {
                assert_eq!(Values::U32(&codes).holding_by(&holds, most), expected, "{seed}, {most:?}");
                assert_eq!(Values::U16(&pairs).holding_by(&holds, most), expected, "{seed}, {most:?}");
                if known <= 256 {
                    assert_eq!(Values::U8(&bytes).holding_by(&holds, most), expected, "{seed}, {most:?}");
                }
            }
        }
    }

    #[test]
    fn more_codes_may_hold_than_can_be_stored() {
        let holds = vec![true; 300];
        assert_eq!(Values::U8(&[0, 7, 255]).holding(&holds), [0b111]);
        assert_eq!(Values::U8(&[0, 7, 255]).holding(&holds[..255]), [0b011]);
        assert_eq!(Values::U8(&[0, 7, 255]).holding(&[]), [0]);
        assert!(Values::U8(&[]).holding(&holds).is_empty());
        for events in [0, 3, 64, 200] {
            let zeros = vec![0; events];
            for holds in [&[][..], &[false, true], &[true, false]] {
                assert_eq!(Values::Unset(events).holding(holds), Values::U8(&zeros).holding(holds));
            }
        }
    }

    #[test]
    fn events_before_an_instant_are_found_as_by_looking_at_each() {
        for seed in 0..200 {
            let mut random = random(seed);
            let length = random(200) as usize;
            let narrow: Vec<u32> = (0..length)
                .map(|_| [random(50) as u32, u32::MAX - random(3) as u32][usize::from(random(9) == 0)])
                .collect();
            let epoch_ms = [0, -7, 1 << 50, i64::MAX, i64::MIN][random(5) as usize];
            let wide: Vec<i64> = (0..length)
                .map(|_| [random(50) as i64 - 20, i64::MIN, i64::MAX, INSTANT_BOUND_MS][random(4) as usize])
                .collect();
            let (offsets, kinds, ties) = ([0, length as u32], vec![0; length], vec![0; length.div_ceil(64)]);
            for times in [Times::Narrow { epoch_ms, since_epoch_ms: &narrow }, Times::Wide(&wide)] {
                let slice = Slice::new(Layout {
                    offsets: &offsets,
                    kinds: Kinds::U8(&kinds),
                    times,
                    span_ms: (i64::MIN, i64::MAX),
                    kind_sets: &[1],
                    ties: &ties,
                    skip: None,
                })
                .unwrap();
                let near = if length > 0 { slice.time(random(length as u64) as usize) } else { 0 };
                for instant_ms in [near, near + 1, near - 1, i64::MIN, i64::MAX, INSTANT_BOUND_MS + 1] {
                    let expected = slow(length, |at| slice.time(at) < instant_ms);
                    for most in WIDTHS {
                        let found = slice.before_by(instant_ms, most);
                        assert_eq!(found, expected, "{seed}, {times:?}, {instant_ms}, {most:?}");
                    }
                }
            }
        }
    }
}
