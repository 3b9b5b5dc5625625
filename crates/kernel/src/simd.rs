//! What is done to 64 events or visitors at once, as widely as the processor can.

#![expect(unsafe_code, reason = "64 bytes and eight words at once take half the time of the whole pass")]

/// Bytes that are compared at once.
pub(crate) const WIDTH: usize = 64;

/// How wide the instructions are that may be used. What a processor does not have is never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// What every processor of the architecture has.
    Narrow,
    /// As wide as AVX2.
    Avx2,
    /// As wide as AVX-512.
    Avx512,
}

impl Width {
    /// Whatever the processor has.
    pub(crate) const ANY: Self = Self::Avx512;
}

/// The widest way that a processor has, up to what may be used.
pub(crate) enum Way {
    Narrow(Narrow),
    Avx2(Avx2),
    Avx512(Avx512),
}

impl Way {
    #[inline]
    pub(crate) fn up_to(most: Width) -> Self {
        if let Some(way) = Avx512::detect().filter(|_| most >= Width::Avx512) {
            return Self::Avx512(way);
        }
        Avx2::detect().filter(|_| most >= Width::Avx2).map_or(Self::Narrow(Narrow), Self::Avx2)
    }
}

/// Runs code with the widest [`Simd`] that the processor has and that is allowed, compiled for that.
macro_rules! with_processor {
    ($most:expr, |$simd:ident| $work:expr) => {
        match $crate::simd::Way::up_to($most) {
            $crate::simd::Way::Avx512($simd) => $simd.run(
                #[inline(always)]
                || $work,
            ),
            $crate::simd::Way::Avx2($simd) => $simd.run(
                #[inline(always)]
                || $work,
            ),
            $crate::simd::Way::Narrow($simd) => $work,
        }
    };
}
pub(crate) use with_processor;

/// A way to handle many values.
pub(crate) trait Simd: Copy {
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
pub(crate) struct Narrow;

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

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use self::unknown::{Avx2, Avx512};
#[cfg(target_arch = "x86_64")]
pub(crate) use self::{avx2::Avx2, avx512::Avx512};

/// A way that only processors with some features have.
#[cfg(target_arch = "x86_64")]
macro_rules! way {
    ($(#[$about:meta])* $way:ident: $($feature:tt),*) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $way(());

        impl $way {
            /// Where this processor has all that is promised to the compiler.
            pub(crate) fn detect() -> Option<Self> {
                ($(std::is_x86_feature_detected!($feature))&&*).then_some(Self(()))
            }

            /// Runs `work`, compiled for such a processor.
            pub(crate) fn run<A>(self, work: impl FnOnce() -> A) -> A {
                // SAFETY: this way exists only where the processor has these features.
                unsafe { compiled(work) }
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn compiled<A>(work: impl FnOnce() -> A) -> A {
            work()
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{_mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8};

    use super::{Narrow, Simd, WIDTH, prefetch};

    way! {
        /// AVX2: 32 bytes at a time.
        Avx2: "avx2", "bmi1", "bmi2", "lzcnt", "popcnt"
    }

    impl Simd for Avx2 {
        #[inline(always)]
        fn equal(self, bytes: &[u8; WIDTH], code: u8) -> u64 {
            // SAFETY: an `Avx2` exists only where the processor has these features.
            unsafe { equal(bytes, code) }
        }

        #[inline(always)]
        fn words(self, column: &[u8], at: &[u32; WIDTH]) -> [u64; WIDTH] {
            Narrow.words(column, at)
        }

        #[inline(always)]
        fn fetch<A>(self, values: &[A]) {
            prefetch(values);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal(bytes: &[u8; WIDTH], code: u8) -> u64 {
        let half = |at: usize| {
            // SAFETY: 32 bytes are read, of which there are two times as many.
            let bytes = unsafe { _mm256_loadu_si256(bytes[at..].as_ptr().cast()) };
            let places = _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(code.cast_signed())));
            u64::from(places.cast_unsigned())
        };
        half(0) | half(32) << 32
    }
}

/// Tells the processor that some values will be read soon.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch<A>(values: &[A]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for value in values.iter().step_by((LINE / size_of::<A>().max(1)).max(1)) {
        // SAFETY: this changes no value, and every processor of this architecture can.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _mm256_loadu_epi32, _mm512_cmpeq_epi8_mask, _mm512_i32gather_epi64, _mm512_loadu_epi8,
        _mm512_set1_epi8, _mm512_storeu_epi64,
    };

    use super::{Narrow, Simd, WIDTH, prefetch};

    way! {
        /// AVX-512: 64 bytes at a time, and words eight at a time.
        Avx512: "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "bmi1", "bmi2", "lzcnt", "popcnt"
    }

    impl Simd for Avx512 {
        #[inline(always)]
        fn equal(self, bytes: &[u8; WIDTH], code: u8) -> u64 {
            // SAFETY: an `Avx512` exists only where the processor has these features.
            unsafe { equal(bytes, code) }
        }

        #[inline(always)]
        fn words(self, column: &[u8], at: &[u32; WIDTH]) -> [u64; WIDTH] {
            let last = at.iter().fold(0, |last, at| last.max(*at)) as usize;
            if last + 8 > column.len() || last > i32::MAX as usize {
                return Narrow.words(column, at);
            }
            // SAFETY: an `Avx512` exists only where the processor has these features; every word ends inside the column,
            // and no place is too large for the sign that gathering gives it.
            unsafe { words(column, at) }
        }

        #[inline(always)]
        fn fetch<A>(self, values: &[A]) {
            prefetch(values);
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

/// Stands where no wider ways are known.
#[cfg(not(target_arch = "x86_64"))]
mod unknown {
    use super::{Simd, WIDTH};

    /// There is none.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Unknown {}

    pub(crate) type Avx2 = Unknown;
    pub(crate) type Avx512 = Unknown;

    impl Unknown {
        /// No processor has what is not known.
        pub(crate) fn detect() -> Option<Self> {
            None
        }

        /// Runs `work`.
        pub(crate) fn run<A>(self, _: impl FnOnce() -> A) -> A {
            match self {}
        }
    }

    impl Simd for Unknown {
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
            for most in [Width::Narrow, Width::Avx2, Width::Avx512] {
                assert_eq!(with_processor!(most, |simd| simd.equal(&bytes, code)), slow, "{code}, {most:?}");
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
            for most in [Width::Narrow, Width::Avx2, Width::Avx512] {
                assert_eq!(with_processor!(most, |simd| simd.words(&bytes, &at)), slow, "{most:?}");
            }
        }
    }
}
