//! Estimates made of counts: the interval of a rate, and the projected rate of what is still open.

use crate::counts::Survival;

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A rate with its 95 % interval; all within 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The share of `successes` among `units` with its 95 % score interval (E. B. Wilson, 1927). `None` without units, or
/// with more successes than units.
pub fn wilson(successes: u64, units: u64) -> Option<Estimate> {
    if units == 0 || successes > units {
        return None;
    }
    let n = units as f64;
    let rate = successes as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let centre = (rate + Z * Z / (2.0 * n)) / scale;
    let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    // At the ends the formula is exact up to rounding; the interval must hold the rate.
    Some(Estimate { rate, low: (centre - half).clamp(0.0, rate), high: (centre + half).clamp(rate, 1.0) })
}

/// The share of units that convert within the window, those whose window is still running included: one minus the
/// product-limit estimate (E. L. Kaplan and P. Meier, 1958) over the buckets of [`crate::histogram`].
///
/// The interval is at 95 %, from the variance of M. Greenwood (1926) on the log-log scale (J. D. Kalbfleisch and
/// R. L. Prentice, 1980). Where that scale is not defined, because no unit converted or all at risk did, it is Wilson's over
/// all units. A unit censored in the bucket of a conversion is still at risk then, so units that were followed
/// for their whole window are at risk at every conversion. `None` without units.
pub fn kaplan_meier(survival: &Survival) -> Option<Estimate> {
    let units = survival.converted.total() + survival.censored.total();
    let mut censored = survival.censored.buckets().peekable();
    let mut at_risk = units;
    let (mut remaining, mut variance) = (1.0, 0.0);
    for (bucket, conversions) in survival.converted.buckets() {
        while let Some((_, left)) = censored.next_if(|(earlier, _)| *earlier < bucket) {
            at_risk -= left;
        }
        let (events, risk) = (conversions as f64, at_risk as f64);
        remaining *= 1.0 - events / risk;
        variance += events / (risk * (risk - events));
        at_risk -= conversions;
    }
    let rate = 1.0 - remaining;
    let log = f64::ln(remaining);
    if log == 0.0 || !log.is_finite() || !variance.is_finite() {
        let fallback = wilson(survival.converted.total(), units)?;
        return Some(Estimate { rate, low: fallback.low.min(rate), high: fallback.high.max(rate) });
    }
    let spread = (Z * variance.sqrt() / log.abs()).exp();
    Some(Estimate { rate, low: 1.0 - remaining.powf(1.0 / spread), high: 1.0 - remaining.powf(spread) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 5e-5
    }

    #[test]
    fn wilson_matches_hand_computed_values() {
        let estimate = wilson(8, 10).expect("units");
        assert!(close(estimate.rate, 0.8) && close(estimate.low, 0.49016) && close(estimate.high, 0.94332));
        let none = wilson(0, 10).expect("units");
        assert!(close(none.low, 0.0) && close(none.high, 0.27753));
        let all = wilson(10, 10).expect("units");
        assert!(close(all.low, 0.72247) && close(all.high, 1.0));
        assert_eq!((wilson(0, 0), wilson(2, 1)), (None, None));
    }

    #[test]
    fn kaplan_meier_matches_hand_computed_values() {
        // Six units: conversions at 10 and 30 ms, one unit lost at 20 ms, three followed for 40 ms.
        let mut survival = Survival::default();
        [10, 30].into_iter().for_each(|at| survival.converted.record(at));
        [20, 40, 40, 40].into_iter().for_each(|at| survival.censored.record(at));
        let estimate = kaplan_meier(&survival).expect("units");
        // 1 - 5/6 · 3/4; variance sum 1/30 + 1/12.
        assert!(close(estimate.rate, 0.375), "{estimate:?}");
        assert!(close(estimate.low, 0.10695) && close(estimate.high, 0.85815), "{estimate:?}");
    }

    #[test]
    fn without_censoring_the_projection_is_the_rate() {
        let mut survival = Survival::default();
        (0..30).for_each(|at| survival.converted.record(at));
        survival.censored.add(127, 70);
        assert!(close(kaplan_meier(&survival).expect("units").rate, 0.3));
    }

    #[test]
    fn the_ends_of_the_scale_have_intervals_too() {
        assert_eq!(kaplan_meier(&Survival::default()), None);
        let mut none = Survival::default();
        none.censored.add(5, 10);
        let estimate = kaplan_meier(&none).expect("units");
        assert!(close(estimate.rate, 0.0) && close(estimate.high, 0.27753), "{estimate:?}");
        let mut all = Survival::default();
        all.converted.add(5, 10);
        let estimate = kaplan_meier(&all).expect("units");
        assert!(close(estimate.rate, 1.0) && close(estimate.low, 0.72247), "{estimate:?}");
    }

    #[test]
    fn the_interval_covers_the_truth_in_95_of_100_samples() {
        // Three in ten convert, exponentially with a mean of 20 s, cut off at a window of 60 s; units enter evenly over the
        // 60 s before they are looked at, so that most windows are still running.
        let truth = 0.3 * (1.0 - f64::exp(-3.0));
        let mut state = 0x2545_F491_4F6C_DD1Du64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let samples = 2_000;
        let mut covered = 0;
        for _ in 0..samples {
            let mut survival = Survival::default();
            for _ in 0..400 {
                let followed = uniform() * 80_000.0;
                let duration =
                    if uniform() < 0.3 { -20_000.0 * (1.0 - uniform()).ln() } else { f64::INFINITY };
                let end = f64::min(followed, 60_000.0);
                if duration <= end {
                    survival.converted.record(duration as i64);
                } else {
                    survival.censored.record(end as i64);
                }
            }
            let estimate = kaplan_meier(&survival).expect("units");
            covered += u32::from(estimate.low <= truth && truth <= estimate.high);
        }
        let share = f64::from(covered) / f64::from(samples);
        assert!((0.935..=0.965).contains(&share), "{share}");
    }
}
