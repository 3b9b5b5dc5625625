//! Compaction of a tenant: what is due, and carrying it out so that no reader and no crash sees a half of it.

mod plan;

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::join_all;
use runnel_failpoints::hit;
use runnel_model::TenantName;
use tokio::sync::Semaphore;
use tracing::{Instrument, debug, warn};

use crate::{
    Backlog, BlockRef, FetchError, MergeError, Unavailable,
    backend::{Backend, Inputs, JournalInput, Purpose::Compaction, Swap, WrittenBlock},
    compute::compute_behind,
    listing,
    merge::{self, Merged, StoredRow},
};

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
            || waiting.events >= STEP_ROWS as u64
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
    /// Blocks that are damaged and were left alone.
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
    /// Blocks could not be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// When so many stored bytes of a tenant wait, merging does not stand behind answering any more.
const URGENT_BYTES: u64 = 96 << 20;
/// When so many do, or more rows than are listed, two steps of half the size go on at a time. Below, half of the machine is left to those who ask and append.
const PRESSING_BYTES: u64 = 256 << 20;
/// Most journal rows of one step.
const STEP_ROWS: usize = 10_000;
/// Most bytes before compression of one step's journal rows: bounds what compaction holds in memory.
const STEP_RAW_BYTES: u64 = 512 << 20;
/// Merges at a time, over all tenants.
const MERGES_AT_A_TIME: usize = 2;

/// The merges that a store does at a time.
#[derive(Debug, Clone)]
pub(crate) struct Merges(Arc<Semaphore>);

impl Default for Merges {
    fn default() -> Merges {
        Merges(Arc::new(Semaphore::new(MERGES_AT_A_TIME)))
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
    let (backend, merges) = (backend.clone(), merges.clone());
    let waiting = AtomicU64::new(0);
    let round = Round { backend, merges, tenant: tenant.clone(), options, now_ms, waiting };
    let task = tokio::spawn(round.run());
    task.await.unwrap_or(Err(CompactError::Unavailable(Unavailable::Stopped)))
}

struct Round {
    backend: Backend,
    merges: Merges,
    tenant: TenantName,
    options: CompactOptions,
    now_ms: i64,
    /// Stored bytes of journal rows that wait; the most that can be where not all are listed, or somebody waits for all of it.
    waiting: AtomicU64,
}

impl Round {
    async fn run(self) -> Result<CompactionReport, CompactError> {
        let Some(alone) = self.backend.compaction_lock(&self.tenant, self.options.force).await? else {
            return Ok(CompactionReport::default());
        };
        let result = match hit("drn.after_claim").await {
            Ok(()) => self.all_due().await,
            Err(injected) => Err(Unavailable::from(injected).into()),
        };
        self.backend.compaction_ends(&self.tenant, alone).await;
        result
    }

    async fn all_due(&self) -> Result<CompactionReport, CompactError> {
        let mut report = CompactionReport::default();
        loop {
            let steps = self.due_rows().await?;
            if steps.is_empty() {
                break;
            }
            self.backend.compaction_goes_on(&self.tenant).await?;
            let done = steps.into_iter().map(|rows| {
                let span = tracing::info_span!("compact rows", tenant = %self.tenant, rows = rows.len());
                self.compact_rows(rows).instrument(span)
            });
            for done in join_all(done).await {
                report.add(done?);
            }
            if !self.options.force {
                break;
            }
        }
        let bound = report.events + self.options.step_events;
        // Blocks can wait until the journal does not.
        while self.options.force || !self.waits(URGENT_BYTES) {
            let merges = self.due_blocks(&report).await?;
            if merges.is_empty() || (!self.options.force && report.events >= bound) {
                break;
            }
            self.backend.compaction_goes_on(&self.tenant).await?;
            let done = merges.into_iter().map(|inputs| {
                let span = tracing::info_span!("merge blocks", tenant = %self.tenant, blocks = inputs.len());
                self.merge_blocks(inputs).instrument(span)
            });
            for done in join_all(done).await {
                report.add(done?);
            }
        }
        report.more = !self.due_rows().await?.is_empty() || !self.due_blocks(&report).await?.is_empty();
        Ok(report)
    }

    /// Whether so much waits.
    fn waits(&self, bytes: u64) -> bool {
        self.waiting.load(Ordering::Relaxed) >= bytes
    }

