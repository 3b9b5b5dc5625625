//! Makes blocks of journal rows and of smaller blocks: deal out, sort, drop repeats, write, re-read, prove. Pure work on bytes, for blocking threads.

mod blocks;
mod erased;
mod group;
mod month;
mod order;
mod rows;
mod stage;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use runnel_model::ContentSum;

use self::erased::Erased;
use crate::{BlockError, JournalError};

pub(crate) use blocks::merge_blocks;
pub(crate) use month::{Months, month_of};
pub(crate) use order::IdentityHash;
pub(crate) use rows::{StoredRow, merge_rows};

/// What was left out of blocks because its identity is there already.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// By the number of the batch that lost events.
    pub(crate) findings: BTreeMap<u64, Finding>,
    /// Identity and content hash of events that lost to other content.
    pub(crate) conflicts: Vec<(IdentityHash, u128)>,
    /// Sum of the content hashes of all that was left out.
    pub(crate) sum: ContentSum,
}

/// How many events of a batch were left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
}

impl Dropped {
    pub(crate) fn duplicates(&self) -> u64 {
        self.findings.values().map(|finding| finding.duplicates).sum()
    }

    pub(crate) fn conflicts(&self) -> u64 {
        self.findings.values().map(|finding| finding.conflicts).sum()
    }

    /// How many rows it takes to store this.
    pub(crate) fn rows(&self) -> usize {
        self.findings.len() + self.conflicts.len()
    }
}

/// A block that was written and proved, and is not committed.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) month: i32,
    pub(crate) partition: u32,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) events: u64,
    pub(crate) content_sum: ContentSum,
    pub(crate) bytes: Bytes,
}

/// The outcome of a merge.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// Events read.
    pub(crate) events: u64,
    pub(crate) blocks: Vec<NewBlock>,
    pub(crate) dropped: Dropped,
    /// What was left out because its visitors are erased.
    pub(crate) erased: Erased,
    /// Journal rows that cannot be read.
    pub(crate) broken: Vec<(u64, JournalError)>,
    /// The journal row of a newer program at which the merge ended: neither it nor what came behind it is in.
    pub(crate) newer: Option<u64>,
}

/// The written bytes do not hold what the inputs held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the inputs' content sums to {expected:032x}, the written blocks and what was dropped to {found:032x}"
)]
pub struct UnprovedError {
    /// Sum over the inputs, taken at admission.
    pub expected: u128,
    /// Sum over the re-read bytes and what was dropped.
    pub found: u128,
}

/// Why blocks could not be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// An input block is damaged.
    #[error("the block {id} is damaged")]
    Input {
        /// Which block.
        id: u64,
        /// How.
        #[source]
        source: BlockError,
    },
    /// Several journal rows would become too many blocks at once.
    #[error("the rows' events are of too many months for one merge")]
    Months,
    /// The written bytes cannot be re-read.
    #[error("the written block cannot be read")]
    Output(#[source] BlockError),
    /// The written bytes do not hold what the inputs held.
    #[error(transparent)]
    Unproved(#[from] UnprovedError),
    /// The block could not be written.
    #[error("the block could not be written")]
    Write(#[source] parquet::errors::ParquetError),
    /// The merge panicked.
    #[error("the merge was stopped")]
    Stopped,
}
