//! Finds bytes eight at a time.

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of every byte of `word` that equals `byte`. Exact: no carry runs from byte to byte.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let differences = word ^ (ONES * u64::from(byte));
    !(((differences & LOW) + LOW) | differences | LOW)
}

/// Eight bytes from `at`, or what is left of them filled up with NUL.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8) {
        Some(&[a, b, c, d, e, f, g, h]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => {
            let mut word = [0; 8];
            let rest = bytes.get(at..).unwrap_or_default();
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(word)
        }
    }
}

/// Bytes of `bytes[at..at + 8]` that matter to CSV (comma, quote, line feed), as one bit in eight.
#[inline(always)]
pub(super) fn csv_marks(bytes: &[u8], at: usize) -> u64 {
    let word = word(bytes, at);
    equal(word, b',') | equal(word, b'\n') | equal(word, b'"')
}

/// The position of the first quote, backslash or control character at or after `from`: what ends a run of plain text in a JSON string.
#[inline]
pub(super) fn json_string_mark(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        let word = word(bytes, at);
        // Below 0x20. A borrow can mark bytes above the lowest that is marked rightly, and only the lowest counts.
        let control = word.wrapping_sub(ONES * 0x20) & !word & !LOW;
        let marks = equal(word, b'"') | equal(word, b'\\') | control;
        if marks != 0 {
            let found = at + (marks.trailing_zeros() / 8) as usize;
            return (found < bytes.len()).then_some(found);
        }
        at += 8;
    }
    None
}

/// The position of the first `byte` at or after `from`.
#[inline]
pub(super) fn find(bytes: &[u8], from: usize, byte: u8) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        let marks = equal(word(bytes, at), byte);
        if marks != 0 {
            let found = at + (marks.trailing_zeros() / 8) as usize;
            // Only a search for NUL finds the filling.
            return (found < bytes.len()).then_some(found);
        }
        at += 8;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_strings_are_those_of_a_plain_loop() {
        let bytes: Vec<u8> =
            (0..3_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8 | 0x40).collect();
        for (at, mark) in [(5, b'"'), (77, b'\\'), (1_023, 0x1f), (2_999, 0), (3_000, 0)] {
            let mut bytes: Vec<u8> =
                bytes.iter().map(|&byte| if byte == b'\\' { b'a' } else { byte }).collect();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = mark;
            }
            for from in [0, 3, 5, 6] {
                let plain = (from..bytes.len()).find(|&at| matches!(bytes[at], b'"' | b'\\' | 0..0x20));
                assert_eq!(json_string_mark(&bytes, from), plain, "{at} {from}");
            }
        }
    }

    #[test]
    fn finds_what_a_plain_loop_finds() {
        let bytes: Vec<u8> = (0..2_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for from in [0, 1, 7, 8, 9, 500, 1_993, 1_999, 2_000] {
            for byte in [0, b'\n', b',', 0x7f, 0x80, 0xff] {
                let plain = bytes[from..].iter().position(|&found| found == byte).map(|at| at + from);
                assert_eq!(find(&bytes, from, byte), plain, "{from} {byte}");
            }
        }
        assert_eq!(find(&[], 0, 0), None);
    }
}
