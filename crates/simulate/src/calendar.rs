//! When people shop: the week's shape, and the conversion between *shop time* and the clock.
//!
//! Shop time runs fast when the shop is busy: an hour is as long as its share of the week's traffic. Visitors arrive evenly in shop time,
//! which makes day and night on the clock, and the conversion keeps order, which lets deliveries stream (see [`crate::Deliveries`]).

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;

/// Relative traffic per hour of the day, UTC.
const HOURS: [u64; 24] = [
    30, 20, 15, 12, 12, 18, 35, 60, 85, 100, 110, 115, 120, 115, 110, 110, 115, 125, 140, 165, 180, 170, 125,
    70,
];
/// Relative traffic per weekday, from Monday.
const DAYS: [u64; 7] = [100, 98, 97, 100, 105, 110, 120];

/// The week's shape, anchored at the start of the simulated period.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    /// Monday 00:00 UTC of the week of the start.
    monday_ms: i64,
    /// Shop time at the start of each hour of the week, counted from Monday, and of the next week.
    hours: [u64; 169],
    /// Shop time of the start, counted from that Monday.
    origin: u64,
}

impl Calendar {
    pub(crate) fn new(start_ms: i64) -> Self {
        let mut hours = [0; 169];
        for hour in 0..168 {
            hours[hour + 1] = hours[hour] + HOURS[hour % 24] * DAYS[hour / 24] * HOUR_MS as u64;
        }
        // The epoch was a Thursday.
        let monday_ms = start_ms - (start_ms + 3 * DAY_MS).rem_euclid(WEEK_MS);
        let mut calendar = Self { monday_ms, hours, origin: 0 };
        calendar.origin = calendar.since_monday(start_ms);
        calendar
    }

    fn since_monday(&self, ms: i64) -> u64 {
        let since = (ms - self.monday_ms).max(0);
        let (weeks, rest) = (since / WEEK_MS, since % WEEK_MS);
        let hour = (rest / HOUR_MS) as usize;
        let weight = (self.hours[hour + 1] - self.hours[hour]) / HOUR_MS as u64;
        weeks as u64 * self.hours[168] + self.hours[hour] + (rest % HOUR_MS) as u64 * weight
    }

    /// Shop time between the start and `ms`.
    pub(crate) fn shop_time(&self, ms: i64) -> u64 {
        self.since_monday(ms).saturating_sub(self.origin)
    }

    /// The clock, in milliseconds since the Unix epoch, at a shop time after the start. Never falls as `shop_time` rises.
    pub(crate) fn clock_ms(&self, shop_time: u64) -> i64 {
        let since = self.origin + shop_time;
        let (weeks, rest) = (since / self.hours[168], since % self.hours[168]);
        let hour = self.hours.partition_point(|&at| at <= rest) - 1;
        let weight = (self.hours[hour + 1] - self.hours[hour]) / HOUR_MS as u64;
        self.monday_ms
            + weeks as i64 * WEEK_MS
            + hour as i64 * HOUR_MS
            + ((rest - self.hours[hour]) / weight) as i64
    }

    /// Shop time that `ms` milliseconds last on the week's average.
    pub(crate) fn average(&self, ms: u64) -> u64 {
        ms * (self.hours[168] / WEEK_MS as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        // Wednesday 2026-01-07 10:20:30.456 UTC.
        let start = 1_767_781_230_456;
        let calendar = Calendar::new(start);
        assert_eq!(calendar.clock_ms(0), start);
        let mut last = start;
        for i in 1..50_000_i64 {
            let ms = start + i * 61_007;
            assert_eq!(calendar.clock_ms(calendar.shop_time(ms)), ms);
            let clock = calendar.clock_ms(i as u64 * 999_999_937);
            assert!(clock >= last);
            last = clock;
        }
    }

    #[test]
    fn a_week_on_average_is_about_a_week() {
        let calendar = Calendar::new(1_767_571_200_000);
        let week = calendar.average(WEEK_MS as u64);
        assert!((week as f64 / calendar.hours[168] as f64 - 1.0).abs() < 1e-3);
    }
}
