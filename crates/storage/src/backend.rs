//! The closed list of backends, and what each does for reading, audits and compaction.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use runnel_model::{ContentSum, Erasing, TenantName};
use tokio::sync::OwnedMutexGuard;

use crate::{
    Listing, Notice, Unavailable,
    embedded::Embedded,
    merge::{Dropped, NewBlock},
    postgres::Postgres,
};

/// Where data lies.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// SQLite in a folder of this machine.
    Embedded(Arc<Embedded>),
    /// PostgreSQL, for any number of processes.
    Postgres(Arc<Postgres>),
    /// As if it were PostgreSQL, in memory.
    #[cfg(feature = "simulation")]
    Simulated(Arc<crate::simulated::Simulated>),
}

/// What a transaction is for: each purpose has connections of its own, where a backend has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Appends.
    Ingest,
    /// Compaction and the janitor.
    Compaction,
    /// Readers.
    Query,
    /// Tenants, keys and definitions.
    Admin,
}

/// A live journal row that may be compacted.
#[derive(Debug, Clone)]
pub(crate) struct JournalInput {
    pub(crate) sequence: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) created_ms: i64,
}

/// A block's bytes and the checksum that was noted when it was written.
#[derive(Debug)]
pub(crate) struct BlockPayload {
    pub(crate) bytes: Bytes,
    pub(crate) checksum: Vec<u8>,
}

/// The size of the store on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileSize {
    pub(crate) bytes: u64,
    pub(crate) free: u64,
}

/// What became of events that no reader sees.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) dropped: u64,
    pub(crate) erased: u64,
    /// How many contents are noted as lost, and how many events were erased then: as long as none are, the others are only added to.
    pub(crate) lost: (u64, u64),
    /// Number, events and reason of each row in quarantine.
    pub(crate) quarantine: Vec<(u64, u64, String)>,
}

/// A block whose bytes are stored and that nobody sees.
#[derive(Debug)]
pub(crate) struct WrittenBlock {
    pub(crate) id: u64,
    pub(crate) checksum: [u8; 8],
    pub(crate) size: u64,
    /// Without its bytes.
    pub(crate) block: NewBlock,
}

/// What blocks take the place of.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// The live journal rows of a range of numbers.
    Rows { first: u64, last: u64, rows: u64, bytes: u64, events: u64 },
    /// Blocks.
    Blocks(Vec<u64>),
}

/// Blocks that take the place of their inputs.
#[derive(Debug)]
pub(crate) struct Swap {
    pub(crate) inputs: Inputs,
    pub(crate) blocks: Vec<WrittenBlock>,
    pub(crate) dropped: Dropped,
    /// Events that were left out because their visitors are erased.
    pub(crate) erased: u64,
}

/// A sum as it is stored: 16 bytes, little endian.
pub(crate) fn sum_of(bytes: &[u8]) -> ContentSum {
    let mut sum = [0; 16];
    sum.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    ContentSum(u128::from_le_bytes(sum))
}

/// Does something with whichever backend it is.
macro_rules! with_backend {
    ($backend:expr, |$store:ident| $work:expr) => {
        match $backend {
            $crate::backend::Backend::Embedded($store) => $work,
            $crate::backend::Backend::Postgres($store) => $work,
            #[cfg(feature = "simulation")]
            $crate::backend::Backend::Simulated($store) => $work,
        }
    };
}
pub(crate) use with_backend;

impl Backend {
    pub(crate) async fn list(
        &self,
        purpose: Purpose,
        tenant: &TenantName,
        after: u64,
    ) -> Result<Listing, Unavailable> {
        with_backend!(self, |store| store.list(purpose, tenant, after).await)
    }

    pub(crate) async fn totals(&self, tenant: &TenantName) -> Result<(Listing, Totals), Unavailable> {
        with_backend!(self, |store| store.totals(tenant).await)
    }

    pub(crate) async fn payloads(
        &self,
        purpose: Purpose,
        tenant: &TenantName,
        sequences: &[u64],
    ) -> Result<Vec<(u64, Bytes)>, Unavailable> {
        with_backend!(self, |store| store.payloads(purpose, tenant, sequences).await)
    }

    pub(crate) async fn block_payload(
        &self,
        purpose: Purpose,
        tenant: &TenantName,
        id: u64,
    ) -> Result<Option<BlockPayload>, Unavailable> {
        with_backend!(self, |store| store.block_payload(purpose, tenant, id).await)
    }

    pub(crate) async fn journal_inputs(
        &self,
        tenant: &TenantName,
        limit: usize,
    ) -> Result<Vec<JournalInput>, Unavailable> {
        with_backend!(self, |store| store.journal_inputs(tenant, limit).await)
    }

