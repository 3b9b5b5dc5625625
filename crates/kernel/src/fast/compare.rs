//! Comparing a visitor's bytes with those of the steps, as widely as the processor can.

#![expect(unsafe_code, reason = "comparing 64 bytes at once halves the time of the whole pass")]

/// Most bytes that are compared at once.
pub(super) const WIDTH: usize = 64;

/// A way to compare bytes.
pub(super) trait Compare: Copy {
    /// Per code the places of the first `count` bytes that equal it, as bits. `count` is 1 to [`WIDTH`], and `bytes` hold
    /// so many or more; what lies behind them does not show.
    fn places<const CODES: usize>(self, bytes: &[u8], count: usize, codes: &[u8; CODES]) -> [u64; CODES];
}

/// Bits below `count`, which is 1 to [`WIDTH`].
#[inline(always)]
fn below(count: usize) -> u64 {
    u64::MAX >> (WIDTH - count.clamp(1, WIDTH))
}

/// What every processor of the architecture has: sixteen bytes at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Narrow;

/// Bytes that [`Narrow`] compares at once.
const CHUNK: usize = 16;

impl Compare for Narrow {
    #[inline(always)]
    fn places<const CODES: usize>(self, bytes: &[u8], count: usize, codes: &[u8; CODES]) -> [u64; CODES] {
        let mut places = [0; CODES];
        for at in (0..count).step_by(CHUNK) {
            let chunk = chunk(bytes, at);
            for (places, code) in places.iter_mut().zip(codes) {
                *places |= u64::from(equal(chunk, *code)) << (at % WIDTH);
            }
        }
        places.map(|places| places & below(count))
    }
}

/// Sixteen bytes from `at` on, zeros after their end.
#[inline(always)]
fn chunk(bytes: &[u8], at: usize) -> [u8; CHUNK] {
    match bytes.get(at..at + CHUNK).and_then(|bytes| bytes.try_into().ok()) {
        Some(chunk) => chunk,
        None => {
            let mut chunk = [0; CHUNK];
            let rest = bytes.get(at..).unwrap_or_default();
            chunk.iter_mut().zip(rest).for_each(|(byte, rest)| *byte = *rest);
            chunk
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

/// AVX-512: 64 bytes at a time, and words eight at a time. There is one only where the processor has it.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Wide(());

#[cfg(target_arch = "x86_64")]
impl Wide {
    /// Whether this processor has all that [`Wide::run`] promises the compiler.
    pub(super) fn detect() -> Option<Self> {
        let has = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512cd")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("lzcnt");
        has.then_some(Self(()))
    }

    /// Runs `work`, compiled for such a processor.
    pub(super) fn run<A>(self, work: impl FnOnce() -> A) -> A {
        // SAFETY: a `Wide` exists only where the processor has these features.
        unsafe { compiled_wide(work) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt")]
fn compiled_wide<A>(work: impl FnOnce() -> A) -> A {
    work()
}

#[cfg(target_arch = "x86_64")]
impl Compare for Wide {
    #[inline(always)]
    fn places<const CODES: usize>(self, bytes: &[u8], count: usize, codes: &[u8; CODES]) -> [u64; CODES] {
        let count = count.min(bytes.len());
        // SAFETY: a `Wide` exists only where the processor has these features.
        unsafe { places_wide(bytes, count, codes) }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn places_wide<const CODES: usize>(bytes: &[u8], count: usize, codes: &[u8; CODES]) -> [u64; CODES] {
    use std::arch::x86_64::{_mm512_mask_cmpeq_epi8_mask, _mm512_maskz_loadu_epi8, _mm512_set1_epi8};
    let count = count.min(bytes.len());
    if count == 0 {
        return [0; CODES];
    }
    let below = below(count);
    // SAFETY: only bytes below `count` are read, and there are so many.
    let bytes = unsafe { _mm512_maskz_loadu_epi8(below, bytes.as_ptr().cast()) };
    let mut places = [0; CODES];
    // No `map`: it is compiled for every processor, and this could not become a part of it.
    for (places, code) in places.iter_mut().zip(codes) {
        *places = _mm512_mask_cmpeq_epi8_mask(below, bytes, _mm512_set1_epi8(code.cast_signed()));
    }
    places
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
    fn every_way_finds_the_same_places() {
        let bytes: Vec<u8> = (0u32..80).map(|at| (at.wrapping_mul(2_654_435_761) >> 29) as u8).collect();
        let codes = [0, 1, 5, 7];
        for (start, count) in (0..16).flat_map(|start| (1..=WIDTH).map(move |count| (start, count))) {
            let slow = codes
                .map(|code| (0..count).fold(0, |bits, at| bits | u64::from(bytes[start + at] == code) << at));
            assert_eq!(Narrow.places(&bytes[start..], count, &codes), slow, "{start} {count}");
            assert_eq!(Narrow.places(&bytes[start..start + count], count, &codes), slow, "{start} {count}");
            #[cfg(target_arch = "x86_64")]
            if let Some(wide) = Wide::detect() {
                let exact = &bytes[start..start + count];
                assert_eq!(wide.run(|| wide.places(exact, count, &codes)), slow, "{start} {count}");
            }
        }
    }
}
