//! What is known of persons about whom nothing may be known: erased ones by a keyed hash, and those who denied consent not at all.

use std::{collections::HashMap, fmt};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a tenant's keyed hashes are made with. It leaves the store only to be hashed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A keyed hash of an id: 128 bits of HMAC-SHA-256. Stored, so how it is made never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

/// What tells apart what hashes are made of.
const ERASED: u8 = 1;
const UNOBSERVED: u8 = 2;

/// An hour and a day, in milliseconds.
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Secret {
    /// The mark that stands for an erased id.
    #[must_use]
    pub fn mark(&self, id: &str) -> Mark {
        self.hash(ERASED, &[id.as_bytes()])
    }

    /// What is kept of an event of somebody who denied consent to analytics instead of who, when and which: the same for each copy of it.
    #[must_use]
    pub fn unobserved(&self, visitor: &str, time_ms: i64, event_id: &[u8]) -> Unobserved {
        let hour_ms = hour(time_ms);
        let length = (visitor.len() as u64).to_le_bytes();
        let parts = [&time_ms.to_le_bytes()[..], &length[..], visitor.as_bytes(), event_id];
        let Mark(mark) = self.hash(UNOBSERVED, &parts);
        let within = u32::from_le_bytes([mark[1], mark[2], mark[3], mark[4]]);
        Unobserved {
            visitor: format!("{NOBODY}{}-{:02x}", hour_ms.div_euclid(DAY_MS), mark[0]),
            time_ms: hour_ms + i64::from(within) % HOUR_MS,
            event_id: mark.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn hash(&self, what: u8, parts: &[&[u8]]) -> Mark {
        // A key of any length is accepted.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Mark([0; 16]) };
        mac.update(&[what]);
        parts.iter().for_each(|part| mac.update(part));
        let bytes: [u8; 32] = mac.finalize().into_bytes().into();
        let mut mark = [0; 16];
        mark.copy_from_slice(&bytes[..16]);
        Mark(mark)
    }
}

/// The first character of what stands where a visitor's id would. No id of a client has it.
const NOBODY: char = '\0';

/// What stands in the place of an event's identity when nobody may be told by it. The visitors are 256 a day that are nobody, among whom such events are dealt out so
/// that no shard has them all, and a new one touches few; the time is any within the event's hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unobserved {
    /// Instead of the visitor's id.
    pub visitor: String,
    /// Instead of the time, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Instead of the event's id.
    pub event_id: String,
}

/// Whether an id stands for nobody.
#[must_use]
#[inline]
pub fn is_nobody(visitor: &[u8]) -> bool {
    visitor.first() == Some(&(NOBODY as u8))
}

/// When the hour of an instant begins.
#[must_use]
pub fn hour(time_ms: i64) -> i64 {
    time_ms.div_euclid(HOUR_MS) * HOUR_MS
}

/// The property of events without consent that says which channel they came by.
pub const UNOBSERVED_CHANNEL: &str = "channel";

/// What ingest has to know of persons about whom nothing may be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// The version of the tenant's erasures that this is of; 0 before the first.
    pub version: u64,
    /// What hashes are made with; `None` before the first.
    pub secret: Option<Secret>,
    /// Erased ids, and until when what happened is refused: milliseconds since the Unix epoch.
    pub erased: HashMap<Mark, i64>,
    /// What happened before this instant is refused, whoever it was, since events are not kept for so long. Milliseconds since the Unix epoch.
    pub refused_before_ms: Option<i64>,
}

impl Privacy {
    /// Until when, inclusive, what happened to a visitor is refused; `None` for somebody who was never erased.
    #[must_use]
    pub fn erased_until(&self, visitor: &str) -> Option<i64> {
        self.erased.get(&self.secret.as_ref()?.mark(visitor)).copied()
    }
}

/// Which events of an id are being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Those that happened up to this instant, inclusive. Milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// The number of the newest batch when the erasure was asked for.
    pub sequence: u64,
}

/// Which events do not count, and are deleted where they still are: those of erased ids, and those that are older than events are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erasing {
    ids: HashMap<String, Erased>,
    kept_from_ms: Option<i64>,
}

