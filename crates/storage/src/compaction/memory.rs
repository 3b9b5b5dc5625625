//! What a process remembers of a tenant from one round to the next, so that what failed is not tried again in the same way. It decides nothing that counts: a process
//! that remembers nothing finds out again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use runnel_model::TenantName;

use crate::{BlockRef, backend::JournalInput};

/// What is remembered, by tenant. A tenant of which there is nothing to remember is not there.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory {
    tenants: Arc<Mutex<HashMap<TenantName, Known>>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    /// Blocks that stay as they are: damaged, failing, or too large for a merge.
    alone: BTreeSet<u64>,
    /// Blocks of a merge that could not be swapped in, however few they were. They wait until another is.
    aside: BTreeSet<u64>,
    /// Most journal rows of a step, since a larger one could not be swapped in.
    rows: Option<usize>,
    /// Most blocks of a merge, likewise.
    blocks: Option<usize>,
    /// The first journal row that only a newer program can read.
    newer: Option<u64>,
}

impl Memory {
    fn of<T>(&self, tenant: &TenantName, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tenants.entry(tenant.clone()).or_default();
        let value = change(known);
        if *known == Known::default() {
            tenants.remove(tenant);
        }
        value
    }

    /// Most journal rows that the next step may take.
    pub(super) fn most_rows(&self, tenant: &TenantName) -> usize {
        self.of(tenant, |known| known.rows.unwrap_or(usize::MAX))
    }

    /// A step of so many rows could not be swapped in: the next one takes half.
    pub(super) fn rows_failed(&self, tenant: &TenantName, rows: usize) {
        let half = (rows / 2).max(1);
        self.of(tenant, |known| known.rows = Some(known.rows.map_or(half, |most| most.min(half))));
    }

    /// A step was swapped in.
    pub(super) fn rows_swapped(&self, tenant: &TenantName) {
        self.of(tenant, |known| known.rows = None);
    }

    /// Most blocks that the next merge may take; two at least.
    pub(super) fn most_blocks(&self, tenant: &TenantName) -> usize {
        self.of(tenant, |known| known.blocks.unwrap_or(usize::MAX))
    }

    /// A merge of these blocks could not be swapped in: the next one takes half of them, or others.
    pub(super) fn blocks_failed(&self, tenant: &TenantName, ids: &[u64]) {
        let half = ids.len() / 2;
        self.of(tenant, |known| {
            known.blocks = Some(known.blocks.map_or(half, |most| most.min(half)).max(2));
            if half < 2 {
                known.aside.extend(ids);
            }
        });
    }

    /// A merge of blocks was swapped in.
    pub(super) fn blocks_swapped(&self, tenant: &TenantName) {
        self.of(tenant, |known| {
            known.blocks = None;
            known.aside.clear();
        });
    }

    /// Leaves blocks as they are from now on.
    pub(super) fn leave_alone(&self, tenant: &TenantName, ids: &[u64]) {
        self.of(tenant, |known| known.alone.extend(ids));
    }

    /// Takes away the live blocks that are not merged. What is remembered of others is forgotten.
    pub(super) fn sift(&self, tenant: &TenantName, live: &mut Vec<BlockRef>) {
        self.of(tenant, |known| {
            if known.alone.is_empty() && known.aside.is_empty() {
                return;
            }
            let ids: BTreeSet<u64> = live.iter().map(|block| block.id).collect();
            known.alone.retain(|id| ids.contains(id));
            known.aside.retain(|id| ids.contains(id));
            live.retain(|block| !known.alone.contains(&block.id) && !known.aside.contains(&block.id));
        });
    }

    /// This journal row was written by a newer program. `true` when that was not known.
    pub(super) fn is_newer(&self, tenant: &TenantName, sequence: u64) -> bool {
        self.of(tenant, |known| {
            let before = known.newer;
            known.newer = Some(before.map_or(sequence, |first| first.min(sequence)));
            known.newer != before
        })
    }

    /// Takes away the live rows from the first one on that only a newer program can read. When it is not among them, such a program has read it.
    pub(super) fn cut(&self, tenant: &TenantName, live: &mut Vec<JournalInput>) {
        self.of(tenant, |known| {
            let Some(newer) = known.newer else { return };
            match live.iter().position(|row| row.sequence == newer) {
                Some(at) => live.truncate(at),
                None => known.newer = None,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> TenantName {
        TenantName::parse("shop").unwrap()
    }

    fn block(id: u64) -> BlockRef {
        BlockRef { id, first_sequence: id, last_sequence: id, month: 0, partition: 0, events: 1, bytes: 1 }
    }

    fn row(sequence: u64) -> JournalInput {
        JournalInput { sequence, events: 1, bytes: 1, raw_bytes: 1, created_ms: 0 }
    }

    impl Memory {
        fn is_empty(&self) -> bool {
            self.tenants.lock().unwrap().is_empty()
        }
    }

    #[test]
    fn what_fails_gets_smaller_until_it_succeeds() {
        let memory = Memory::default();
        assert_eq!(memory.most_rows(&shop()), usize::MAX);
        let mut rows = 100;
        for half in [50, 25, 12, 6, 3, 1, 1] {
            memory.rows_failed(&shop(), rows);
            rows = memory.most_rows(&shop());
            assert_eq!(rows, half);
        }
        memory.rows_failed(&shop(), 80);
        assert_eq!(memory.most_rows(&shop()), 1, "another step that failed beside it changes nothing");
        memory.rows_swapped(&shop());
        assert!(memory.is_empty() && memory.most_rows(&shop()) == usize::MAX);
    }

    #[test]
    fn blocks_that_cannot_be_swapped_in_wait_for_others() {
        let memory = Memory::default();
        let sifted = || {
            let mut live: Vec<BlockRef> = (1..=6).map(block).collect();
            memory.sift(&shop(), &mut live);
            live.iter().map(|block| block.id).collect::<Vec<_>>()
        };
        memory.blocks_failed(&shop(), &[1, 2, 3, 4, 5]);
        assert_eq!((memory.most_blocks(&shop()), sifted()), (2, vec![1, 2, 3, 4, 5, 6]));
        memory.blocks_failed(&shop(), &[1, 2]);
        memory.leave_alone(&shop(), &[6, 77]);
        assert_eq!((memory.most_blocks(&shop()), sifted()), (2, vec![3, 4, 5]));
        memory.blocks_swapped(&shop());
        assert_eq!((memory.most_blocks(&shop()), sifted()), (usize::MAX, vec![1, 2, 3, 4, 5]));
        memory.sift(&shop(), &mut vec![block(1)]);
        assert!(memory.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn rows_of_a_newer_program_are_not_read_again() {
        let memory = Memory::default();
        let cut = |live: &[u64]| {
            let mut live: Vec<JournalInput> = live.iter().copied().map(row).collect();
            memory.cut(&shop(), &mut live);
            live.iter().map(|row| row.sequence).collect::<Vec<_>>()
        };
        assert!(memory.is_newer(&shop(), 9) && memory.is_newer(&shop(), 7) && !memory.is_newer(&shop(), 8));
        assert_eq!(cut(&[5, 6, 7, 8]), [5, 6]);
        assert_eq!(cut(&[7, 8]), [0; 0]);
        assert_eq!(cut(&[8, 9]), [8, 9], "somebody could read it");
        assert!(memory.is_empty());
    }
}
