//! A round of a tenant: what is due, in which order, and when it is enough.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::join_all;
use runnel_failpoints::hit;
use runnel_model::{Erasing, TenantName};
use tokio::time::Instant;
use tracing::{Instrument, debug};

use super::{
    CompactError, CompactOptions, CompactionReport, MERGES_AT_A_TIME, Merges, blocks::Tried, plan::Plan,
};
use crate::{
    BlockRef, MergeError, Unavailable,
    backend::{Backend, Inputs, JournalInput, Purpose::Compaction, Swap, WrittenBlock},
    compute::compute_behind,
    merge::{Merged, NewBlock},
};

/// When so many stored bytes of a tenant wait, merging does not stand behind answering any more.
const URGENT_BYTES: u64 = 96 << 20;
/// When so many do, or more rows than are listed, two steps of half the size go on at a time. Below, half of the machine is left to those who ask and append.
const PRESSING_BYTES: u64 = 256 << 20;
/// Most journal rows of one step.
pub(super) const STEP_ROWS: usize = 10_000;
/// Most bytes before compression of one step's journal rows: bounds what compaction holds in memory.
const STEP_RAW_BYTES: u64 = 512 << 20;

pub(super) struct Round {
    pub(super) backend: Backend,
    pub(super) merges: Merges,
    pub(super) tenant: TenantName,
    pub(super) options: CompactOptions,
    /// What is left out of the blocks that are made.
    pub(super) erasing: Arc<Erasing>,
    /// When the round began, by the caller's clock and by the runtime's.
    now_ms: i64,
    began: Instant,
    /// Stored bytes of journal rows that wait; the most that can be where not all are listed, or somebody waits for all of it.
    waiting: AtomicU64,
    /// Blocks written and merges of blocks tried so far.
    written: AtomicU64,
    tried: AtomicU64,
}

impl Round {
    pub(super) fn new(
        backend: Backend,
        merges: Merges,
        tenant: TenantName,
        options: CompactOptions,
        now_ms: i64,
    ) -> Round {
        let (erasing, waiting, written, tried) = Default::default();
        let began = Instant::now();
        Round { backend, merges, tenant, options, erasing, now_ms, began, waiting, written, tried }
    }

    pub(super) async fn run(self) -> Result<CompactionReport, CompactError> {
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
        let mut plan = None;
        // Blocks can wait until the journal does not.
        while self.options.force || !(self.waits(URGENT_BYTES) || self.is_full() || report.events >= bound) {
            let known = match &mut plan {
                Some(known) => known,
                None => plan.insert(self.plan().await?),
            };
            let merges = self.due_blocks(known);
            if merges.is_empty() {
                break;
            }
            let done = merges.into_iter().map(|inputs| {
                let span = tracing::info_span!("merge blocks", tenant = %self.tenant, blocks = inputs.len());
                self.merge_blocks(inputs).instrument(span)
            });
            let mut stale = false;
            for done in join_all(done).await {
                let Tried { report: done, back, is_stale } = done?;
                report.add(done);
                back.into_iter().for_each(|block| known.put(block));
                stale |= is_stale;
            }
            if stale {
                plan = None;
            }
        }
        report.more = self.is_full() || !self.due_rows().await?.is_empty() || {
            let mut known = match plan {
                Some(known) => known,
                None => self.plan().await?,
            };
            !self.due_blocks(&mut known).is_empty()
        };
        Ok(report)
    }

