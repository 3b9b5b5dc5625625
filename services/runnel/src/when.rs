//! Instants as people write them.

use anyhow::{Context, bail};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// Milliseconds since the Unix epoch of `2026-03-01`, `2026-03-01T12:00:00Z`, `now`, or a number of milliseconds. A date is its midnight in UTC.
pub(crate) fn parse_instant(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_ms);
    }
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    if let Ok(date) = text.parse::<Date>() {
        return Ok(date
            .to_zoned(TimeZone::UTC)
            .context("the date is out of range")?
            .timestamp()
            .as_millisecond());
    }
    match text.parse::<Timestamp>() {
        Ok(timestamp) => Ok(timestamp.as_millisecond()),
        Err(_) => bail!(
            "write an instant as 2026-03-01, 2026-03-01T12:00:00Z, now, or milliseconds since 1970; {text:?} is none of these"
        ),
    }
}

/// An instant for a person, in UTC.
pub(crate) fn show_instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| format!("{at:.3}"))
}

/// A duration for a person: the two largest units.
pub(crate) fn show_duration(ms: i64) -> String {
    const UNITS: [(&str, i64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
    let Some(largest) = UNITS.iter().position(|(_, unit)| ms.abs() >= *unit) else { return "0 s".to_owned() };
    let (name, unit) = UNITS[largest];
    match UNITS.get(largest + 1).map(|(name, next)| (name, ms % unit / next)) {
        Some((next, rest)) if rest != 0 && name != "s" => format!("{} {name} {rest} {next}", ms / unit),
        _ => format!("{} {name}", ms / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_every_form() {
        for text in ["2026-03-01", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00", "1772323200000"] {
            assert_eq!(parse_instant(text, 0).unwrap(), 1_772_323_200_000, "{text}");
        }
        assert_eq!(parse_instant("now", 7).unwrap(), 7);
        assert!(parse_instant("yesterday", 0).is_err());
        assert_eq!(show_instant(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn durations_show_two_units() {
        let shown: Vec<_> = [0, 5, 1_500, 61_000, 86_400_000, 90_000_000].map(show_duration).into();
        assert_eq!(shown, ["0 s", "5 ms", "1 s", "1 min 1 s", "1 d", "1 d 1 h"]);
    }
}
