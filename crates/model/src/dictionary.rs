//! Strings of a batch, each stored once and named by its index.

use hashbrown::HashTable;

use crate::short::equal;

/// An append-only set of strings. Indices count from 0 in the order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    bytes: String,
    ends: Vec<u32>,
    /// Half of each string's hash and its index: growing asks no string for its hash again, and strings are compared only when they are equal but for chance.
    index: HashTable<(u32, u32)>,
}

impl Dictionary {
    /// The index of `text`, which is added when it is new.
    #[inline]
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = hash(text.as_bytes());
        match self.search(hash, text.as_bytes()) {
            Some(found) => found,
            None => self.add(hash, text),
        }
    }

    fn add(&mut self, hash: u32, text: &str) -> u32 {
        let at = self.ends.len() as u32;
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
        self.index.insert_unique(spread(hash), (hash, at), |&(hash, _)| spread(hash));
        at
    }

    /// Makes room for as many further strings of so many bytes together.
    pub fn reserve(&mut self, strings: usize, bytes: usize) {
        self.bytes.reserve(bytes);
        self.ends.reserve(strings);
        self.index.reserve(strings, |&(hash, _)| spread(hash));
    }

    #[inline]
    fn search(&self, hash: u32, text: &[u8]) -> Option<u32> {
        let (bytes, ends) = (self.bytes.as_bytes(), &self.ends);
        let same = |&(other, at): &(u32, u32)| other == hash && equal(&bytes[range(ends, at)], text);
        self.index.find(spread(hash), same).map(|(_, at)| *at)
    }

    /// The string with this index, or the empty string when there is none.
    #[must_use]
    pub fn get(&self, index: u32) -> &str {
        if (index as usize) < self.ends.len() { slice(&self.bytes, &self.ends, index) } else { "" }
    }

    /// The index of `text`, if it is there.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        self.find_bytes(text.as_bytes())
    }

    /// The index of the text with these bytes, if it is there: what is found is UTF-8.
    #[must_use]
    #[inline]
    pub fn find_bytes(&self, text: &[u8]) -> Option<u32> {
        self.search(hash(text), text)
    }

    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All strings in order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|at| slice(&self.bytes, &self.ends, at))
    }

    /// All strings one behind the other.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.bytes
    }

    /// Bytes held in memory, approximately.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.index.capacity() * 9
    }
}

#[inline]
fn range(ends: &[u32], at: u32) -> std::ops::Range<usize> {
    let at = at as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    start..ends[at] as usize
}

fn slice<'a>(bytes: &'a str, ends: &[u32], at: u32) -> &'a str {
    &bytes[range(ends, at)]
}

#[inline]
fn hash(text: &[u8]) -> u32 {
    xxhash_rust::xxh3::xxh3_64(text) as u32
}

/// The table looks at the highest and at the lowest bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_one_index() {
        let mut dictionary = Dictionary::default();
        let a = dictionary.intern("a");
        let empty = dictionary.intern("");
        assert_eq!(dictionary.intern("a"), a);
        assert_eq!(dictionary.get(empty), "");
        assert_eq!(dictionary.get(a), "a");
        assert_eq!(dictionary.len(), 2);
        assert_eq!(dictionary.find("b"), None);
        assert_eq!(dictionary.get(99), "");
    }
}
