//! A merge of neighbouring blocks into one, of as many of them as are not too much.

use runnel_model::Erasing;
use tracing::warn;

use super::{CompactError, CompactionReport, round::Round, rows::with_causes};
use crate::{
    Block, BlockRef, FetchError, MergeError,
    backend::{Inputs, Purpose::Compaction},
    listing, merge,
};

/// What came of a merge.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) report: CompactionReport,
    /// Blocks that may be merged again: what was written, and inputs that were not used.
    pub(super) back: Vec<BlockRef>,
    /// Somebody else changed the tenant's blocks meanwhile.
    pub(super) is_stale: bool,
}

impl Round {
    pub(super) async fn merge_blocks(&self, inputs: Vec<BlockRef>) -> Result<Tried, CompactError> {
        self.tries();
        let mut tried = Tried::default();
        let mut blocks = self.fetch_blocks(inputs, &mut tried).await?;
        loop {
            if blocks.len() < 2 {
                tried.back.extend(blocks.into_iter().map(|(input, _)| input));
                return Ok(tried);
            }
            let (tenant, inputs) = (self.tenant.clone(), blocks.clone());
            let merged = self
                .blocking(move || merge::merge_blocks(tenant.as_str(), &inputs, &Erasing::default()))
                .await?;
            let ids: Vec<u64> = blocks.iter().map(|(input, _)| input.id).collect();
            match merged {
                Ok(merged) if merged.dropped.rows() > self.merges.bounds.swap_rows => {
                    let behind = blocks.split_off(blocks.len().div_ceil(2));
                    tried.back.extend(behind.into_iter().map(|(input, _)| input));
                    if blocks.len() < 2 {
                        // Their repeats are told apart by whoever reads them, as before.
                        self.merges.memory.leave_alone(&self.tenant, &ids[..1]);
                        return Ok(tried);
                    }
                }
                Ok(merged) => {
                    drop(blocks);
                    match self.commit(Inputs::Blocks(ids.clone()), merged, &mut tried.report).await {
                        Ok(Some(written)) => {
                            self.merges.memory.blocks_swapped(&self.tenant);
                            tried.report.merged += ids.len() as u64;
                            tried.back.extend(written);
                        }
                        Ok(None) => tried.is_stale = true,
                        Err(error) => {
                            self.merges.memory.blocks_failed(&self.tenant, &ids);
                            return Err(error.into());
                        }
                    }
                    return Ok(tried);
                }
                Err(MergeError::Input { id, source }) => {
                    warn!(tenant = %self.tenant, block = id, error = with_causes(&source), "a block cannot be merged");
                    self.damaged(&[id], &mut tried);
                    tried
                        .back
                        .extend(blocks.into_iter().map(|(input, _)| input).filter(|input| input.id != id));
                    return Ok(tried);
                }
                // Whatever it is, the next merge of the same bytes would end in the same way.
                Err(error) => {
                    warn!(tenant = %self.tenant, blocks = ?ids, error = with_causes(&error), "blocks cannot be merged");
                    self.damaged(&ids, &mut tried);
                    return Ok(tried);
                }
            }
        }
    }

    /// The first of the inputs, as many as are not too large together. The others go back.
    async fn fetch_blocks(
        &self,
        inputs: Vec<BlockRef>,
        tried: &mut Tried,
    ) -> Result<Vec<(BlockRef, Block)>, CompactError> {
        let mut blocks: Vec<(BlockRef, Block)> = Vec::with_capacity(inputs.len());
        let (mut raw, mut inputs) = (0, inputs.into_iter());
        while let Some(input) = inputs.next() {
            match listing::fetch_block(&self.backend, Compaction, &self.tenant, input.id).await {
                Ok(block) => {
                    raw += block.raw_bytes();
                    blocks.push((input, block));
                }
                Err(FetchError::Unavailable(error)) => return Err(error.into()),
                Err(FetchError::Missing) => {
                    tried.is_stale = true;
                    return Ok(Vec::new());
                }
                Err(error) => {
                    warn!(tenant = %self.tenant, block = input.id, error = with_causes(&error), "a block cannot be merged");
                    self.damaged(&[input.id], tried);
                    tried.back.extend(blocks.into_iter().map(|(input, _)| input).chain(inputs));
                    return Ok(Vec::new());
                }
            }
            if raw > self.merges.bounds.merge_raw_bytes && blocks.len() > 1 {
                break;
            }
        }
        tried.back.extend(inputs);
        if raw > self.merges.bounds.merge_raw_bytes
            && let Some((input, block)) = blocks.pop()
        {
            match &blocks[..] {
                // Two are too large together. The larger one would be for others as well.
                [(first, other)] if other.raw_bytes() >= block.raw_bytes() => {
                    self.merges.memory.leave_alone(&self.tenant, &[first.id]);
                    tried.back.push(input);
                    blocks.clear();
                }
                [_] => self.merges.memory.leave_alone(&self.tenant, &[input.id]),
                _ => tried.back.push(input),
            }
        }
        Ok(blocks)
    }

    /// Notes blocks that are not merged again.
    fn damaged(&self, ids: &[u64], tried: &mut Tried) {
        self.merges.memory.leave_alone(&self.tenant, ids);
        tried.report.damaged.extend(ids);
    }
}
