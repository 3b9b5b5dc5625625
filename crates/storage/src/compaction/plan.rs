//! Which neighbouring blocks should become one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::{BlockRef, CompactOptions};

/// Most stored bytes of the inputs of one merge. They and their outcome are in memory at once.
const MERGE_BYTES: u64 = 256 << 20;
/// Most inputs of one merge.
const MERGE_BLOCKS: usize = 256;

/// Month and partition.
type Cell = (i32, u32);

/// The blocks that may be merged.
pub(super) struct Plan {
    /// By their numbers.
    cells: BTreeMap<Cell, Vec<BlockRef>>,
    /// Cells in which a merge may be due.
    open: BTreeSet<Cell>,
}

impl Plan {
    pub(super) fn new(blocks: Vec<BlockRef>) -> Plan {
        let mut cells: BTreeMap<Cell, Vec<BlockRef>> = BTreeMap::new();
        for block in blocks {
            cells.entry((block.month, block.partition)).or_default().push(block);
        }
        for cell in cells.values_mut() {
            cell.sort_unstable_by_key(numbers);
        }
        let open = cells.keys().copied().collect();
        Plan { cells, open }
    }

    /// Adds a block.
    pub(super) fn put(&mut self, block: BlockRef) {
        let place = (block.month, block.partition);
        let cell = self.cells.entry(place).or_default();
        let at = cell.partition_point(|other| numbers(other) < numbers(&block));
        cell.insert(at, block);
        self.open.insert(place);
    }

    /// Takes the inputs of the next merge that is due, `most` at most but two at least, or `None`. They are neighbours: blocks of one month and partition whose numbers
    /// follow each other.
    pub(super) fn next_merge(&mut self, most: usize, options: &CompactOptions) -> Option<Vec<BlockRef>> {
        while let Some(place) = self.open.first().copied() {
            if let Some(cell) = self.cells.get_mut(&place)
                && let Some(inputs) = of_neighbours(cell, options)
            {
                let end = inputs.end.min(inputs.start + most.clamp(2, MERGE_BLOCKS));
                return Some(cell.drain(inputs.start..end).collect());
            }
            self.open.remove(&place);
        }
        None
    }
}

/// What blocks of a cell are ordered by.
fn numbers(block: &BlockRef) -> (u64, u64) {
    (block.first_sequence, block.last_sequence)
}

/// Sizes are told apart by powers of eight, the usual fan-in: an event is rewritten once a power.
fn tier(block: &BlockRef) -> u32 {
    block.events.max(1).ilog2() / 3
}

fn of_neighbours(cell: &[BlockRef], options: &CompactOptions) -> Option<Range<usize>> {
    let fan_in = options.fan_in.max(2);
    let highest = cell.iter().map(tier).max()?;
    let tiers = if options.force { highest..=highest } else { 0..=highest };
    for tier_limit in tiers {
        let mut start = 0;
        while start < cell.len() {
            if tier(&cell[start]) > tier_limit {
                start += 1;
                continue;
            }
            let run = cell[start..].iter().take_while(|block| tier(block) <= tier_limit).count();
            let (length, full) = fitting(&cell[start..start + run], options);
            let inputs = &cell[start..start + length];
            if length >= 2 && (options.force || full || (length >= fan_in && worth_it(inputs))) {
                return Some(start..start + length);
            }
            start += if full { length.max(1) } else { run };
        }
    }
    None
}

/// A large block is not rewritten for the sake of a few small ones.
fn worth_it(inputs: &[BlockRef]) -> bool {
    let largest = inputs.iter().map(|block| block.events).max().unwrap_or(0);
    largest <= inputs.iter().map(|block| block.events).sum::<u64>() / 2
}

/// How many of the blocks fit one, and whether it was the limit that ended them with the outcome at least half as large as it may be.
fn fitting(run: &[BlockRef], options: &CompactOptions) -> (usize, bool) {
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
        let inputs = Plan::new(blocks.to_vec()).next_merge(usize::MAX, options)?;
        Some(inputs.iter().map(|block| block.id).collect())
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
        let blocks: Vec<BlockRef> = (1..50).map(|id| block(id, id, id * 37 % 700)).collect();
        let events = |blocks: &[BlockRef]| blocks.iter().map(|block| block.events).sum::<u64>();
        let before = events(&blocks);
        let mut plan = Plan::new(blocks);
        for id in 100.. {
            let Some(inputs) = plan.next_merge(usize::MAX, &options) else { break };
            assert!(id < 200 && inputs.len() > 1 && events(&inputs) <= 1_000);
            plan.put(BlockRef {
                last_sequence: inputs.last().unwrap().last_sequence,
                ..block(id, inputs[0].first_sequence, events(&inputs))
            });
        }
        let left = plan.cells.into_values().flatten().collect::<Vec<_>>();
        assert_eq!(events(&left), before);
        assert!(left.is_sorted_by_key(numbers) && left.len() < 35, "{}", left.len());
    }

    #[test]
    fn what_is_taken_is_gone_and_what_is_put_back_is_looked_at_again() {
        let options = CompactOptions::default();
        let mut plan = Plan::new((1..=8).map(|id| block(id, id, 100)).collect());
        let first = plan.next_merge(3, &options).unwrap();
        assert_eq!(first.iter().map(|block| block.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(plan.next_merge(3, &options), None, "five of a size are too few");
        first.into_iter().for_each(|block| plan.put(block));
        assert_eq!(plan.next_merge(1, &options).unwrap().len(), 2, "of one block nothing is made");
        let months: Vec<BlockRef> = (1..=20).map(|id| BlockRef { month: id, ..block(1, 1, 1) }).collect();
        let mut plan = Plan::new(months.iter().cycle().take(20 * 8).cloned().collect());
        let merges = std::iter::from_fn(|| plan.next_merge(usize::MAX, &options));
        assert_eq!(merges.map(|inputs| inputs[0].month).collect::<Vec<_>>(), Vec::from_iter(1..=20));
    }
}
