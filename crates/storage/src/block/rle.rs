//! Parquet's hybrid of run lengths and bit packing, for dictionary codes and definition levels.
//!
//! Codes are written in whole bytes, although fewer bits would do: zstd then sees the values and makes less of them than of packed bits.

/// The width in bits that codes below `count` are written with.
pub(crate) fn width(count: usize) -> u32 {
    match count {
        0..=0x100 => 8,
        0x101..=0x1_0000 => 16,
        0x1_0001..=0x100_0000 => 24,
        _ => 32,
    }
}

/// Encodes codes of whole bytes: as runs where values mostly repeat, else as one literal run.
pub(crate) fn encode_codes(codes: &[u32], width: u32, out: &mut Vec<u8>) {
    let bytes = (width / 8) as usize;
    let changes = codes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if changes < codes.len() / 4 {
        let mut at = 0;
        while let Some(&code) = codes.get(at) {
            let run = codes[at..].iter().take_while(|&&other| other == code).count();
            put_varint((run as u64) << 1, out);
            out.extend_from_slice(&code.to_le_bytes()[..bytes]);
            at += run;
        }
    } else {
        let groups = codes.len().div_ceil(8);
        put_varint((groups as u64) << 1 | 1, out);
        match bytes {
            1 => out.extend(codes.iter().map(|&code| code as u8)),
            2 => out.extend(codes.iter().flat_map(|&code| (code as u16).to_le_bytes())),
            _ => codes.iter().for_each(|code| out.extend_from_slice(&code.to_le_bytes()[..bytes])),
        }
        out.resize(out.len() + (groups * 8 - codes.len()) * bytes, 0);
    }
}

/// Encodes the definition levels of a page: which of `count` rows have a value. `rows` are those, ascending, counted from `first`.
pub(crate) fn encode_present(rows: &[u32], first: u32, count: usize, out: &mut Vec<u8>) {
    let runs = 1 + rows.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    if runs <= count / 32 + 1 {
        let mut next = first;
        let mut at = 0;
        while at < rows.len() {
            let start = rows[at];
            let length = rows[at..]
                .iter()
                .enumerate()
                .take_while(|&(offset, &row)| row == start + offset as u32)
                .count();
            put_run(u64::from(start - next), 0, out);
            put_run(length as u64, 1, out);
            next = start + length as u32;
            at += length;
        }
        put_run(u64::from(first + count as u32 - next), 0, out);
    } else {
        let groups = count.div_ceil(8);
        put_varint((groups as u64) << 1 | 1, out);
        let start = out.len();
        out.resize(start + groups, 0);
        for &row in rows {
            let bit = (row - first) as usize;
            out[start + bit / 8] |= 1 << (bit % 8);
        }
    }
}

fn put_run(length: u64, value: u8, out: &mut Vec<u8>) {
    if length > 0 {
        put_varint(length << 1, out);
        out.push(value);
    }
}

/// Decodes `count` values of `width` bits behind `out`.
pub(crate) fn decode(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Result<(), &'static str> {
    if width > 32 {
        return Err("codes wider than 32 bits");
    }
    let target = out.len() + count;
    out.reserve(count);
    let whole = (width as usize).div_ceil(8);
    let mut rest = bytes;
    while out.len() < target {
        let header = take_varint(&mut rest)?;
        let left = target - out.len();
        if header & 1 == 0 {
            let run = usize::try_from(header >> 1).map_err(|_| "a run is too long")?;
            let value = rest.get(..whole).ok_or("a run is cut off")?;
            rest = &rest[whole..];
            let value = value.iter().rev().fold(0u32, |value, &byte| value << 8 | u32::from(byte));
            if run == 0 {
                return Err("an empty run");
            }
            out.resize(out.len() + run.min(left), value);
        } else {
            let groups = usize::try_from(header >> 1).map_err(|_| "a run is too long")?;
            if groups == 0 {
                return Err("an empty run");
            }
            let values = groups.saturating_mul(8).min(left);
            let used = (values * width as usize).div_ceil(8);
            let literal = rest.get(..used).ok_or("a literal run is cut off")?;
            unpack(literal, width, values, out);
            rest = &rest[groups.saturating_mul(width as usize).min(rest.len())..];
        }
    }
    Ok(())
}

fn unpack(literal: &[u8], width: u32, values: usize, out: &mut Vec<u32>) {
    match width {
        8 => out.extend(literal.iter().map(|&byte| u32::from(byte))),
        16 => {
            out.extend(literal.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))))
        }
        _ => {
            let mask = (1u64 << width) - 1;
            for at in 0..values {
                let bit = at * width as usize;
                out.push((load(literal, bit / 8) >> (bit % 8) & mask) as u32);
            }
        }
    }
}

/// Eight bytes from `at`, with zeros behind the end.
pub(crate) fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8) {
        Some(&[a, b, c, d, e, f, g, h]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => {
            let rest = bytes.get(at..).unwrap_or_default();
            rest.iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
        }
    }
}

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a number is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is too long")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_come_back(codes in prop::collection::vec(0u32..70_000, 0..300), repeat in 1usize..20) {
            let codes: Vec<u32> = codes.iter().flat_map(|&code| std::iter::repeat_n(code, repeat)).collect();
            let mut bytes = Vec::new();
            encode_codes(&codes, 24, &mut bytes);
            let mut back = vec![7];
            decode(&bytes, 24, codes.len(), &mut back).unwrap();
            prop_assert_eq!(&back[1..], &codes[..]);
        }

        #[test]
        fn presence_comes_back(present in prop::collection::vec(prop::bool::weighted(0.9), 1..500), first in 0u32..99) {
            let rows: Vec<u32> =
                present.iter().zip(first..).filter(|(present, _)| **present).map(|(_, row)| row).collect();
            let mut bytes = Vec::new();
            encode_present(&rows, first, present.len(), &mut bytes);
            let mut back = Vec::new();
            decode(&bytes, 1, present.len(), &mut back).unwrap();
            prop_assert_eq!(back, present.iter().map(|&present| u32::from(present)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..60), width in 0u32..40) {
            let mut out = Vec::new();
            let _ = decode(&bytes, width, 100, &mut out);
            prop_assert!(out.len() <= 100);
        }
    }
}
