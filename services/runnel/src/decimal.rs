//! Decimal numbers without rounding: amounts of money and times with fractions are read from their digits, never by way of a binary fraction.

/// Most digits that are looked at; more than any amount or time has.
const DIGITS: usize = 30;

/// Millionths of a decimal number such as `29.99`, `-3` or `1.5e3`. What is smaller than a millionth is cut off towards zero. `None` when the text is no number
/// or the result does not fit.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Where the point stands behind, counted in digits from the start, when the unit is a millionth.
    let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + 6;
    let mut value: i128 = 0;
    let mut seen = 0;
    for digit in digits().map(i128::from).map(|digit| digit - i128::from(b'0')) {
        if seen >= kept {
            break;
        }
        value = value.checked_mul(10)?.checked_add(digit)?;
        seen += 1;
        if value > i128::from(i64::MAX) {
            return None;
        }
    }
    if value != 0 {
        let missing = usize::try_from((kept - seen).max(0)).ok().filter(|missing| *missing <= DIGITS)?;
        for _ in 0..missing {
            value = value.checked_mul(10)?;
        }
    }
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn digits_are_kept() {
        for (text, expected) in [
            ("29.99", 29_990_000),
            ("0.1", 100_000),
            ("-3", -3_000_000),
            ("+3", 3_000_000),
            ("1.5e3", 1_500_000_000),
            ("15E-1", 1_500_000),
            ("0.0000019", 1),
            ("1e-9", 0),
            ("0e99", 0),
            (".5", 500_000),
            ("7.", 7_000_000),
            ("1602611311.123", 1_602_611_311_123_000),
            ("000000000000000000000000000000000000001", 1_000_000),
        ] {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_no_number() {
        for text in
            ["", ".", "-", "1,5", "$5", "1e", "1e1.5", "1e99", "9223372036854775807", "0x1", "1 ", "NaN"]
        {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
