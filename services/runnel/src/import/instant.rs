//! Times as files write them.

use super::TimeUnit;

/// Days from 1970-01-01 of a date of the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
#[inline]
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days from 1970-01-01; the inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[inline(always)]
fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z of a time: RFC 3339 with any offset and up to nine fractional digits (cut to milliseconds), or a whole number in `unit`.
#[inline]
pub(super) fn parse(text: &[u8], unit: TimeUnit) -> Option<i64> {
    match text.get(4) {
        Some(b'-') => rfc3339(text),
        _ => whole(text).and_then(|value| from_unit(value, unit)),
    }
}

/// Milliseconds of a whole number in `unit`; a part of a millisecond is cut off towards the past.
pub(super) fn from_unit(value: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::S => value.checked_mul(1_000),
        TimeUnit::Ms => Some(value),
        TimeUnit::Us => Some(value.div_euclid(1_000)),
    }
}

fn whole(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A second is written 60 only for leap seconds, which are read as the second after.
#[inline]
fn rfc3339(text: &[u8]) -> Option<i64> {
    let clock = text.get(..19)?;
    let apart = clock[7] == b'-' && clock[13] == b':' && clock[16] == b':';
    if !apart || !matches!(clock[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(&clock[..4])?, number(&clock[5..7])?, number(&clock[8..10])?);
    let (hour, minute, second) = (number(&clock[11..13])?, number(&clock[14..16])?, number(&clock[17..19])?);
    let good = (1..=12).contains(&month) && day >= 1 && (day <= 28 || day <= days_in_month(year, month));
    if !good || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let rest = &text[19..];
    // What nearly every file has.
    if let [b'.', a, b, c, b'Z'] = rest {
        return Some(seconds * 1_000 + number(&[*a, *b, *c])?);
    }
    let (ms, zone) = match rest.strip_prefix(b".") {
        None => (0, rest),
        Some(fraction) => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&length) {
                return None;
            }
            let mut padded = [b'0'; 3];
            padded.iter_mut().zip(&fraction[..length]).for_each(|(to, from)| *to = *from);
            (number(&padded)?, &fraction[length..])
        }
    };
    let offset = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    Some((seconds - offset) * 1_000 + ms)
}

/// Writes an instant as RFC 3339 in UTC with exactly `digits` fractional digits. `value` counts units of which there are 10^`digits` in a second.
pub(super) fn format(value: i64, digits: usize) -> String {
    let per_second = 10i64.pow(digits as u32);
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let clock = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:0digits$}Z")
}

/// Writes a date, given as days since 1970-01-01.
pub(super) fn format_date(value: i64) -> String {
    let (year, month, day) = date(value);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<i64> {
        parse(text.as_bytes(), TimeUnit::Ms)
    }

    #[test]
    fn times_are_read_as_another_library_reads_them() {
        for text in [
            "2017-08-01T07:00:40.000Z",
            "1970-01-01T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "2000-02-29T12:34:56.789Z",
            "2024-02-29T23:59:59.123456789Z",
            "1904-02-29T00:00:00.1Z",
            "2017-08-01T07:00:40Z",
            "2017-08-01T07:00:40+05:30",
            "2017-08-01T07:00:40.25-11:45",
            "2017-08-01 07:00:40.25z",
            "0001-01-01T00:00:00.000Z",
            "9999-12-30T20:59:59.999Z",
        ] {
            let expected: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(ms(text), Some(expected.as_nanosecond().div_euclid(1_000_000) as i64), "{text}");
        }
        assert_eq!(ms("1969-12-31T23:59:59.9999Z"), Some(-1), "cut, not rounded");
        assert_eq!(ms("2016-12-31T23:59:60Z"), ms("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn whole_numbers_have_a_unit() {
        assert_eq!(ms("1501570840123"), Some(1_501_570_840_123));
        assert_eq!(ms("-5"), Some(-5));
        assert_eq!(parse(b"1501570840", TimeUnit::S), Some(1_501_570_840_000));
        assert_eq!(parse(b"-1501", TimeUnit::Us), Some(-2));
        assert_eq!(parse(b"9223372036854775807", TimeUnit::S), None);
    }

    #[test]
    fn everything_else_is_no_time() {
        for text in [
            "",
            "now",
            "-",
            "+5",
            "1.5",
            "99999999999999999999",
            "2017-08-01",
            "2017-08-01T07:00:40",
            "2017-08-01T07:00:40.Z",
            "2017-08-01T07:00:40.1234567890Z",
            "2017-08-01T07:00:40.000",
            "2017-02-29T07:00:40.000Z",
            "2017-04-31T07:00:40.000Z",
            "2017-13-01T07:00:40.000Z",
            "2017-00-01T07:00:40.000Z",
            "2017-08-00T07:00:40.000Z",
            "2017-08-01T24:00:00.000Z",
            "2017-08-01T07:60:00.000Z",
            "2017-08-01T07:00:61.000Z",
            "2017-08-01T07:00:40+0530",
            "2017-08-01T07:00:40+24:00",
            "2017/08/01T07:00:40Z",
            "2017-08-01T07:00:40.0a0Z",
            "2017-08-01T07:00:40.000Z ",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for day in (-719_162..2_932_896).step_by(37) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
        assert_eq!(format(1_501_570_840_123, 3), "2017-08-01T07:00:40.123Z");
        assert_eq!(format(-1, 6), "1969-12-31T23:59:59.999999Z");
        assert_eq!(format_date(17_379), "2017-08-01");
    }
}
