//! Strings of a batch, each stored once and named by its index.

use hashbrown::HashTable;

/// An append-only set of strings. Indices count from 0 in the order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    bytes: String,
    ends: Vec<u32>,
    index: HashTable<u32>,
}

impl Dictionary {
    /// The index of `text`, which is added when it is new.
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = hash(text);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(&found) = self.index.find(hash, |&at| slice(bytes, ends, at) == text) {
            return found;
        }
        let at = self.ends.len() as u32;
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
        let (bytes, ends) = (&self.bytes, &self.ends);
        self.index.insert_unique(hash, at, |&other| crate::dictionary::hash(slice(bytes, ends, other)));
        at
    }

    /// The string with this index, or the empty string when there is none.
    #[must_use]
    pub fn get(&self, index: u32) -> &str {
        if (index as usize) < self.ends.len() { slice(&self.bytes, &self.ends, index) } else { "" }
    }

    /// The index of `text`, if it is there.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        self.index.find(hash(text), |&at| slice(&self.bytes, &self.ends, at) == text).copied()
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
        self.bytes.capacity() + self.ends.capacity() * 4 + self.index.capacity() * 5
    }
}

fn slice<'a>(bytes: &'a str, ends: &[u32], at: u32) -> &'a str {
    let at = at as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    &bytes[start..ends[at] as usize]
}

fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
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
