//! Neighbouring blocks of one month into one.

use runnel_model::{Attribute, ContentSum, Erasing, SHARDS, ValueType, shard_of};

use super::{
    MergeError, Merged, NewBlock, UnprovedError,
    erased::erased_rows,
    stage::{NOWHERE, Numbers, Stage, Vocabulary, scatter},
    target::{Target, ranges_for, shards_of},
};
use crate::{Block, BlockRef, block::IdForm};

/// Merges blocks of one month and partition, without what is erased; nothing may be left then. Reads row group by row group, so that what is in memory is a few of them and the written bytes.
pub(crate) fn merge_blocks(
    tenant: &str,
    inputs: &[(BlockRef, Block)],
    erasing: &Erasing,
) -> Result<Merged, MergeError> {
    let mut merged = Merged::default();
    let Some((first, _)) = inputs.first() else { return Ok(merged) };
    merged.events = inputs.iter().map(|(input, _)| input.events).sum();
    let expected =
        inputs.iter().fold(ContentSum::default(), |sum, (_, block)| sum.plus(block.content_sum().0));
    let ranges = ranges_for(merged.events);
    let mut stages: Vec<Stage> = Vec::new();
    stages.resize_with(ranges, Stage::default);
    let mut vocabulary = Vocabulary::default();
    let columns = columns(inputs, &mut vocabulary);
    let sequence = inputs.iter().any(|(_, block)| block.layout().sequence);
    let forms = inputs.iter().map(|(_, block)| block.layout().ids);
    let ids = forms.reduce(IdForm::join).unwrap_or(IdForm::Text);
    let mut target = Target::new(&vocabulary, columns, sequence, ids)?;
    let mut next = vec![0usize; inputs.len()];
    for range in 0..ranges {
        let shards = shards_of(range, ranges);
        for ((input, block), next) in inputs.iter().zip(&mut next) {
            while block.row_groups().get(*next).is_some_and(|group| group.shards.start < shards.end) {
                let read = block.read_events(*next);
                let (batch, numbers) = read.map_err(|source| MergeError::Input { id: input.id, source })?;
                *next += 1;
                let mut assigned = assign(&batch, ranges);
                let erased = erased_rows(&batch, erasing);
                merged.erased.note(&batch, &erased);
                erased.iter().for_each(|&row| assigned[row as usize] = NOWHERE);
                scatter(&batch, Numbers::Each(&numbers), &assigned, &mut stages, &mut vocabulary);
            }
        }
        let stage = std::mem::take(&mut stages[range]);
        target.write(&stage, &vocabulary, &shards, &mut merged.dropped)?;
    }
    let first_sequence = inputs.iter().map(|(input, _)| input.first_sequence).min().unwrap_or(0);
    let last_sequence = inputs.iter().map(|(input, _)| input.last_sequence).max().unwrap_or(0);
    let (bytes, events, sum) = target.finish(tenant, first_sequence, last_sequence)?;
    let found = sum.plus(merged.dropped.sum.0).plus(merged.erased.sum.0);
    if found != expected {
        return Err(UnprovedError { expected: expected.0, found: found.0 }.into());
    }
    if events == 0 {
        return Ok(merged);
    }
    merged.blocks.push(NewBlock {
        month: first.month,
        partition: first.partition,
        first_sequence,
        last_sequence,
        events,
        content_sum: sum,
        bytes,
    });
    Ok(merged)
}

/// All columns of the inputs, as slots.
fn columns(inputs: &[(BlockRef, Block)], vocabulary: &mut Vocabulary) -> Vec<usize> {
    let mut all: Vec<(Attribute, ValueType)> =
        inputs.iter().flat_map(|(_, block)| block.layout().columns.iter().cloned()).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(|column| vocabulary.slot(column)).collect()
}

fn assign(batch: &runnel_model::EventBatch, ranges: usize) -> Vec<u32> {
    let mut known = (u32::MAX, 0u32);
    let mut of = |visitor: u32| {
        if known.0 != visitor {
            known = (visitor, (shard_of(batch.strings.get(visitor)) * ranges / SHARDS) as u32);
        }
        known.1
    };
    batch.visitors.iter().map(|&visitor| of(visitor)).collect()
}
