//! Deletes what is to be erased: looks where it is, makes blocks anew without it, and frees at once what they take the place of.
//!
//! All of it can be done again from the start, so an erasure that is interrupted is carried out by whoever comes next. Events of erased ids are refused before it
//! begins, so that nothing comes behind what was looked at. What is older than events are kept goes in the same way.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use runnel_failpoints::hit;
use runnel_model::{Erased, Erasing, TenantName, shard_of};

use super::{
    CompactError, CompactOptions, CompactionReport, Merges,
    round::{Round, STEP_ROWS},
};
use crate::{
    Block, BlockError, BlockRef, FetchError, JournalRef, Listing, MergeError, Unavailable,
    backend::{Backend, Inputs, Purpose::Compaction},
    compute, listing,
    merge::{self, month_of},
};

/// What an erasure did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasureReport {
    /// The newest erasure that is done now; 0 where there was nothing to do.
    pub erasure: u64,
    /// Ids that were erased.
    pub ids: usize,
    /// Journal rows and blocks that were made anew.
    pub rewritten: u64,
}

/// Journal rows that are looked at in one go.
const ROWS: usize = 64;
/// How often everything is looked at again: because something was made anew, because an id was in use for longer than was known, or because a compaction that
/// was overtaken has shown a block since.
const ATTEMPTS: usize = 10;

/// Carries out the tenant's erasures.
pub(crate) async fn erase(
    backend: &Backend,
    merges: &Merges,
    tenant: &TenantName,
    now_ms: i64,
) -> Result<ErasureReport, CompactError> {
    let options = CompactOptions { force: true, ..CompactOptions::default() };
    let round = Round::new(backend.clone(), merges.clone(), tenant.clone(), options, now_ms);
    let task = tokio::spawn(alone(round));
    task.await.unwrap_or(Err(CompactError::Unavailable(Unavailable::Stopped)))
}

/// With other compactions of the tenant kept out.
async fn alone(round: Round) -> Result<ErasureReport, CompactError> {
    let Some(alone) = round.backend.compaction_lock(&round.tenant, true).await? else {
        return Ok(ErasureReport::default());
    };
    let (backend, tenant) = (round.backend.clone(), round.tenant.clone());
    let done = carry_out(round).await;
    backend.compaction_ends(&tenant, alone).await;
    done
}

/// Where events of erased ids are.
#[derive(Debug, Default)]
struct Found {
    /// The last journal row that has some.
    last_row: Option<u64>,
    blocks: Vec<BlockRef>,
    /// The batches that brought them.
    sequences: BTreeSet<u64>,
    /// When the last one happened, of ids that were used later than was known.
    latest: HashMap<String, i64>,
}

async fn carry_out(mut round: Round) -> Result<ErasureReport, CompactError> {
    hit("era.after_tombstone").await.map_err(Unavailable::from)?;
    let mut rewritten = 0;
    for _ in 0..ATTEMPTS {
        let (backend, tenant) = (&round.backend, &round.tenant);
        let listing = backend.list(Compaction, tenant, 0).await?;
        if listing.erasing.is_empty() {
            return finish(&round, listing.erasure).await;
        }
        let found = look(backend, tenant, &listing).await?;
        if !found.latest.is_empty() {
            // What was sent with a time ahead of the server's goes as well, and stays away.
            backend.erase_until(tenant, found.latest.into_iter().collect()).await?;
            continue;
        }
        if found.is_nothing() {
            // Only what was looked at is forgotten: a compaction that began before may have shown other blocks since.
            backend.forget_conflicts(tenant, &listing.erasing).await?;
            backend.purge(tenant).await?;
            backend.forget_erasing(tenant, listing.erasure).await?;
            let done = finish(&round, listing.erasure).await?;
            return Ok(ErasureReport { ids: listing.erasing.ids().count(), rewritten, ..done });
        }
        round.erasing = listing.erasing.clone();
        rewritten += rewrite(&round, found).await?;
    }
    Err(CompactError::Unsettled)
}

async fn rewrite(round: &Round, found: Found) -> Result<u64, CompactError> {
    let (backend, tenant) = (&round.backend, &round.tenant);
    if !found.sequences.is_empty() {
        backend.forget_requests(tenant, &found.sequences).await?;
    }
    let mut report = CompactionReport::default();
    if let Some(last) = found.last_row {
        round.rows_until(last, &mut report).await?;
    }
    let mut rewritten = report.inputs;
    for block in found.blocks {
        hit("era.mid_rewrite").await.map_err(Unavailable::from)?;
        let span = tracing::info_span!("erase", %tenant, block = block.id);
        tracing::Instrument::instrument(round.without_erased(block, &mut report), span).await?;
        rewritten += 1;
    }
    Ok(rewritten)
}

/// Says of erasures that they are done, once nothing of what was deleted can be read any more, the ids among it.
async fn finish(round: &Round, erasure: u64) -> Result<ErasureReport, CompactError> {
    let (backend, tenant) = (&round.backend, &round.tenant);
    if !backend.has_to_finish(tenant).await? {
        return Ok(ErasureReport::default());
    }
    backend.scrub().await?;
    hit("era.before_done").await.map_err(Unavailable::from)?;
    backend.erasures_end(tenant, erasure, round.now_ms()).await?;
    Ok(ErasureReport { erasure, ..ErasureReport::default() })
}