impl Erasing {
    /// Ids, and which of their events do not count any more; and from when on events are kept, whoever's they are.
    #[must_use]
    pub fn new(ids: HashMap<String, Erased>, kept_from_ms: Option<i64>) -> Erasing {
        Erasing { ids, kept_from_ms }
    }

    /// Whether every event counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.kept_from_ms.is_none()
    }

    /// From when on events are kept; `None` when all are. Milliseconds since the Unix epoch.
    #[must_use]
    pub fn kept_from_ms(&self) -> Option<i64> {
        self.kept_from_ms
    }

    /// Until when, inclusive, events that were sent with an id do not count; `None` when all do.
    #[must_use]
    pub fn until(&self, id: &str) -> Option<i64> {
        let own = self.ids.get(id).map(|erased| erased.until_ms);
        own.max(self.not_kept_until(id))
    }

    /// Until when, inclusive, events are not kept any more; `None` when all are. Of nobody's events only the hour is known, so that their hours are kept or not.
    #[must_use]
    pub fn not_kept_until(&self, id: &str) -> Option<i64> {
        let begins = |kept_from_ms| if is_nobody(id.as_bytes()) { hour(kept_from_ms) } else { kept_from_ms };
        self.kept_from_ms.map(|kept_from_ms| begins(kept_from_ms).saturating_sub(1))
    }

    /// Which events of an erased id do not count; `None` for an id that is not erased.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<Erased> {
        self.ids.get(id).copied()
    }

    /// The erased ids, in no certain order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_never_changes() {
        let secret = Secret([7; 32]);
        let one = secret.unobserved("ada", 1_700_000_123_456, b"e-1");
        assert_eq!(one, secret.unobserved("ada", 1_700_000_123_456, b"e-1"));
        assert_ne!(one, secret.unobserved("ada", 1_700_000_123_457, b"e-1"));
        assert_ne!(
            one,
            secret.unobserved("bob", 1_700_000_123_456, b"e-1"),
            "ids of events may be a visitor's own"
        );
        assert_ne!(secret.unobserved("ad", 1, b"a-1"), secret.unobserved("ada", 1, b"-1"));
        assert_ne!(one, secret.unobserved("ada", 1_700_000_123_456, b"e-2"));
        assert_ne!(one, Secret([8; 32]).unobserved("ada", 1_700_000_123_456, b"e-1"));
        assert!(one.visitor.starts_with("\u{0}19675-"));
        assert!(is_nobody(one.visitor.as_bytes()) && !is_nobody(b"ada") && !is_nobody(b""));
        assert_eq!(hour(one.time_ms), hour(1_700_000_123_456));
        assert_eq!(hour(-1), -HOUR_MS);
        assert_eq!(
            secret.mark("ada").0.map(|byte| format!("{byte:02x}")).concat(),
            "2941c765cdb3dd91e25dc9e354f223a5"
        );
    }

    #[test]
    fn the_erased_are_refused_up_to_their_erasure() {
        let secret = Secret([7; 32]);
        let erased = HashMap::from([(secret.mark("ada"), 100)]);
        let privacy = Privacy { version: 1, secret: Some(secret), erased, refused_before_ms: None };
        assert_eq!(privacy.erased_until("ada"), Some(100));
        assert_eq!(privacy.erased_until("bob"), None);
        assert_eq!(Privacy::default().erased_until("ada"), None);
    }

    #[test]
    fn what_is_not_kept_counts_for_nobody() {
        let ids = HashMap::from([("ada".to_owned(), Erased { until_ms: 500, sequence: 1 })]);
        let erasing = Erasing::new(ids.clone(), Some(100));
        assert_eq!((erasing.until("ada"), erasing.until("bob")), (Some(500), Some(99)));
        assert_eq!((erasing.of("ada").map(|erased| erased.until_ms), erasing.of("bob")), (Some(500), None));
        assert!(!erasing.is_empty() && !Erasing::new(HashMap::new(), Some(100)).is_empty());
        assert_eq!(Erasing::new(ids, None).until("bob"), None);
        let half_past = Erasing::new(HashMap::new(), Some(7 * HOUR_MS + HOUR_MS / 2));
        assert_eq!(half_past.until("\0day"), Some(7 * HOUR_MS - 1), "what may have happened later stays");
    }
}
