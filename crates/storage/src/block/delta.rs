//! Parquet's DELTA_BINARY_PACKED for whole numbers.

use super::rle::{load, put_varint, take_varint};

const BLOCK: usize = 128;
const MINI: usize = 32;

/// Encodes numbers.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    put_varint(BLOCK as u64, out);
    put_varint((BLOCK / MINI) as u64, out);
    put_varint(values.len() as u64, out);
    put_varint(zigzag(values.first().copied().unwrap_or(0)), out);
    let mut deltas = [0i64; BLOCK];
    for start in (1..values.len()).step_by(BLOCK) {
        let count = BLOCK.min(values.len() - start);
        for (at, delta) in deltas[..count].iter_mut().enumerate() {
            *delta = values[start + at].wrapping_sub(values[start + at - 1]);
        }
        let least = deltas[..count].iter().copied().min().unwrap_or(0);
        put_varint(zigzag(least), out);
        let widths = out.len();
        out.resize(widths + BLOCK / MINI, 0);
        for mini in 0..count.div_ceil(MINI) {
            let part = &deltas[mini * MINI..count.min((mini + 1) * MINI)];
            let largest = part.iter().map(|&delta| delta.wrapping_sub(least) as u64).max().unwrap_or(0);
            let width = 64 - largest.leading_zeros();
            out[widths + mini] = width as u8;
            pack(part, least, width, out);
        }
    }
}

fn pack(part: &[i64], least: i64, width: u32, out: &mut Vec<u8>) {
    let end = out.len() + MINI * width as usize / 8;
    let (mut pending, mut bits) = (0u128, 0u32);
    for &delta in part {
        pending |= u128::from(delta.wrapping_sub(least) as u64) << bits;
        bits += width;
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending as u8);
    }
    out.resize(end, 0);
}

/// Decodes exactly `count` numbers behind `out`.
pub(crate) fn decode(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), &'static str> {
    decode_some(bytes, count, out).map(|_| ())
}

/// As [`decode`]; gives what lies behind the numbers.
pub(crate) fn decode_some<'a>(
    bytes: &'a [u8],
    count: usize,
    out: &mut Vec<i64>,
) -> Result<&'a [u8], &'static str> {
    let mut rest = bytes;
    let block = take_varint(&mut rest)?;
    let minis = take_varint(&mut rest)?;
    if block == 0
        || block > 1 << 16
        || minis == 0
        || minis > block
        || block % minis != 0
        || block / minis % 32 != 0
    {
        return Err("delta blocks of an odd size");
    }
    let (minis, mini) = (minis as usize, (block / minis) as usize);
    if take_varint(&mut rest)? != count as u64 {
        return Err("another number of values than rows");
    }
    let mut value = unzigzag(take_varint(&mut rest)?);
    let target = out.len() + count;
    out.reserve(count);
    if count > 0 {
        out.push(value);
    }
    while out.len() < target {
        let least = unzigzag(take_varint(&mut rest)?);
        let widths = rest.get(..minis).ok_or("delta widths are cut off")?;
        rest = &rest[minis..];
        for &width in widths {
            if out.len() == target {
                break;
            }
            let length = mini * usize::from(width) / 8;
            if width > 64 {
                return Err("deltas wider than 64 bits");
            }
            let packed = rest.get(..length).ok_or("deltas are cut off")?;
            rest = &rest[length..];
            let values = mini.min(target - out.len());
            unpack(packed, u32::from(width), values, |delta| {
                value = value.wrapping_add(least).wrapping_add(delta as i64);
                out.push(value);
            });
        }
    }
    Ok(rest)
}

fn unpack(packed: &[u8], width: u32, values: usize, mut each: impl FnMut(u64)) {
    if width <= 56 {
        let mask = (1u64 << width) - 1;
        for at in 0..values {
            let bit = at * width as usize;
            each(load(packed, bit / 8) >> (bit % 8) & mask);
        }
    } else {
        let mask = u64::MAX >> (64 - width);
        for at in 0..values {
            let bit = at * width as usize;
            let low = u128::from(load(packed, bit / 8)) | u128::from(load(packed, bit / 8 + 8)) << 64;
            each((low >> (bit % 8)) as u64 & mask);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec(any::<i64>(), 0..400), shift in 0u32..63) {
            let values: Vec<i64> = values.iter().map(|value| value >> shift).collect();
            let mut bytes = Vec::new();
            encode(&values, &mut bytes);
            let mut back = Vec::new();
            decode(&bytes, values.len(), &mut back).unwrap();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0usize..99) {
            let _ = decode(&bytes, count, &mut Vec::new());
        }
    }
}
