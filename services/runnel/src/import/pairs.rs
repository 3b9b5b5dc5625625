//! Who is who, as rows say it: the same two ids stand on every row of a visitor who is signed in, and one statement is enough.
//!
//! An anonymous id belongs to the known id of its earliest identification, so what counts of a pair is its earliest time. Pairs are kept until the end of the
//! import, so that each is sent once; when there are too many to keep they are sent before, and a pair is sent again only if an earlier time is found later.

use std::collections::{BTreeMap, HashMap};

use runnel_client::proto::identity::v1::Identification;
use runnel_model::limits;
use xxhash_rust::xxh3::xxh3_128;

/// Pairs that wait.
const WAITING: usize = 200_000;
/// Pairs that are remembered as sent. When there are more, all are forgotten; to send one again is harmless.
const SENT: usize = 1_000_000;

/// Pairs of an anonymous and a known id, each with its earliest time.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// By anonymous, then known id.
    waiting: BTreeMap<(String, String), i64>,
    /// By a hash of both ids.
    sent: HashMap<u128, i64>,
}

impl Pairs {
    /// Notes that `anonymous` was known as `known` at a time. Two equal ids say nothing.
    pub(super) fn note(&mut self, anonymous: &str, known: &str, time_ms: i64) {
        if anonymous == known || self.were_sent(anonymous, known, time_ms) {
            return;
        }
        let earliest = self.waiting.entry((anonymous.to_owned(), known.to_owned())).or_insert(time_ms);
        *earliest = time_ms.min(*earliest);
    }

    fn were_sent(&self, anonymous: &str, known: &str, time_ms: i64) -> bool {
        !self.sent.is_empty() && self.sent.get(&hash(anonymous, known)).is_some_and(|sent| *sent <= time_ms)
    }

    /// Whether pairs have to be sent before more are noted.
    pub(super) fn are_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// Takes what waits, in pieces that fit into one call each.
    pub(super) fn drain(&mut self) -> Vec<Vec<Identification>> {
        let mut pieces: Vec<Vec<Identification>> = Vec::new();
        for ((anonymous_id, known_id), time_ms) in std::mem::take(&mut self.waiting) {
            if self.sent.len() >= SENT {
                self.sent.clear();
            }
            self.sent.insert(hash(&anonymous_id, &known_id), time_ms);
            let identification = Identification { anonymous_id, known_id, time_ms: Some(time_ms) };
            match pieces.last_mut() {
                Some(piece) if piece.len() < limits::IDENTIFICATIONS => piece.push(identification),
                _ => pieces.push(vec![identification]),
            }
        }
        pieces
    }
}

fn hash(anonymous: &str, known: &str) -> u128 {
    // Ids hold no NUL.
    xxh3_128(format!("{anonymous}\0{known}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_goes_once_with_its_earliest_time() {
        let mut pairs = Pairs::default();
        pairs.note("cookie", "user", 20);
        pairs.note("cookie", "user", 10);
        pairs.note("cookie", "user", 30);
        pairs.note("user", "user", 5);
        let sent = pairs.drain().concat();
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].anonymous_id.as_str(), sent[0].time_ms), ("cookie", Some(10)));
        pairs.note("cookie", "user", 10);
        assert!(pairs.drain().is_empty(), "it was sent");
        pairs.note("cookie", "user", 9);
        assert_eq!(pairs.drain().concat()[0].time_ms, Some(9), "an earlier time counts");
    }

    #[test]
    fn pieces_fit_into_a_call() {
        let mut pairs = Pairs::default();
        (0..2_500).for_each(|n| pairs.note(&format!("cookie-{n}"), "user", n));
        let sizes: Vec<usize> = pairs.drain().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
    }
}