    /// The rows of the steps that go on at a time next; none when none is due.
    async fn due_rows(&self) -> Result<Vec<Vec<JournalInput>>, Unavailable> {
        let mut rows = self.backend.journal_inputs(&self.tenant, STEP_ROWS).await?;
        let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
        let oldest = rows.first().map_or(self.now_ms, |row| row.created_ms);
        let aged = self.now_ms.saturating_sub(oldest) >= self.options.trigger_age_ms;
        let waiting = if self.options.force || rows.len() == STEP_ROWS { u64::MAX } else { bytes };
        self.waiting.store(waiting, Ordering::Relaxed);
        if !(self.options.force || aged || bytes >= self.options.trigger_bytes || rows.len() == STEP_ROWS) {
            return Ok(Vec::new());
        }
        let at_a_time = if self.waits(PRESSING_BYTES) { MERGES_AT_A_TIME } else { 1 };
        // Who waits for all of it has the memory; a service stays within what one step takes.
        let share = if self.options.force { 1 } else { at_a_time as u64 };
        let mut due = Vec::new();
        while due.len() < at_a_time && !rows.is_empty() {
            let (mut bytes, mut raw, mut events) = (0, 0, 0);
            let fit = rows.iter().take_while(|row| {
                (bytes, raw, events) = (bytes + row.bytes, raw + row.raw_bytes, events + row.events);
                bytes <= self.options.step_bytes / share
                    && raw <= STEP_RAW_BYTES / share
                    && events <= self.options.step_events / share
            });
            let behind = rows.split_off(fit.count().max(1));
            due.push(std::mem::replace(&mut rows, behind));
        }
        Ok(due)
    }

    /// The inputs of the merges that go on at a time next.
    async fn due_blocks(&self, report: &CompactionReport) -> Result<Vec<Vec<BlockRef>>, Unavailable> {
        let listing = self.backend.list(Compaction, &self.tenant, 0).await?;
        let mut taken = report.damaged.clone();
        let at_a_time = if self.options.force { MERGES_AT_A_TIME } else { 1 };
        let mut due = Vec::new();
        while due.len() < at_a_time
            && let Some(inputs) = plan::next_merge(&listing.blocks, &taken, &self.options)
        {
            taken.extend(inputs.iter().map(|input| input.id));
            due.push(inputs);
        }
        Ok(due)
    }

    /// Makes blocks of journal rows. Where that fails, of their halves; a single row that makes it fail goes to quarantine.
    async fn compact_rows(&self, rows: Vec<JournalInput>) -> Result<CompactionReport, CompactError> {
        let mut report = CompactionReport::default();
        let mut parts = vec![rows];
        while let Some(mut rows) = parts.pop() {
            match self.merge_rows(&rows).await? {
                Ok(merged) => {
                    let broken: Vec<u64> = merged.broken.iter().map(|(sequence, _)| *sequence).collect();
                    for (sequence, reason) in &merged.broken {
                        self.quarantine(*sequence, reason, &mut report).await?;
                    }
                    rows.retain(|row| !broken.contains(&row.sequence));
                    self.commit_rows(&rows, merged, &mut report).await?;
                }
                Err(_) if rows.len() > 1 => {
                    let behind = rows.split_off(rows.len() / 2);
                    parts.extend([behind, rows]);
                }
                Err(reason) => {
                    for row in &rows {
                        self.quarantine(row.sequence, &reason, &mut report).await?;
                    }
                }
            }
        }
        Ok(report)
    }

    async fn merge_rows(&self, rows: &[JournalInput]) -> Result<Result<Merged, MergeError>, Unavailable> {
        let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
        let mut payloads: HashMap<u64, Bytes> =
            self.backend.payloads(Compaction, &self.tenant, &sequences).await?.into_iter().collect();
        let stored = rows.iter().map(|row| StoredRow {
            number: row.sequence,
            events: row.events,
            payload: payloads.remove(&row.sequence),
        });
        let (tenant, stored) = (self.tenant.clone(), stored.collect::<Vec<_>>());
        hit("drn.after_fetch").await?;
        self.blocking(move || merge::merge_rows(tenant.as_str(), &stored)).await
    }

