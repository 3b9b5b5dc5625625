//! Named places in the code where a test can make things go wrong: the process dies there, the step fails, it takes long, or everybody who waits for an answer goes away.
//!
//! Without the feature `armed` a point is nothing: [`hit`] is an empty function. With it, the variable `RUNNEL_FAILPOINTS` says what happens where:
//!
//! ```text
//! RUNNEL_FAILPOINTS='ing.before_commit=kill@3; drn.after_claim=sleep:200/10'
//! ```
//!
//! `@3`: at the third hit only. `/10`: at every tenth. The actions are `kill`, `error`, `sleep:MILLISECONDS` and `cancel`. With `RUNNEL_FAILPOINTS_LOG=FILE`
//! every action adds a line to that file before it happens.

#[cfg(feature = "armed")]
mod armed;
#[cfg(not(feature = "armed"))]
mod disarmed;

#[cfg(feature = "armed")]
pub use armed::{cancellable, hit};
#[cfg(not(feature = "armed"))]
pub use disarmed::{cancellable, hit};

/// Whether points do anything.
pub const ARMED: bool = cfg!(feature = "armed");

/// Every point, by what it belongs to.
pub const NAMES: &[&str] = &[
    // Ingest: a batch on its way to its acknowledgement.
    "ing.after_auth",
    "ing.after_decode",
    "ing.before_begin",
    "ing.in_begin",
    "ing.after_receipt",
    "ing.after_journal",
    "ing.before_commit",
    "ing.in_commit",
    "ing.after_commit_before_ack",
    // Compaction: journal rows on their way to blocks.
    "drn.after_claim",
    "drn.after_fetch",
    "drn.after_merge",
    "drn.after_blocks",
    "drn.after_lock",
    "drn.before_commit",
    "drn.after_commit",
    // Erasures.
    "era.after_tombstone",
    "era.mid_rewrite",
    "era.before_done",
    // A question on its way to its answer.
    "qry.after_snapshot",
    "qry.between_blocks_and_journal",
    "qry.after_fetch",
    // Open sessions on their way to the hot store.
    "hot.before_write",
    "hot.before_watermark",
    "hot.mid_rebuild",
    // The schema.
    "mig.before_ddl",
    "mig.between_steps",
    // The embedded store's own.
    "sq.before_commit",
    "sq.mid_checkpoint",
];

/// A test made the step fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a test made this fail: {0}")]
pub struct Injected(pub &'static str);
