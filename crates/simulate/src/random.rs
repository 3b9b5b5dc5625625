//! Random numbers that stay the same for ever.
//!
//! The streams of this crate are test oracles and published benchmark loads, so a newer version of a random-number crate, another
//! platform's `libm` or another thread count must not change one bit of them. Hence a generator of ten lines (SplitMix64: Steele, Lea and
//! Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; it passes BigCrush) and samplers that use integers, or only the
//! operations of IEEE 754 that are exactly rounded everywhere (`+ − × ÷ √`), never `exp` or `ln`.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: a bijection on 64 bits that scatters neighbours.
#[inline]
pub(crate) const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers, one for every (seed, visitor, purpose).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream of `key` for `purpose`; different purposes give unrelated streams.
    #[inline]
    pub(crate) const fn new(key: u64, purpose: u64) -> Self {
        Self(mix(key ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93)))
    }

    /// The next 64 random bits.
    #[inline]
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// The next 32 random bits.
    #[inline]
    pub(crate) const fn bits(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A number below `n` (0 when `n` is 0). The bias is below `n / 2^32`.
    #[inline]
    pub(crate) const fn below(&mut self, n: u32) -> u32 {
        ((self.bits() as u64 * n as u64) >> 32) as u32
    }

    /// True with probability `ppm` parts per million.
    #[inline]
    pub(crate) const fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < ppm
    }
}

/// The threshold that 32 random bits stay under with probability `share` (0 to 1).
pub(crate) fn threshold(share: f64) -> u64 {
    (share * 4_294_967_296.0) as u64
}

/// Draws an index with given weights in constant time (Walker's alias method, built as in Vose, IEEE TSE 17(9), 1991).
#[derive(Clone, Debug)]
pub(crate) struct Weighted {
    cells: Vec<(u32, u16)>,
}

impl Weighted {
    /// Indices `0..weights.len()` (at most 65,536) in proportion to their weights.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut scaled: Vec<f64> = weights.iter().map(|w| w * weights.len() as f64 / total).collect();
        let mut cells: Vec<(u32, u16)> = (0..weights.len()).map(|i| (u32::MAX, i as u16)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&i| scaled[i] < 1.0);
        while let (Some(s), Some(l)) = (small.pop(), large.pop()) {
            cells[s] = ((scaled[s] * 4_294_967_295.0) as u32, l as u16);
            scaled[l] -= 1.0 - scaled[s];
            if scaled[l] < 1.0 { small.push(l) } else { large.push(l) }
        }
        Self { cells }
    }

    /// Indices `0..n`, the one of rank r with weight 1/(r+1): Zipf's law with exponent 1.
    pub(crate) fn zipf(n: usize) -> Self {
        let weights: Vec<f64> = (0..n).map(|rank| 1.0 / (rank + 1) as f64).collect();
        Self::new(&weights)
    }

    /// An index.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut Rng) -> u16 {
        let r = rng.next();
        let slot = (((r >> 32) * self.cells.len() as u64) >> 32) as usize;
        let (keep, alias) = self.cells[slot];
        if (r as u32) < keep { slot as u16 } else { alias }
    }
}

/// Powers of two with a fractional exponent, for log-normal and log-uniform numbers, in integers.
#[derive(Clone, Debug)]
pub(crate) struct Exp2 {
    /// `2^(i/256) · 2^32`, rounded down.
    fraction: [u64; 256],
}

impl Exp2 {
    /// Builds the table from square roots of two.
    pub(crate) fn new() -> Self {
        let step = (0..8).fold(2.0_f64, |root, _| root.sqrt());
        let mut value = 4_294_967_296.0_f64;
        let fraction = std::array::from_fn(|_| {
            let entry = value as u64;
            value *= step;
            entry
        });
        Self { fraction }
    }

    /// `2^(exponent/256)`, rounded down; exponents above 30·256 count as that.
    #[inline]
    pub(crate) fn at(&self, exponent: i32) -> u64 {
        let exponent = exponent.clamp(0, 30 * 256) as u32;
        (self.fraction[(exponent & 255) as usize] << (exponent >> 8)) >> 32
    }

    /// A number with a log-normal look: median `2^(median/256)`, one standard deviation multiplies it by `2^(4·unit/256)`. The number of
    /// ones in 64 random bits is binomial with standard deviation 4, which is as good as normal here.
    #[inline]
    pub(crate) fn log_normal(&self, rng: &mut Rng, median: i32, unit: i32) -> u64 {
        let ones = rng.next().count_ones() as i32 - 32;
        let r = rng.next();
        // Smooth over the step between two counts of ones, then over the step between two table entries.
        let within = ((r >> 48) as i32 * unit) >> 16;
        let value = self.at(median + ones * unit + within - unit / 2);
        value + ((value * (r & 0xffff)) >> 24)
    }

    /// A number whose logarithm is uniform between `2^(low/256)` and `2^(high/256)`.
    #[inline]
    pub(crate) fn log_uniform(&self, rng: &mut Rng, low: i32, high: i32) -> u64 {
        let r = rng.next();
        let exponent = low + (((r >> 40) as i64 * (high - low) as i64) >> 24) as i32;
        let value = self.at(exponent);
        value + ((value * (r & 0xffff)) >> 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // First outputs for seed 1234567, as published with the reference implementation.
        let mut rng = Rng(1_234_567);
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn weighted_draws_follow_the_weights() {
        let weighted = Weighted::new(&[1.0, 2.0, 5.0]);
        let mut rng = Rng::new(1, 2);
        let mut counts = [0_u32; 3];
        for _ in 0..80_000 {
            counts[weighted.draw(&mut rng) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([10_000_i64, 20_000, 50_000]) {
            assert!((i64::from(*count) - expected).abs() < 600, "{counts:?}");
        }
    }

    #[test]
    fn powers_of_two() {
        let exp2 = Exp2::new();
        for exponent in 0..30 * 256 {
            let exact = (f64::from(exponent) / 256.0).exp2();
            let got = exp2.at(exponent) as f64;
            assert!(got <= exact + 1e-3 && got > exact * (1.0 - 1e-9) - 1.0, "{exponent}: {got} {exact}");
        }
        let mut rng = Rng::new(3, 4);
        let mut gaps: Vec<u64> = (0..20_001).map(|_| exp2.log_normal(&mut rng, 10 * 256, 100)).collect();
        gaps.sort_unstable();
        assert!((960..1_090).contains(&gaps[10_000]), "median {}", gaps[10_000]);
    }
}