    pub(crate) async fn conflicts(
        &self,
        tenant: &TenantName,
        from: Vec<u8>,
        until: Vec<u8>,
    ) -> Result<(Vec<(Vec<u8>, ContentSum)>, (u64, u64)), Unavailable> {
        with_backend!(self, |store| store.conflicts(tenant, from, until).await)
    }

    pub(crate) async fn file_size(&self) -> Result<FileSize, Unavailable> {
        with_backend!(self, |store| store.file_size().await)
    }

    /// Keeps other compactions of the tenant out. `None` when one runs elsewhere and `wait` is not set.
    pub(crate) async fn compaction_lock(
        &self,
        tenant: &TenantName,
        wait: bool,
    ) -> Result<Option<OwnedMutexGuard<()>>, Unavailable> {
        with_backend!(self, |store| store.compaction_lock(tenant, wait).await)
    }

    /// Lets other compactions of the tenant in.
    pub(crate) async fn compaction_ends(&self, tenant: &TenantName, alone: OwnedMutexGuard<()>) {
        with_backend!(self, |store| store.compaction_ends(tenant, alone).await);
    }

    pub(crate) async fn write_block(
        &self,
        tenant: &TenantName,
        block: NewBlock,
        now_ms: i64,
    ) -> Result<WrittenBlock, Unavailable> {
        with_backend!(self, |store| store.write_block(tenant, block, now_ms).await)
    }

    pub(crate) async fn discard(&self, tenant: &TenantName, id: u64) {
        with_backend!(self, |store| store.discard(tenant, id).await);
    }

    pub(crate) async fn swap(
        &self,
        tenant: &TenantName,
        swap: Swap,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        with_backend!(self, |store| store.swap(tenant, swap, now_ms).await)
    }

    pub(crate) async fn to_erase(&self) -> Result<Vec<TenantName>, Unavailable> {
        with_backend!(self, |store| store.to_erase().await)
    }

    pub(crate) async fn erase_until(
        &self,
        tenant: &TenantName,
        latest: Vec<(String, i64)>,
    ) -> Result<(), Unavailable> {
        with_backend!(self, |store| store.erase_until(tenant, latest).await)
    }

    pub(crate) async fn forget_requests(
        &self,
        tenant: &TenantName,
        sequences: &BTreeSet<u64>,
    ) -> Result<(), Unavailable> {
        with_backend!(self, |store| store.forget_requests(tenant, sequences).await)
    }

    pub(crate) async fn forget_conflicts(
        &self,
        tenant: &TenantName,
        erasing: &Erasing,
    ) -> Result<(), Unavailable> {
        with_backend!(self, |store| store.forget_conflicts(tenant, erasing).await)
    }

    /// Deletes what was retired, however short ago, and what was begun and not committed.
    pub(crate) async fn purge(&self, tenant: &TenantName) -> Result<(), Unavailable> {
        with_backend!(self, |store| store.purge(tenant).await)
    }

    /// Overwrites or gives back what was freed, where that does not come by itself.
    pub(crate) async fn scrub(&self) -> Result<(), Unavailable> {
        match self {
            Backend::Embedded(store) => store.scrub().await,
            _ => Ok(()),
        }
    }

    /// Forgets the ids of erasures up to this one.
    pub(crate) async fn forget_erasing(&self, tenant: &TenantName, number: u64) -> Result<(), Unavailable> {
        with_backend!(self, |store| store.forget_erasing(tenant, number).await)
    }

    /// Whether there are erasures that are not done.
    pub(crate) async fn has_to_finish(&self, tenant: &TenantName) -> Result<bool, Unavailable> {
        with_backend!(self, |store| store.has_to_finish(tenant).await)
    }

    pub(crate) async fn erasures_end(
        &self,
        tenant: &TenantName,
        number: u64,
        now_ms: i64,
    ) -> Result<(), Unavailable> {
        with_backend!(self, |store| store.erasures_end(tenant, number, now_ms).await)
    }

    /// Without a time, the time of the row's own append is noted.
    pub(crate) async fn quarantine(
        &self,
        tenant: &TenantName,
        sequence: u64,
        reason: String,
        now_ms: Option<i64>,
    ) -> Result<bool, Unavailable> {
        with_backend!(self, |store| {
            let set_aside = store.quarantine(tenant, sequence, reason, now_ms).await?;
            if set_aside {
                store.notices.note(Notice::Quarantined);
            }
            Ok(set_aside)
        })
    }
}
