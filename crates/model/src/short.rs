//! Short texts as numbers, so that they are compared and looked up without a branch that depends on their length.

/// A text of at most 15 bytes: its bytes and its length. Equal where the texts are; never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short(u128);

impl Short {
    /// Most bytes of a text.
    pub const MOST: usize = 15;

    /// The text as a number, or `None` when it is too long. `buffer` is what the text is a part of: whole words of it are read.
    #[inline]
    #[must_use]
    pub fn of(text: &[u8], buffer: &[u8]) -> Option<Short> {
        if text.len() > Short::MOST {
            return None;
        }
        let at = text.as_ptr().addr().wrapping_sub(buffer.as_ptr().addr());
        let word = match buffer.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(chunk) => u128::from_le_bytes(*chunk) & ((1 << (8 * text.len())) - 1),
            // At the end of the buffer, or somewhere else.
            None => text.iter().rev().fold(0, |word, &byte| word << 8 | u128::from(byte)),
        };
        Some(Short(word | (text.len() as u128 + 1) << 120))
    }

    /// A place in a table of 256.
    #[inline]
    #[must_use]
    pub fn place(self) -> usize {
        let folded = self.0 as u64 ^ ((self.0 >> 64) as u64).rotate_left(29);
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
    }
}

/// Whether two texts are the same.
#[inline]
#[must_use]
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (one.first_chunk::<8>(), one.last_chunk::<8>(), other.first_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(one_first), Some(one_last), Some(other_first), Some(other_last)) => {
            one_first == other_first && one_last == other_last && (one.len() <= 16 || one == other)
        }
        _ => one.iter().eq(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn texts_are_equal_where_their_bytes_are(
            buffer in proptest::collection::vec(0u8..2, 1..40),
            from in 0usize..40,
            length in 0usize..20,
            other in proptest::collection::vec(0u8..2, 0..20),
            at in 0usize..20,
        ) {
            let from = from % buffer.len();
            let one = &buffer[from..buffer.len().min(from + length)];
            proptest::prop_assert_eq!(equal(one, &other), one == other);
            let (short, copy) = (Short::of(one, &buffer), one.to_vec());
            proptest::prop_assert_eq!(short, Short::of(&copy, &buffer), "elsewhere");
            proptest::prop_assert_eq!(short.is_none(), one.len() > 15);
            if let (Some(one_short), Some(other_short)) = (short, Short::of(&other, &other)) {
                proptest::prop_assert_eq!(one_short == other_short, one == other);
                proptest::prop_assert!(one_short != Short::default());
            }
            let mut changed = one.to_vec();
            proptest::prop_assert!(equal(one, &changed));
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1;
                proptest::prop_assert!(!equal(one, &changed));
            }
        }
    }
}
