//! Months of instants in UTC.

const DAY_MS: i64 = 86_400_000;

/// The month of an instant, as months since January of the year 0.
pub(crate) fn month_of(time_ms: i64) -> i32 {
    let (year, month) = civil(time_ms.div_euclid(DAY_MS));
    (year * 12 + month - 1).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// Year and month (1 to 12) of a day since the epoch. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(day: i64) -> (i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

/// Months of many instants that mostly follow each other.
#[derive(Default)]
pub(crate) struct Months {
    day: Option<(i64, i32)>,
}

impl Months {
    /// As [`month_of`].
    pub(crate) fn of(&mut self, time_ms: i64) -> i32 {
        let day = time_ms.div_euclid(DAY_MS);
        match self.day {
            Some((known, month)) if known == day => month,
            _ => {
                let month = month_of(time_ms);
                self.day = Some((day, month));
                month
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_turn_at_midnight_utc() {
        assert_eq!(month_of(0), 1970 * 12);
        assert_eq!(month_of(-1), 1969 * 12 + 11);
        assert_eq!(month_of(1_709_251_199_999), 2024 * 12 + 1);
        assert_eq!(month_of(1_709_251_200_000), 2024 * 12 + 2);
        assert_eq!(month_of(-62_135_596_800_000), 12);
        assert_eq!(month_of(253_402_300_799_999), 9999 * 12 + 11);
        let mut months = Months::default();
        for time in [5, 6, i64::MAX, i64::MIN, -1, 1_709_251_200_000] {
            assert_eq!(months.of(time), month_of(time));
        }
    }
}
