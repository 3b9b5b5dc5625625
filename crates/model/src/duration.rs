//! Durations as people write them: a whole number and one of ms, s, m, h, d.

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number, no unit, or another unit.
    #[error(
        "write a duration as a whole number and one of ms, s, m, h, d, for example 24h; {0:?} is not one"
    )]
    Form(String),
    /// The number does not fit.
    #[error("the duration {0:?} is longer than 292 million years")]
    TooLong(String),
}

const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Milliseconds of a duration such as `500ms`, `30s`, `15m`, `24h` or `7d`. Negative numbers are read, so that the caller can name the limit.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    let form = || DurationError::Form(text.chars().take(40).collect());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(form)?;
    let (number, unit) = trimmed.split_at(split);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(form)?;
    let number: i64 = number.trim().parse().map_err(|_| form())?;
    number.checked_mul(factor).ok_or_else(|| DurationError::TooLong(text.chars().take(40).collect()))
}

/// The shortest exact way to write a duration, for example `90m` or `7d`.
#[must_use]
pub fn format_duration(ms: i64) -> String {
    let (name, factor) =
        UNITS.iter().rev().find(|(_, factor)| ms != 0 && ms % factor == 0).copied().unwrap_or(UNITS[0]);
    format!("{}{name}", ms / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written() {
        for (text, ms) in
            [("5ms", 5), ("5s", 5_000), ("90m", 5_400_000), ("24h", 86_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse_duration_ms(text), Ok(ms));
            assert_eq!(parse_duration_ms(&format_duration(ms)), Ok(ms));
        }
        assert_eq!(format_duration(0), "0ms");
        for bad in ["", "5", "h", "5w", "5 hours", "1.5h"] {
            assert!(matches!(parse_duration_ms(bad), Err(DurationError::Form(_))), "{bad}");
        }
        assert!(matches!(parse_duration_ms("9223372036854775807d"), Err(DurationError::TooLong(_))));
    }
}
