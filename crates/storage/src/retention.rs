//! For how long events are kept, as the store keeps it.

use crate::Versions;

/// For how long a tenant's events are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// For how many days; `None`: for ever.
    pub days: Option<u32>,
    /// What happened before this instant is refused. Milliseconds since the Unix epoch.
    pub refused_before_ms: Option<i64>,
    /// What happened before this instant is deleted, or is being deleted, and does not count. Milliseconds since the Unix epoch.
    pub kept_from_ms: Option<i64>,
    /// Whether something is still to be deleted, of that or of erased persons.
    pub deleting: bool,
}

/// From when on events are kept, and which counts know of what is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retain {
    /// For how many days they are kept. Where somebody has said something else by now, nothing is done.
    pub days: u32,
    /// Milliseconds since the Unix epoch.
    pub kept_from_ms: i64,
    /// The number of the tenant's aggregates.
    pub aggregates: u64,
    /// The truth that these were made of. Apart from later batches, and from later claims about who is who, it is still the truth.
    pub made_of: Versions,
}
