//! Why the store itself could not do something that it otherwise would.

use std::sync::Arc;

/// The store could not do its work. Nothing was changed, unless it says that the outcome is unknown; then the same request may be repeated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unavailable {
    /// There is no space left for data.
    #[error("the disk is full; free some space and repeat the request")]
    DiskFull,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A commit failed in a way that leaves open whether it took place. Repeating the same request is safe.
    #[error("the outcome of a commit is unknown; repeat the same request")]
    OutcomeUnknown(#[source] Arc<sqlx::Error>),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] Arc<sqlx::Error>),
    /// A worker of this process panicked or was shut down.
    #[error("a worker of the store was stopped")]
    Stopped,
}
