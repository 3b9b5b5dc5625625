//! Durable counts of days, weeks and months, as the store keeps them. What is in them, it does not know.

use bytes::Bytes;

use crate::Unavailable;

/// The versions of the truth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions {
    /// The number of the newest batch.
    pub sequence: u64,
    /// The version of the definitions.
    pub definition: u64,
    /// The version of the identities.
    pub alias: u64,
    /// The version of the erasures.
    pub erasure: u64,
}

/// What a tenant's aggregates were made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateState {
    /// Counts changes of the aggregates from 1.
    pub number: u64,
    /// The truth at that time.
    pub made_of: Versions,
    /// What else there is to say.
    pub body: Bytes,
}

/// The counts of one length of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateCell {
    /// How long it is. The numbers are stored and never change.
    pub grain: u8,
    /// When it begins, in milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// The counts; none: there are none any more.
    pub body: Option<Bytes>,
}

/// A tenant's aggregates at an instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aggregates {
    /// The truth at that instant.
    pub head: Versions,
    /// How many of the versions of the erasures say no more than that older events are refused, or not kept.
    pub retentions: u64,
    /// From when on events are kept; `None` when all are. Milliseconds since the Unix epoch.
    pub kept_from_ms: Option<i64>,
    /// What the aggregates were made of; `None` where there are none.
    pub state: Option<AggregateState>,
    /// Those that were asked for.
    pub cells: Vec<AggregateCell>,
}

/// What takes the place of a tenant's aggregates.
#[derive(Debug, Clone)]
pub struct AggregateChange {
    /// The number that they must have; 0: there are none.
    pub expected: u64,
    /// What they are made of now.
    pub made_of: Versions,
    /// What else there is to say.
    pub body: Bytes,
    /// Those that are not as they were.
    pub cells: Vec<AggregateCell>,
    /// What is to be told of it, in pieces.
    pub restatements: Vec<Bytes>,
}

/// Why aggregates were not changed.
#[derive(Debug, thiserror::Error)]
pub enum AggregateError {
    /// Somebody else changed them first.
    #[error("the aggregates were changed by another process")]
    Stale,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
