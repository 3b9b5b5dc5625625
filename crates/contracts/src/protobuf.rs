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
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
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
        if number == 0 { Err(Malformed) } else { Ok(Some((number, value))) }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
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
}
