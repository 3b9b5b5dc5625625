//! What is done to 64 visitors or bytes at once, as widely as the processor can.

#![expect(unsafe_code, reason = "64 bytes and eight words at once take half the time of the whole pass")]

/// Bytes that are compared at once.
pub(super) const WIDTH: usize = 64;

/// A way to handle many values.
pub(super) trait Simd: Copy {
    /// The places of the bytes that equal `code`, as bits.
    fn equal(self, bytes: &[u8; WIDTH], code: u8) -> u64;

    /// The words, least byte first, that begin at these bytes of a column; 0 where one ends behind it.
    fn words(self, column: &[u8], at: &[u32; WIDTH]) -> [u64; WIDTH];

    /// Tells the processor that some values will be read soon.
    fn fetch<A>(self, values: &[A]);
}

/// Bytes that a processor reads from memory together.
const LINE: usize = 64;

/// What every processor of the architecture has: sixteen bytes at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Narrow;

/// Bytes that [`Narrow`] compares at once.
const CHUNK: usize = 16;

impl Simd for Narrow {
    #[inline(always)]
    fn equal(self, bytes: &[u8; WIDTH], code: u8) -> u64 {
        let (chunks, _) = bytes.as_chunks::<CHUNK>();
        let places = chunks.iter().zip((0..).step_by(CHUNK));
        places.fold(0, |places, (chunk, at)| places | u64::from(equal(*chunk, code)) << at)
    }

    #[inline(always)]
    fn words(self, column: &[u8], at: &[u32; WIDTH]) -> [u64; WIDTH] {
        at.map(|at| {
            let bytes = column.get(at as usize..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        })
    }

    #[inline(always)]
    fn fetch<A>(self, _: &[A]) {}
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

#[cfg(target_arch = "x86_64")]
pub(super) use self::avx512::Wide;
#[cfg(not(target_arch = "x86_64"))]
pub(super) use self::unknown::Wide;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm256_loadu_epi32, _mm512_cmpeq_epi8_mask, _mm512_i32gather_epi64,
        _mm512_loadu_epi8, _mm512_set1_epi8, _mm512_storeu_epi64,
    };

    use super::{LINE, Narrow, Simd, WIDTH};

    /// AVX-512: 64 bytes at a time, and words eight at a time. There is one only where the processor has it.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Wide(());

    impl Wide {
        /// Whether this processor has all that [`Wide::run`] promises the compiler.
        pub(in super::super) fn detect() -> Option<Self> {
            let has = std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512cd")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512vl")
                && std::is_x86_feature_detected!("bmi1")
                && std::is_x86_feature_detected!("bmi2")
                && std::is_x86_feature_detected!("lzcnt")
                && std::is_x86_feature_detected!("popcnt");
            has.then_some(Self(()))
        }

        /// Runs `work`, compiled for such a processor.
        pub(in super::super) fn run<A>(self, work: impl FnOnce() -> A) -> A {
            // SAFETY: a `Wide` exists only where the processor has these features.
            unsafe { compiled(work) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled<A>(work: impl FnOnce() -> A) -> A {
        work()
    }

    impl Simd for Wide {
        #[inline(always)]
        fn equal(self, bytes: &[u8; WIDTH], code: u8) -> u64 {
            // SAFETY: a `Wide` exists only where the processor has these features.
            unsafe { equal(bytes, code) }
        }

        #[inline(always)]
        fn words(self, column: &[u8], at: &[u32; WIDTH]) -> [u64; WIDTH] {
            let last = at.iter().fold(0, |last, at| last.max(*at)) as usize;
            if last + 8 > column.len() || last > i32::MAX as usize {
                return Narrow.words(column, at);
            }
            // SAFETY: a `Wide` exists only where the processor has these features; every word ends inside the column,
            // and no place is too large for the sign that gathering gives it.
            unsafe { words(column, at) }
        }

        #[inline(always)]
        fn fetch<A>(self, values: &[A]) {
            for value in values.iter().step_by((LINE / size_of::<A>().max(1)).max(1)) {
                // SAFETY: this changes no value, and every processor of this architecture can.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
            }
        }
    }

    /// Every `at` must be 8 or more before the end of the column, and fit an `i32`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn words(column: &[u8], at: &[u32; WIDTH]) -> [u64; WIDTH] {
        let mut words = [0; WIDTH];
        for (at, words) in at.as_chunks::<8>().0.iter().zip(words.as_chunks_mut::<8>().0) {
            // SAFETY: eight places are read and eight words written, and there are so many; the caller promises that what
            // is gathered lies in the column.
            unsafe {
                let at = _mm256_loadu_epi32(at.as_ptr().cast());
                let eight = _mm512_i32gather_epi64::<1>(at, column.as_ptr().cast());
                _mm512_storeu_epi64(words.as_mut_ptr().cast(), eight);
            }
        }
        words
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn equal(bytes: &[u8; WIDTH], code: u8) -> u64 {
        // SAFETY: 64 bytes are read, and there are so many.
        let bytes = unsafe { _mm512_loadu_epi8(bytes.as_ptr().cast()) };
        _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(code.cast_signed()))
    }
}

/// Stands where no wider way is known.
#[cfg(not(target_arch = "x86_64"))]
mod unknown {
    use super::{Simd, WIDTH};

    /// There is none.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) enum Wide {}

    impl Wide {
        /// No processor has what is not known.
        pub(in super::super) fn detect() -> Option<Self> {
            None
        }

        /// Runs `work`.
        pub(in super::super) fn run<A>(self, work: impl FnOnce() -> A) -> A {
            work()
        }
    }

    impl Simd for Wide {
        fn equal(self, _: &[u8; WIDTH], _: u8) -> u64 {
            match self {}
        }

        fn words(self, _: &[u8], _: &[u32; WIDTH]) -> [u64; WIDTH] {
            match self {}
        }

        fn fetch<A>(self, _: &[A]) {
            match self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_finds_the_same_places() {
        let bytes: [u8; WIDTH] =
            std::array::from_fn(|at| ((at as u32).wrapping_mul(2_654_435_761) >> 29) as u8);
        for code in [0, 1, 5, 7, 200] {
            let slow = (0..WIDTH).fold(0, |bits, at| bits | u64::from(bytes[at] == code) << at);
            assert_eq!(Narrow.equal(&bytes, code), slow, "{code}");
            if let Some(wide) = Wide::detect() {
                assert_eq!(wide.run(|| wide.equal(&bytes, code)), slow, "{code}");
            }
        }
        assert_ne!(Narrow.equal(&bytes, 5), 0);
    }

    #[test]
    fn every_way_cuts_the_same_words() {
        let bytes: Vec<u8> = (0..100).collect();
        for behind in [0, 40] {
            let at: [u32; WIDTH] = std::array::from_fn(|at| (at as u32 * 37) % 93 + behind);
            let word = |at: u32| bytes.get(at as usize..at as usize + 8).map(|word| word.try_into().unwrap());
            let slow = at.map(|at| word(at).map_or(0, u64::from_le_bytes));
            assert_eq!(Narrow.words(&bytes, &at), slow);
            if let Some(wide) = Wide::detect() {
                assert_eq!(wide.run(|| wide.words(&bytes, &at)), slow);
            }
        }
    }
}
