//! Hours, days, weeks and months of a time zone, as instants.

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use runnel_contracts::{
    proto::insight::v1::Interval,
    refusal::{Reason, Refusal},
};

/// A time zone of the IANA database, which the program carries with it.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    zone: TimeZone,
    name: String,
}

/// Width of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Hour,
    Day,
    Week,
    Month,
}

impl Width {
    /// The width of the wire.
    pub(crate) fn of(interval: Interval) -> Width {
        match interval {
            Interval::Hour => Width::Hour,
            Interval::Unspecified | Interval::Day => Width::Day,
            Interval::Week => Width::Week,
            Interval::Month => Width::Month,
        }
    }
}

impl Calendar {
    /// The calendar of a time zone; `at` is the field that names it.
    pub(crate) fn of(at: &str, name: &str) -> Result<Calendar, Refusal> {
        match TimeZone::get(name) {
            Ok(zone) => Ok(Calendar { zone, name: name.to_owned() }),
            Err(_) => {
                let text = format!(
                    "{name:?} is no time zone of the IANA database; write one like Europe/Berlin or UTC."
                );
                Err(Refusal::field(Reason::SettingsInvalid, at, text))
            }
        }
    }

    /// The time zone's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The ascending instants between which the buckets lie that touch `from_ms..until_ms`, in milliseconds: one more than there are buckets, the first at or before
    /// `from_ms`, the last at or after `until_ms`. `None` if there are more than `most` buckets. Days of a change to or from summer time have 23 or 25 hours.
    pub(crate) fn edges(&self, from_ms: i64, until_ms: i64, width: Width, most: usize) -> Option<Vec<i64>> {
        let mut at = self.start(from_ms, width)?;
        let mut edges = vec![at.timestamp().as_millisecond()];
        while edges.last().is_some_and(|last| *last < until_ms) {
            if edges.len() > most {
                return None;
            }
            at = self.next(&at, width)?;
            edges.push(at.timestamp().as_millisecond());
        }
        Some(edges)
    }

    /// The instant `count` buckets before the beginning of the bucket that holds an instant.
    pub(crate) fn before(&self, instant_ms: i64, width: Width, count: usize) -> Option<i64> {
        let start = self.start(instant_ms, width)?;
        let count = i64::try_from(count).ok()?;
        let earlier = match width {
            Width::Hour => start.checked_sub(count.hours()).ok()?,
            Width::Day => self.midnight(start.date().checked_sub(count.days()).ok()?)?,
            Width::Week => self.midnight(start.date().checked_sub(count.weeks()).ok()?)?,
            Width::Month => self.midnight(start.date().checked_sub(count.months()).ok()?)?,
        };
        Some(earlier.timestamp().as_millisecond())
    }

    /// The day that an instant lies in; `None` where the calendar ends.
    pub(crate) fn date(&self, instant_ms: i64) -> Option<Date> {
        Some(self.start(instant_ms, Width::Day)?.date())
    }

    /// The first day that begins at an instant or later; `None` where the calendar ends.
    pub(crate) fn first_date(&self, instant_ms: i64) -> Option<Date> {
        let start = self.start(instant_ms, Width::Day)?;
        if start.timestamp().as_millisecond() == instant_ms {
            return Some(start.date());
        }
        start.date().tomorrow().ok()
    }

    /// The beginning of the bucket that holds an instant.
    fn start(&self, instant_ms: i64, width: Width) -> Option<Zoned> {
        let local = Timestamp::from_millisecond(instant_ms).ok()?.to_zoned(self.zone.clone());
        let date = local.date();
        match width {
            // Minutes are cut off in elapsed time, so that the repeated hour of autumn has two beginnings.
            Width::Hour => {
                let into = 60_000 * i64::from(local.minute())
                    + 1_000 * i64::from(local.second())
                    + i64::from(local.millisecond());
                Some(Timestamp::from_millisecond(instant_ms - into).ok()?.to_zoned(self.zone.clone()))
            }
            Width::Day => self.midnight(date),
            Width::Week => {
                let since_monday = i64::from(date.weekday().since(Weekday::Monday));
                self.midnight(date.checked_sub(since_monday.days()).ok()?)
            }
            Width::Month => self.midnight(date.first_of_month()),
        }
    }

    fn next(&self, at: &Zoned, width: Width) -> Option<Zoned> {
        match width {
            Width::Hour => at.checked_add(1.hour()).ok(),
            Width::Day => self.midnight(at.date().checked_add(1.day()).ok()?),
            Width::Week => self.midnight(at.date().checked_add(1.week()).ok()?),
            Width::Month => self.midnight(at.date().checked_add(1.month()).ok()?),
        }
    }

    /// The first instant of a day, which is not everywhere 00:00.
    fn midnight(&self, date: Date) -> Option<Zoned> {
        date.to_zoned(self.zone.clone()).ok()?.start_of_day().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn instant(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn days_follow_the_time_zone() {
        let berlin = Calendar::of("z", "Europe/Berlin").unwrap();
        // Clocks go forward on 2026-03-29.
        let (from, until) = (instant("2026-03-28T12:00:00Z"), instant("2026-03-30T00:00:00Z"));
        let edges = berlin.edges(from, until, Width::Day, 10).unwrap();
        let lengths: Vec<i64> = edges.windows(2).map(|pair| (pair[1] - pair[0]) / HOUR).collect();
        assert_eq!(edges[0], instant("2026-03-27T23:00:00Z"));
        assert_eq!(lengths, [24, 23, 24]);
        // Clocks go back on 2026-10-25: the hour from two to three comes twice.
        let (from, until) = (instant("2026-10-24T22:00:00Z"), instant("2026-10-25T23:00:00Z"));
        assert_eq!(berlin.edges(from, until, Width::Hour, 30).unwrap().len(), 26);
        assert!(Calendar::of("z", "Europe/Atlantis").unwrap_err().message.contains("IANA"));
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let utc = Calendar::of("z", "UTC").unwrap();
        let (from, until) = (instant("2026-11-28T09:00:00Z"), instant("2026-12-02T00:00:00Z"));
        let weeks = utc.edges(from, until, Width::Week, 10).unwrap();
        assert_eq!(
            weeks,
            ["2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"].map(instant)
        );
        let months = utc.edges(from, until, Width::Month, 10).unwrap();
        assert_eq!(
            months,
            ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"].map(instant)
        );
        assert_eq!(utc.edges(from, until, Width::Hour, 10), None);
        assert_eq!(utc.before(from, Width::Month, 3), Some(instant("2026-08-01T00:00:00Z")));
        assert_eq!(utc.before(from, Width::Week, 1), Some(instant("2026-11-16T00:00:00Z")));
    }
}