    /// The instant at which something is written, by the caller's clock: what a long round retires late is not old already.
    pub(super) fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.now_ms.saturating_add(elapsed)
    }

    /// Whether so much waits.
    fn waits(&self, bytes: u64) -> bool {
        self.waiting.load(Ordering::Relaxed) >= bytes
    }

    /// Whether the round did enough, and the turn is another tenant's.
    pub(super) fn is_full(&self) -> bool {
        let bounds = &self.merges.bounds;
        !self.options.force
            && (self.written.load(Ordering::Relaxed) >= bounds.round_blocks
                || self.tried.load(Ordering::Relaxed) >= bounds.round_merges)
    }

    /// Counts a merge of blocks, whatever comes of it.
    pub(super) fn tries(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    /// The rows of the steps that go on at a time next; none when none is due.
    async fn due_rows(&self) -> Result<Vec<Vec<JournalInput>>, Unavailable> {
        let mut rows = self.backend.journal_inputs(&self.tenant, STEP_ROWS).await?;
        self.merges.memory.cut(&self.tenant, &mut rows);
        let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
        let oldest = rows.first().map_or(self.now_ms, |row| row.created_ms);
        let aged = self.now_ms.saturating_sub(oldest) >= self.options.trigger_age_ms;
        let many = rows.len() == STEP_ROWS;
        let waiting = if self.options.force || many { u64::MAX } else { bytes };
        self.waiting.store(waiting, Ordering::Relaxed);
        if !(self.options.force || aged || bytes >= self.options.trigger_bytes || many) {
            return Ok(Vec::new());
        }
        let at_a_time = if self.waits(PRESSING_BYTES) { MERGES_AT_A_TIME } else { 1 };
        // Who waits for all of it has the memory; a service stays within what one step takes.
        let share = if self.options.force { 1 } else { at_a_time as u64 };
        let most = self.merges.memory.most_rows(&self.tenant);
        let mut due = Vec::new();
        while due.len() < at_a_time && !rows.is_empty() {
            due.push(self.step(&mut rows, most, share));
        }
        Ok(due)
    }

    /// Takes the rows of one step, one at least; `share` of what a step may take.
    pub(super) fn step(&self, rows: &mut Vec<JournalInput>, most: usize, share: u64) -> Vec<JournalInput> {
        let (mut bytes, mut raw, mut events) = (0, 0, 0);
        let fit = rows.iter().take(most).take_while(|row| {
            (bytes, raw, events) = (bytes + row.bytes, raw + row.raw_bytes, events + row.events);
            bytes <= self.options.step_bytes / share
                && raw <= STEP_RAW_BYTES / share
                && events <= self.options.step_events / share
        });
        let behind = rows.split_off(fit.count().max(1).min(rows.len()));
        std::mem::replace(rows, behind)
    }

    /// The blocks that may be merged, as they are now. They change with every merge of this round; what others do to them shows when a merge is swapped in.
    async fn plan(&self) -> Result<Plan, Unavailable> {
        let mut blocks = self.backend.list(Compaction, &self.tenant, 0).await?.blocks;
        self.merges.memory.sift(&self.tenant, &mut blocks);
        Ok(Plan::new(blocks))
    }

    /// The inputs of the merges that go on at a time next.
    fn due_blocks(&self, plan: &mut Plan) -> Vec<Vec<BlockRef>> {
        let at_a_time = if self.options.force { MERGES_AT_A_TIME } else { 1 };
        let most = self.merges.memory.most_blocks(&self.tenant);
        std::iter::from_fn(|| plan.next_merge(most, &self.options)).take(at_a_time).collect()
    }

    /// Stores the blocks and swaps them for their inputs. `None` when an input was not live any more; then nothing happened.
    pub(super) async fn commit(
        &self,
        inputs: Inputs,
        merged: Merged,
        report: &mut CompactionReport,
    ) -> Result<Option<Vec<BlockRef>>, Unavailable> {
        hit("drn.after_merge").await?;
        let mut blocks: Vec<WrittenBlock> = Vec::with_capacity(merged.blocks.len());
        if let Err(error) = self.write(merged.blocks, &mut blocks).await {
            for written in blocks {
                self.backend.discard(&self.tenant, written.id).await;
            }
            return Err(error);
        }
        let done = CompactionReport {
            events: merged.events,
            duplicates: merged.dropped.duplicates(),
            conflicts: merged.dropped.conflicts(),
            blocks: blocks.len() as u64,
            bytes: blocks.iter().map(|written| written.size).sum(),
            ..CompactionReport::default()
        };
        let references = blocks.iter().map(reference).collect();
        hit("drn.after_blocks").await?;
        let swap = Swap { inputs, blocks, dropped: merged.dropped, erased: merged.erased.events };
        let swapped = self.backend.swap(&self.tenant, swap, self.now_ms()).await?;
        hit("drn.after_commit").await?;
        if !swapped {
            return Ok(None);
        }
        debug!(tenant = %self.tenant, events = done.events, blocks = done.blocks, bytes = done.bytes, "compacted");
        report.add(done);
        Ok(Some(references))
    }

    /// Stores blocks where nobody sees them yet.
    async fn write(&self, new: Vec<NewBlock>, written: &mut Vec<WrittenBlock>) -> Result<(), Unavailable> {
        for block in new {
            written.push(self.backend.write_block(&self.tenant, block, self.now_ms()).await?);
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Merges when it has its turn.
    pub(super) async fn blocking(
        &self,
        merge: impl FnOnce() -> Result<Merged, MergeError> + Send + 'static,
    ) -> Result<Result<Merged, MergeError>, Unavailable> {
        let _turn = self.merges.turns.acquire().await.map_err(|_| Unavailable::Stopped)?;
        match compute_behind(self.waits(URGENT_BYTES), merge).await {
            Ok(result) => Ok(result.unwrap_or(Err(MergeError::Stopped))),
            Err(_) => Err(Unavailable::Stopped),
        }
    }
}

/// A block as a listing would have it.
fn reference(written: &WrittenBlock) -> BlockRef {
    let block = &written.block;
    BlockRef {
        id: written.id,
        first_sequence: block.first_sequence,
        last_sequence: block.last_sequence,
        month: block.month,
        partition: block.partition,
        events: block.events,
        bytes: written.size,
    }
}
