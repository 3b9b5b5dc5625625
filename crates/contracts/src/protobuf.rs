//! Walks over protobuf bytes without building messages. Total: damaged bytes are an error, never a panic.

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a protobuf message")]
pub struct Malformed;

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A length and as many bytes.
    Bytes(&'a [u8]),
}

/// The fields of a message in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the beginning of a message.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field with its number, or `None` at the end.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if number == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?)),
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            // Most tags and lengths take one byte, most of the others two.
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*byte) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at as u32);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

/// Counts the elements of a repeated message field by skipping over them, so that a bomb of empty elements is seen before anything is allocated.
pub fn count_elements(message: &[u8], field: u32) -> Result<usize, Malformed> {
    let (mut fields, mut count) = (Fields::new(message), 0);
    while let Some((number, _)) = fields.next_field()? {
        count += usize::from(number == field);
    }
    Ok(count)
}

/// Counts the elements of a repeated message field while the bytes arrive, in pieces of any length. The field stands in the message itself or in a message that is
/// a field of it.
#[derive(Clone, Debug)]
pub struct ElementCounter {
    /// The field that holds the message with the field; 0 when there is none between.
    outer: u32,
    field: u32,
    state: At,
    /// Bytes so far.
    position: u64,
    /// Where the message that is being walked ends, when it is an inner one.
    inner_end: Option<u64>,
    count: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum At {
    /// A number of variable length with its value so far and its bits.
    Tag(u64, u32),
    /// The value of a field that is a varint.
    Varint(u32),
    /// A length of the field with this number.
    Length(u32, u64, u32),
    /// As many bytes that do not matter.
    Skip(u64),
}

const NEXT: At = At::Tag(0, 0);

impl ElementCounter {
    /// Counts `field`, or the `field` of every message that stands in the field `outer`.
    #[must_use]
    pub fn new(outer: Option<u32>, field: u32) -> ElementCounter {
        ElementCounter {
            outer: outer.unwrap_or(0),
            field,
            state: NEXT,
            position: 0,
            inner_end: None,
            count: 0,
        }
    }

    /// Walks over the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while let Some((&byte, rest)) = bytes.split_first() {
            // Most of a message is elements whose tag and length take two or three bytes.
            if let (At::Tag(0, 0), Some((number, length, head))) = (self.state, short_head(bytes)) {
                self.count_field(number);
                self.position += head as u64;
                self.state = self.length(number, length)?;
                bytes = &bytes[head..];
                continue;
            }
            if let At::Skip(left) = self.state {
                let taken = left.min(bytes.len() as u64);
                bytes = &bytes[taken as usize..];
                self.position += taken;
                self.state = if taken == left { self.next()? } else { At::Skip(left - taken) };
                continue;
            }
            bytes = rest;
            self.position += 1;
            self.state = match self.state {
                At::Tag(value, bits) => match varint(byte, value, bits)? {
                    (tag, None) => self.value(tag)?,
                    (value, Some(bits)) => At::Tag(value, bits),
                },
                At::Varint(bits) => match varint(byte, 0, bits)? {
                    (_, None) => self.next()?,
                    (_, Some(bits)) => At::Varint(bits),
                },
                At::Length(number, value, bits) => match varint(byte, value, bits)? {
                    (length, None) => self.length(number, length)?,
                    (value, Some(bits)) => At::Length(number, value, bits),
                },
                At::Skip(_) => return Err(Malformed),
            };
        }
        Ok(())
    }

    /// The count so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The count, if what was fed is a whole message.
    pub fn finish(self) -> Result<usize, Malformed> {
        match self.state {
            At::Tag(_, 0) if self.inner_end.is_none() => Ok(self.count),
            _ => Err(Malformed),
        }
    }

    fn value(&mut self, tag: u64) -> Result<At, Malformed> {
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        self.count_field(number);
        match tag & 7 {
            _ if number == 0 => Err(Malformed),
            0 => Ok(At::Varint(0)),
            1 => Ok(At::Skip(8)),
            2 => Ok(At::Length(number, 0, 0)),
            5 => Ok(At::Skip(4)),
            _ => Err(Malformed),
        }
    }

    fn count_field(&mut self, number: u32) {
        self.count += usize::from(number == self.field && (self.outer == 0 || self.inner_end.is_some()));
    }

    fn length(&mut self, number: u32, length: u64) -> Result<At, Malformed> {
        if self.outer != 0 && self.inner_end.is_none() && number == self.outer {
            self.inner_end = Some(self.position.checked_add(length).ok_or(Malformed)?);
            return self.next();
        }
        if length == 0 { self.next() } else { Ok(At::Skip(length)) }
    }

    /// A field is over; perhaps the inner message with it.
    fn next(&mut self) -> Result<At, Malformed> {
        match self.inner_end {
            Some(end) if self.position > end => Err(Malformed),
            Some(end) if self.position == end => {
                self.inner_end = None;
                Ok(NEXT)
            }
            _ => Ok(NEXT),
        }
    }
}

