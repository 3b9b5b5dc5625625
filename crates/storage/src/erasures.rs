//! Erasures, as the store keeps them.

use runnel_model::{TenantName, limits};

use crate::Unavailable;

/// That a person is to be erased, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The tenant's number of it; it is the version of the erasures from then on.
    pub number: u64,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub requested_ms: i64,
    /// When nothing was left.
    pub done_ms: Option<i64>,
    /// Events that were deleted with it.
    pub events: u64,
    /// How many ids the person had; known when it is asked for, and forgotten then.
    pub ids: u32,
}

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    TenantUnknown(TenantName),
    /// They have more ids together than anything should.
    #[error("a person has at most {} identifications and merges", limits::IDS_OF_A_PERSON)]
    TooManyIds,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
