//! Compaction of a tenant: what is due, and carrying it out so that no reader and no crash sees a half of it.

mod blocks;
mod erase;
mod memory;
mod plan;
mod round;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use runnel_model::TenantName;
use tokio::sync::Semaphore;

use self::{memory::Memory, round::Round};
use crate::{Backlog, FetchError, MergeError, Unavailable, backend::Backend};
pub use erase::ErasureReport;
pub(crate) use erase::erase;

/// When compaction acts and how much it takes at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactOptions {
    /// Do everything at once, due or not.
    pub force: bool,
    /// Journal rows are due when they take this many stored bytes …
    pub trigger_bytes: u64,
    /// … or when the oldest is this old, in milliseconds.
    pub trigger_age_ms: i64,
    /// Most stored bytes of journal rows in one step.
    pub step_bytes: u64,
    /// Most events in one step of journal rows, and about how many a round rewrites from blocks.
    pub step_events: u64,
    /// How many neighbouring blocks of about one size become one.
    pub fan_in: usize,
    /// Blocks that hold this many events are left alone, and merges stay below it.
    pub block_events: u64,
}

impl CompactOptions {
    /// Whether a round may find journal rows that are due. `false` is certain.
    pub fn may_be_due(&self, waiting: &Backlog, now_ms: i64) -> bool {
        self.force
            || waiting.bytes >= self.trigger_bytes
            || waiting.events >= round::STEP_ROWS as u64
            || now_ms.saturating_sub(waiting.oldest_ms) >= self.trigger_age_ms
    }
}

impl Default for CompactOptions {
    fn default() -> CompactOptions {
        CompactOptions {
            force: false,
            trigger_bytes: 4 << 20,
            trigger_age_ms: 5 * 60_000,
            step_bytes: 64 << 20,
            step_events: 2_000_000,
            fan_in: 8,
            block_events: 2_000_000,
        }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Journal rows that became blocks.
    pub inputs: u64,
    /// Blocks that were merged into others.
    pub merged: u64,
    /// Events read.
    pub events: u64,
    /// Copies that were dropped: same identity, same content.
    pub duplicates: u64,
    /// Copies that were dropped: same identity, other content.
    pub conflicts: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Bytes of the blocks written.
    pub bytes: u64,
    /// Journal rows that went to quarantine.
    pub quarantined: u64,
    /// Blocks that were found to be damaged, or to fail when they are merged. From now on this process leaves them alone.
    pub damaged: Vec<u64>,
    /// More is due.
    pub more: bool,
}

impl CompactionReport {
    /// Adds what another step did.
    fn add(&mut self, step: CompactionReport) {
        self.inputs += step.inputs;
        self.merged += step.merged;
        self.events += step.events;
        self.duplicates += step.duplicates;
        self.conflicts += step.conflicts;
        self.blocks += step.blocks;
        self.bytes += step.bytes;
        self.quarantined += step.quarantined;
        self.damaged.extend(step.damaged);
        self.more |= step.more;
    }
}

/// Why a compaction stopped. What it had committed before stays; the rest is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Whenever an erasure has looked at everything, there was something new to delete.
    #[error("events of erased persons are still found after they were deleted several times")]
    Unsettled,
    /// What an erasure has to look at cannot be read.
    #[error(transparent)]
    Fetch(FetchError),
    /// What an erasure has to make anew cannot be.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Merges at a time, over all tenants.
const MERGES_AT_A_TIME: usize = 2;

/// How much merges and rounds may take, beside what a caller chooses.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Most bytes before compression of the inputs of one merge of blocks: all distinct texts of theirs are in memory until it ends.
    merge_raw_bytes: u64,
    /// Most rows of repeats that one swap notes, unless a single batch has more: each is written while the transaction is open, which may take 30 seconds.
    swap_rows: usize,
    /// A round that wrote so many blocks, …
    round_blocks: u64,
    /// … or tried so many merges of blocks, ends, so that other tenants get their turn.
    round_merges: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { merge_raw_bytes: 512 << 20, swap_rows: 100_000, round_blocks: 512, round_merges: 64 }
    }
}

/// The merges that a store does at a time, and what it remembers of those it did.
#[derive(Debug, Clone)]
pub(crate) struct Merges {
    turns: Arc<Semaphore>,
    memory: Memory,
    bounds: Bounds,
}

impl Default for Merges {
    fn default() -> Merges {
        Merges {
            turns: Arc::new(Semaphore::new(MERGES_AT_A_TIME)),
            memory: Memory::default(),
            bounds: Bounds::default(),
        }
    }
}

/// Compacts in a task of its own, so that a caller who goes away does not leave half a step.
pub(crate) async fn compact(
    backend: &Backend,
    merges: &Merges,
    tenant: &TenantName,
    options: CompactOptions,
    now_ms: i64,
) -> Result<CompactionReport, CompactError> {
    let round = Round::new(backend.clone(), merges.clone(), tenant.clone(), options, now_ms);
    let task = tokio::spawn(round.run());
    task.await.unwrap_or(Err(CompactError::Unavailable(Unavailable::Stopped)))
}