    async fn commit_rows(
        &self,
        rows: &[JournalInput],
        merged: Merged,
        report: &mut CompactionReport,
    ) -> Result<(), CompactError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let inputs = Inputs::Rows {
            first: first.sequence,
            last: last.sequence,
            rows: rows.len() as u64,
            bytes: rows.iter().map(|row| row.bytes).sum(),
            events: rows.iter().map(|row| row.events).sum(),
        };
        if self.commit(inputs, merged, report).await? {
            report.inputs += rows.len() as u64;
        }
        Ok(())
    }

    async fn merge_blocks(&self, inputs: Vec<BlockRef>) -> Result<CompactionReport, CompactError> {
        let mut report = CompactionReport::default();
        let mut blocks = Vec::with_capacity(inputs.len());
        for input in inputs {
            match listing::fetch_block(&self.backend, Compaction, &self.tenant, input.id).await {
                Ok(block) => blocks.push((input, block)),
                Err(FetchError::Unavailable(error)) => return Err(error.into()),
                Err(error) => {
                    warn!(tenant = %self.tenant, block = input.id, %error, "a block cannot be merged");
                    report.damaged.push(input.id);
                    return Ok(report);
                }
            }
        }
        let ids: Vec<u64> = blocks.iter().map(|(input, _)| input.id).collect();
        let tenant = self.tenant.clone();
        match self.blocking(move || merge::merge_blocks(tenant.as_str(), &blocks)).await? {
            Ok(merged) => {
                let count = ids.len() as u64;
                if self.commit(Inputs::Blocks(ids), merged, &mut report).await? {
                    report.merged += count;
                }
                Ok(report)
            }
            Err(MergeError::Input { id, source }) => {
                warn!(tenant = %self.tenant, block = id, error = %source, "a block cannot be merged");
                report.damaged.push(id);
                Ok(report)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the blocks and swaps them for their inputs. `false` when an input was not live any more; then nothing happened.
    async fn commit(
        &self,
        inputs: Inputs,
        merged: Merged,
        report: &mut CompactionReport,
    ) -> Result<bool, CompactError> {
        hit("drn.after_merge").await.map_err(Unavailable::from)?;
        let mut blocks: Vec<WrittenBlock> = Vec::with_capacity(merged.blocks.len());
        for block in merged.blocks {
            match self.backend.write_block(&self.tenant, block, self.now_ms).await {
                Ok(written) => blocks.push(written),
                Err(error) => {
                    for written in blocks {
                        self.backend.discard(&self.tenant, written.id).await;
                    }
                    return Err(error.into());
                }
            }
        }
        let done = CompactionReport {
            events: merged.events,
            duplicates: merged.dropped.duplicates(),
            conflicts: merged.dropped.conflicts(),
            blocks: blocks.len() as u64,
            bytes: blocks.iter().map(|written| written.size).sum(),
            ..CompactionReport::default()
        };
        hit("drn.after_blocks").await.map_err(Unavailable::from)?;
        let swap = Swap { inputs, blocks, dropped: merged.dropped };
        let swapped = self.backend.swap(&self.tenant, swap, self.now_ms).await?;
        hit("drn.after_commit").await.map_err(Unavailable::from)?;
        if swapped {
            debug!(tenant = %self.tenant, events = done.events, blocks = done.blocks, bytes = done.bytes, "compacted");
            report.add(done);
        }
        Ok(swapped)
    }

    async fn quarantine(
        &self,
        sequence: u64,
        reason: &(dyn Error + Sync),
        report: &mut CompactionReport,
    ) -> Result<(), Unavailable> {
        let mut text = reason.to_string();
        let mut cause = reason.source();
        while let Some(deeper) = cause {
            text = format!("{text}: {deeper}");
            cause = deeper.source();
        }
        warn!(tenant = %self.tenant, sequence, reason = text, "a journal row goes to quarantine");
        if self.backend.quarantine(&self.tenant, sequence, text, Some(self.now_ms)).await? {
            report.quarantined += 1;
        }
        Ok(())
    }

    async fn blocking(
        &self,
        merge: impl FnOnce() -> Result<Merged, MergeError> + Send + 'static,
    ) -> Result<Result<Merged, MergeError>, Unavailable> {
        let _turn = self.merges.0.acquire().await.map_err(|_| Unavailable::Stopped)?;
        match compute_behind(self.waits(URGENT_BYTES), merge).await {
            Ok(result) => Ok(result.unwrap_or(Err(MergeError::Stopped))),
            Err(_) => Err(Unavailable::Stopped),
        }
    }
}
