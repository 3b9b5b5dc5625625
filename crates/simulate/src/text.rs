//! Numbers and values as text, without the formatting machinery.

use std::io::Write;

use crate::Value;
use crate::value::section;
use crate::vocabulary::SECTIONS;

/// Appends the lowest `digits` hexadecimal digits of `n`, or more if it has more.
pub(crate) fn push_hex(out: &mut Vec<u8>, n: u64, digits: usize) {
    let digits = digits.max(16 - n.leading_zeros() as usize / 4);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(n >> (4 * place) & 15) as usize]);
    }
}

/// Appends `n` in decimal with at least `digits` digits.
pub(crate) fn push_padded(out: &mut Vec<u8>, mut n: u64, digits: usize) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    while n > 0 || buffer.len() - at < digits {
        at -= 1;
        buffer[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Appends `n` in decimal.
pub(crate) fn push_uint(out: &mut Vec<u8>, n: u64) {
    push_padded(out, n, 1);
}

/// Appends a value as its `Display` shows it.
pub(crate) fn push_value(out: &mut Vec<u8>, value: Value) {
    match value {
        Value::Str(text) => out.extend_from_slice(text.as_bytes()),
        Value::Product(product) => {
            out.extend_from_slice(b"sku-");
            push_padded(out, u64::from(product), 4);
        }
        Value::Page(page) => {
            out.push(b'/');
            out.extend_from_slice(section(page).as_bytes());
            out.push(b'/');
            push_padded(out, u64::from(page) / SECTIONS.len() as u64, 2);
        }
        Value::Int(n) => {
            if n < 0 {
                out.push(b'-');
            }
            push_uint(out, n.unsigned_abs());
        }
        Value::Cents(cents) => {
            push_uint(out, u64::from(cents) / 100);
            out.push(b'.');
            push_padded(out, u64::from(cents) % 100, 2);
        }
        Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Value::Float(x) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{x}");
        }
    }
}
