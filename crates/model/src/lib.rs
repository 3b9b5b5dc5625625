//! Nouns, identifiers, time and every limit. Pure: no I/O, no clock, no wire types.
//!
//! The central noun is [`EventBatch`]: events as columns with a dictionary. Ingest decodes the wire straight into it, the journal stores it,
//! compaction sorts it and readers build journeys from it, so that an event is never a tree of owned strings.

mod batch;
mod content;
mod conversion;
mod dictionary;
mod duration;
mod field;
mod identity;
pub mod limits;
mod predicate;
mod privacy;
mod short;
mod tenant;

pub use batch::{Column, ColumnKey, EventBatch, EventRef, Ids, ValueRef, ValueType, Values};
pub use content::{ContentSum, content_hashes, derived_event_id};
pub use conversion::{
    ChannelSettings, Conversion, Counting, CurrencyOf, EventMatch, Rule, SessionThreshold, Settings, Visit,
    Worth,
};
pub use dictionary::Dictionary;
pub use duration::{DurationError, format_duration, parse_duration_ms};
pub use field::Field;
pub use identity::{Change, Claim, ClaimKind, Identities, Standing};
pub use predicate::{
    Attribute, Dimension, Operator, Predicate, Selector, Value, compare_numbers, values_equal,
};
pub use privacy::{Erased, Erasing, Mark, Privacy, Secret, UNOBSERVED_CHANNEL, Unobserved, hour, is_nobody};
pub use short::Short;
pub use tenant::{TenantName, TenantNameError};

/// Number of shards that visitors are divided into: by the highest six bits of [`visitor_hash`].
pub const SHARDS: usize = 64;

/// The persisted hash of a visitor id: XXH3-64 with seed 0. It decides the visitor's shard and partition and never changes.
#[must_use]
pub fn visitor_hash(visitor: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(visitor.as_bytes())
}

/// The shard of a visitor, `0..SHARDS`.
#[must_use]
pub fn shard_of(visitor: &str) -> usize {
    (visitor_hash(visitor) >> 58) as usize
}