/// The number and length of a field at the beginning of some bytes, and how many bytes say so, where it has a length and few bytes say it.
fn short_head(bytes: &[u8]) -> Option<(u32, u64, usize)> {
    let (&tag, rest) = bytes.split_first()?;
    if tag >= 0x80 || tag & 7 != 2 || tag >> 3 == 0 {
        return None;
    }
    match rest {
        [length, ..] if *length < 0x80 => Some((u32::from(tag >> 3), u64::from(*length), 2)),
        [low, high, ..] if *high < 0x80 => {
            Some((u32::from(tag >> 3), u64::from(*low & 0x7f) | u64::from(*high) << 7, 3))
        }
        _ => None,
    }
}

/// One more byte of a varint: its value so far, and its bits when it goes on.
fn varint(byte: u8, value: u64, bits: u32) -> Result<(u64, Option<u32>), Malformed> {
    if bits > 63 {
        return Err(Malformed);
    }
    let value = value | u64::from(byte & 0x7f) << bits;
    Ok((value, (byte >= 0x80).then_some(bits + 7)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_bytes_are_an_error() {
        for bytes in [&[0x0a][..], &[0x0a, 5, 1], &[0x80; 11], &[0x07], &[0x00, 0x01], &[0x09, 1, 2]] {
            assert_eq!(count_elements(bytes, 1), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(count_elements(&[0x0a, 0, 0x0a, 1, 7, 0x10, 3], 1), Ok(2));
    }

    /// Counts in pieces of this many bytes.
    fn in_pieces(bytes: &[u8], size: usize, outer: Option<u32>, field: u32) -> Result<usize, Malformed> {
        let mut counter = ElementCounter::new(outer, field);
        bytes.chunks(size).try_for_each(|piece| counter.feed(piece))?;
        counter.finish()
    }

    proptest::proptest! {
        #[test]
        fn counting_in_pieces_counts_as_much(bytes: Vec<u8>, size in 1usize..9, field in 1u32..4) {
            proptest::prop_assert_eq!(in_pieces(&bytes, size, None, field), count_elements(&bytes, field));
        }

        #[test]
        fn whole_messages_count_alike(
            fields in proptest::collection::vec((1u32..5, proptest::collection::vec(0u8.., 0..40)), 0..30),
            size in 1usize..50,
        ) {
            let mut inner = Vec::new();
            for (number, bytes) in &fields {
                prost::encoding::bytes::encode(*number, bytes, &mut inner);
                prost::encoding::uint64::encode(*number, &u64::MAX, &mut inner);
                prost::encoding::fixed32::encode(*number, &7, &mut inner);
            }
            let count = 3 * fields.iter().filter(|(number, _)| *number == 2).count();
            proptest::prop_assert_eq!(in_pieces(&inner, size, None, 2), Ok(count));
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(1, &b"before".to_vec(), &mut outer);
            prost::encoding::bytes::encode(2, &inner, &mut outer);
            prost::encoding::bytes::encode(3, &b"behind".to_vec(), &mut outer);
            proptest::prop_assert_eq!(in_pieces(&outer, size, Some(2), 2), Ok(count));
            outer.pop();
            proptest::prop_assert_eq!(in_pieces(&outer, size, Some(2), 2), Err(Malformed));
        }
    }
}
