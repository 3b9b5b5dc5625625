//! Which neighbouring blocks should become one.

use std::collections::BTreeMap;

use crate::{BlockRef, CompactOptions};

/// Most stored bytes of the inputs of one merge. They and their outcome are in memory at once.
const MERGE_BYTES: u64 = 256 << 20;

/// The next merge that is due, or `None`. Inputs are neighbours: blocks of one month and partition whose numbers follow each other.
pub(crate) fn next_merge(
    blocks: &[BlockRef],
    damaged: &[u64],
    options: &CompactOptions,
) -> Option<Vec<BlockRef>> {
    let mut cells: BTreeMap<(i32, u32), Vec<&BlockRef>> = BTreeMap::new();
    for block in blocks.iter().filter(|block| !damaged.contains(&block.id)) {
        cells.entry((block.month, block.partition)).or_default().push(block);
    }
    for cell in cells.values_mut() {
        cell.sort_unstable_by_key(|block| (block.first_sequence, block.last_sequence));
        if let Some(merge) = of_neighbours(cell, options) {
            return Some(merge.iter().map(|&block| block.clone()).collect());
        }
    }
    None
}

/// Sizes are told apart by powers of eight, the usual fan-in: an event is rewritten once a power.
fn tier(block: &BlockRef) -> u32 {
    block.events.max(1).ilog2() / 3
}

fn of_neighbours<'a, 'b>(cell: &'a [&'b BlockRef], options: &CompactOptions) -> Option<&'a [&'b BlockRef]> {
    let fan_in = options.fan_in.max(2);
    let highest = cell.iter().map(|block| tier(block)).max()?;
    let tiers = if options.force { highest..=highest } else { 0..=highest };
    for tier_limit in tiers {
        let mut start = 0;
        while start < cell.len() {
            if tier(cell[start]) > tier_limit {
                start += 1;
                continue;
            }
            let run = cell[start..].iter().take_while(|block| tier(block) <= tier_limit).count();
            let (length, full) = fitting(&cell[start..start + run], options);
            let inputs = &cell[start..start + length];
            if length >= 2 && (options.force || full || (length >= fan_in && worth_it(inputs))) {
                return Some(inputs);
            }
            start += if full { length.max(1) } else { run };
        }
    }
    None
}

/// A large block is not rewritten for the sake of a few small ones.
fn worth_it(inputs: &[&BlockRef]) -> bool {
    let largest = inputs.iter().map(|block| block.events).max().unwrap_or(0);
    largest <= inputs.iter().map(|block| block.events).sum::<u64>() / 2
}

/// How many of the blocks fit one, and whether it was the limit that ended them with the outcome at least half as large as it may be.
fn fitting(run: &[&BlockRef], options: &CompactOptions) -> (usize, bool) {
    let (mut events, mut bytes, mut length) = (0u64, 0u64, 0);
    for block in run {
        if events + block.events > options.block_events || bytes + block.bytes > MERGE_BYTES {
            let half = events * 2 >= options.block_events || bytes * 2 >= MERGE_BYTES;
            return (length, half || length == 0);
        }
        events += block.events;
        bytes += block.bytes;
        length += 1;
    }
    (length, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(id: u64, first: u64, events: u64) -> BlockRef {
        BlockRef {
            id,
            first_sequence: first,
            last_sequence: first,
            month: 5,
            partition: 0,
            events,
            bytes: events,
        }
    }

    fn merged(blocks: &[BlockRef], options: &CompactOptions) -> Option<Vec<u64>> {
        Some(next_merge(blocks, &[], options)?.iter().map(|block| block.id).collect())
    }

    #[test]
    fn eight_of_a_size_become_one() {
        let options = CompactOptions::default();
        let mut blocks: Vec<BlockRef> = (1..8).map(|id| block(id, id, 100)).collect();
        assert_eq!(merged(&blocks, &options), None);
        blocks.push(block(9, 9, 120));
        assert_eq!(merged(&blocks, &options), Some(vec![1, 2, 3, 4, 5, 6, 7, 9]));
        blocks[3].events = 100_000;
        assert_eq!(merged(&blocks, &options), None, "a larger block parts the neighbours");
        blocks[3] = BlockRef { month: 6, ..block(4, 4, 100) };
        assert_eq!(merged(&blocks, &options), None, "another month");
    }

    #[test]
    fn large_blocks_are_left_alone() {
        let options = CompactOptions::default();
        let large: Vec<BlockRef> = (1..20).map(|id| block(id, id, 2_000_000)).collect();
        assert_eq!(merged(&large, &options), None);
        let force = CompactOptions { force: true, ..options.clone() };
        assert_eq!(merged(&large, &force), None);
        let half: Vec<BlockRef> = (1..4).map(|id| block(id, id, 900_000)).collect();
        assert_eq!(merged(&half, &options), Some(vec![1, 2]), "two fill a block");
    }

    #[test]
    fn force_ends() {
        let options = CompactOptions { force: true, block_events: 1_000, ..CompactOptions::default() };
        let mut blocks: Vec<BlockRef> = (1..50).map(|id| block(id, id, id * 37 % 700)).collect();
        let events = |blocks: &[BlockRef]| blocks.iter().map(|block| block.events).sum::<u64>();
        let before = events(&blocks);
        for id in 100.. {
            let Some(inputs) = next_merge(&blocks, &[], &options) else { break };
            assert!(id < 200 && inputs.len() > 1 && events(&inputs) <= 1_000);
            blocks.retain(|block| inputs.iter().all(|input| input.id != block.id));
            blocks.push(BlockRef {
                last_sequence: inputs.last().unwrap().last_sequence,
                ..block(id, inputs[0].first_sequence, events(&inputs))
            });
        }
        assert_eq!(events(&blocks), before);
        assert!(blocks.len() < 35, "{}", blocks.len());
    }
}
