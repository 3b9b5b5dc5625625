//! Lists of visitors, as the store keeps them: ids under a name, as they are now.

use runnel_model::{TenantName, limits};

use crate::Unavailable;

/// A list without its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRecord {
    /// Its name.
    pub name: String,
    /// How many ids are on it.
    pub members: u64,
    /// When ids were last put on it or taken off, in milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// Counts such changes, from 1.
    pub version: u64,
}

/// Why a list was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    TenantUnknown(TenantName),
    /// There is no such list.
    #[error("there is no list {0:?}")]
    Unknown(String),
    /// The tenant has as many lists as it may.
    #[error("a tenant has at most {} lists; delete one that is no longer used", limits::LISTS)]
    TooManyLists,
    /// The list would have more ids than it may.
    #[error(
        "a list has at most {} ids, and this one would have {members}; take off those that are no longer used, or put some on another list",
        limits::LIST_MEMBERS
    )]
    TooManyMembers {
        /// How many it would have.
        members: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