impl Round {
    /// Makes blocks of the journal rows up to one.
    async fn rows_until(&self, last: u64, report: &mut CompactionReport) -> Result<(), CompactError> {
        loop {
            let mut rows = self.backend.journal_inputs(&self.tenant, STEP_ROWS).await?;
            rows.retain(|row| row.sequence <= last);
            if rows.is_empty() {
                return Ok(());
            }
            while !rows.is_empty() {
                let step = self.step(&mut rows, usize::MAX, 1);
                let done = self.compact_rows(step).await?;
                if (done.inputs, done.quarantined) == (0, 0) {
                    // A newer program has to do it.
                    return Err(Unavailable::Stopped.into());
                }
                report.add(done);
            }
        }
    }

    /// Makes a block anew, or nothing when nothing is left of it.
    async fn without_erased(
        &self,
        input: BlockRef,
        report: &mut CompactionReport,
    ) -> Result<(), CompactError> {
        let block = listing::fetch_block(&self.backend, Compaction, &self.tenant, input.id).await;
        let (id, inputs) = (input.id, [(input, block.map_err(unreadable)?)]);
        let (tenant, erasing) = (self.tenant.clone(), self.erasing.clone());
        let merged = self.blocking(move || merge::merge_blocks(tenant.as_str(), &inputs, &erasing)).await?;
        match self.commit(Inputs::Blocks(vec![id]), merged?, report).await? {
            Some(_) => Ok(()),
            None => Err(Unavailable::Stopped.into()),
        }
    }
}

/// Looks at everything that is listed.
async fn look(backend: &Backend, tenant: &TenantName, listing: &Listing) -> Result<Found, CompactError> {
    let mut found = Found::default();
    for rows in listing.journal.chunks(ROWS) {
        let sequences: Vec<u64> = rows.iter().map(|row: &JournalRef| row.sequence).collect();
        let batches = listing::fetch_journal(backend, tenant, &sequences).await.map_err(unreadable)?;
        let erasing = listing.erasing.clone();
        found = compute(move || {
            for (number, batch) in &batches {
                let mut has = false;
                for (visitor, time_ms) in batch.visitors.iter().zip(&batch.times) {
                    has |= found.meets(batch.strings.get(*visitor), *time_ms, *number, &erasing);
                }
                if has {
                    found.last_row = found.last_row.max(Some(*number));
                }
            }
            found
        })
        .await
        .map_err(|_| Unavailable::Stopped)?;
    }
    for block in &listing.blocks {
        let read = listing::fetch_block(backend, Compaction, tenant, block.id).await.map_err(unreadable)?;
        let (erasing, reference) = (listing.erasing.clone(), block.clone());
        let looked = compute(move || found.look_at(&reference, &read, &erasing).map(|()| found));
        found = looked
            .await
            .map_err(|_| Unavailable::Stopped)?
            .map_err(|source| MergeError::Input { id: block.id, source })?;
    }
    Ok(found)
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.last_row.is_none() && self.blocks.is_empty()
    }

    /// Notes an event if it is to go: it happened up to the erasure, or was there when that was asked for. What came since is a new visitor's.
    fn meets(&mut self, id: &str, time_ms: i64, number: u64, erasing: &Erasing) -> bool {
        let is_kept = erasing.not_kept_until(id).is_none_or(|until_ms| time_ms > until_ms);
        let Some(Erased { until_ms, sequence }) = erasing.of(id) else { return !is_kept };
        let ahead = time_ms > until_ms;
        if ahead && number > sequence {
            return !is_kept;
        }
        if ahead {
            let latest = self.latest.entry(id.to_owned()).or_insert(time_ms);
            *latest = time_ms.max(*latest);
        }
        self.sequences.insert(number);
        true
    }

    fn look_at(
        &mut self,
        reference: &BlockRef,
        block: &Block,
        erasing: &Arc<Erasing>,
    ) -> Result<(), BlockError> {
        let mut has = false;
        let kept_from_ms = erasing.kept_from_ms();
        let is_old = kept_from_ms.is_some_and(|kept_from_ms| reference.month <= month_of(kept_from_ms));
        for (group, about) in block.row_groups().iter().enumerate() {
            if !is_old && !erasing.ids().any(|id| about.shards.contains(&shard_of(id))) {
                continue;
            }
            let keys = block.read_keys(group)?;
            let erased: Vec<Option<&str>> = (0..keys.visitors.len())
                .map(|at| {
                    std::str::from_utf8(keys.visitors.get(at)).ok().filter(|id| erasing.until(id).is_some())
                })
                .collect();
            for (row, &code) in keys.visitor_codes.iter().enumerate() {
                let Some(id) = erased[code as usize] else { continue };
                has |= self.meets(id, keys.times[row], keys.numbers[row], erasing);
            }
        }
        if has {
            self.blocks.push(reference.clone());
        }
        Ok(())
    }
}

/// What cannot be read cannot be looked at; the erasure waits until it can.
fn unreadable(fault: FetchError) -> CompactError {
    match fault {
        FetchError::Unavailable(fault) => CompactError::Unavailable(fault),
        other => CompactError::Fetch(other),
    }
}
