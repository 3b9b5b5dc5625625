//! Storage: the truth in [`Store`], and hot state, which is no truth, in [`hot`].
//!
//! The truth is a journal of admitted batches, the blocks that compaction makes of it, receipts, tenants, keys and definitions.
//!
//! [`Store`] states the promises; a backend keeps them. What an acknowledgement means, what order readers see, and what happens on a repeat, on absence and
//! on a crash is written at each method. Time is always an argument.
//!
//! ```text
//! Admitted ── append ──► journal row ── compact ──► block
//!     (encoded)             └────── list ─────────────┘
//!                                    ▼ fetch_journal, fetch_block: immutable
//! ```

#![expect(
    clippy::duplicate_mod,
    reason = "statements that all backends have in common are compiled for each: see docs/decisions/0005-one-sql.md"
)]

mod admitted;
mod aggregates;
mod audit;
mod backend;
mod block;
mod compaction;
mod compute;
mod control;
mod embedded;
mod erasures;
#[cfg(test)]
mod golden;
pub mod hot;
mod identities;
mod journal;
mod listing;
mod lists;
mod merge;
mod notice;
mod point;
mod postgres;
mod retention;
#[cfg(feature = "simulation")]
mod simulated;
mod spans;
mod store;
mod turns;
mod unavailable;
mod warnings;
mod watch;

pub use admitted::{AdmitError, Admitted, AppendError, Journaled, Receipt, Request};
pub use aggregates::{AggregateCell, AggregateChange, AggregateError, AggregateState, Aggregates, Versions};
pub use audit::{Audit, AuditError};
pub use block::{Block, BlockColumn, BlockError, ColumnInfo, KeyColumns, RowGroup};
pub use compaction::{CompactError, CompactOptions, CompactionReport, ErasureReport};
pub use compute::{compute, compute_in_turn};
pub use control::{
    CreateTenantError, DefinitionChange, DefinitionRecord, KeyKind, KeyRecord, NameKind, PutKeyError,
    SaveDefinitionError, TenantRecord,
};
pub use embedded::{EmbeddedOptions, OpenError};
pub use erasures::{EraseError, Erasure};
pub use hot::Hot;
pub use identities::{ClaimError, Claimed, Identification, IdentityMergeError, Merged, Person};
pub use journal::JournalError;
pub use listing::{Backlog, BlockRef, ColumnBytes, FetchError, Found, JournalRef, Listing, Stats};
pub use lists::{ListError, ListRecord};
pub use merge::{MergeError, UnprovedError};
pub use notice::{CommitOutcome, Notice};
pub use postgres::{MigrateError, PostgresOpenError, PostgresOptions};
pub use retention::{Retain, Retention};
#[cfg(feature = "simulation")]
pub use simulated::{
    Isolation, Observer, SimulatedDatabase, SimulatedFaults, SimulatedOptions, SimulatedProcess,
    SimulatedTally,
};
pub use store::Store;
pub use turns::Turns;
pub use unavailable::Unavailable;
