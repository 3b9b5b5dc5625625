//! What a reader sees of a tenant at an instant, and how reading it can fail.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use runnel_model::{Erasing, EventBatch, TenantName};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Block, BlockError, JournalError, Unavailable,
    backend::{
        Backend,
        Purpose::{self, Query},
    },
    compute, journal,
};

/// The truth of a tenant at an instant: every event numbered up to `sequence` is in exactly one of the rows and blocks, except those in quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The highest committed sequence number; 0 when nothing was ever appended.
    pub sequence: u64,
    /// The version of the identities: the number of the newest claim about who is who; 0 when there is none.
    pub alias: u64,
    /// The version of the erasures; 0 when there was none.
    pub erasure: u64,
    /// Which of the events that are there do not count any more.
    pub erasing: Arc<Erasing>,
    /// Live journal rows, by sequence.
    pub journal: Vec<JournalRef>,
    /// Live blocks, by identifier.
    pub blocks: Vec<BlockRef>,
}

/// A live row of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRef {
    /// The tenant's sequence number of the batch.
    pub sequence: u64,
    /// Events in it.
    pub events: u32,
    /// Stored bytes.
    pub bytes: u64,
}

/// A live block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRef {
    /// The tenant's identifier of the block; never used again.
    pub id: u64,
    /// Its events come from batches numbered from this one …
    pub first_sequence: u64,
    /// … to this one.
    pub last_sequence: u64,
    /// The month of its events in UTC, as months since January of the year 0.
    pub month: i32,
    /// The partition of its visitors.
    pub partition: u32,
    /// Events in it.
    pub events: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// Why a payload could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// What was asked for was compacted and deleted since it was listed. List again.
    #[error("what was listed is gone; list again")]
    Missing,
    /// A journal row is damaged. It is in quarantine now; the next listing leaves it out.
    #[error("the journal row {sequence} is damaged")]
    Damaged {
        /// Which row.
        sequence: u64,
        /// How.
        #[source]
        source: JournalError,
    },
    /// A newer program wrote a journal row. It stays as it is, for a program that can read it.
    #[error("the journal row {sequence} was written by a newer program")]
    Newer {
        /// Which row.
        sequence: u64,
        /// What this program does not know.
        #[source]
        source: JournalError,
    },
    /// A block is damaged. It stays listed, so that no answer silently leaves out its events.
    #[error("the block {id} is damaged")]
    DamagedBlock {
        /// Which block.
        id: u64,
        /// How.
        #[source]
        source: BlockError,
    },
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A tenant whose journal holds live rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Whose.
    pub tenant: runnel_model::TenantName,
    /// Stored bytes of live rows.
    pub bytes: u64,
    /// Events in live rows.
    pub events: u64,
    /// When the oldest live row was appended, in milliseconds since the Unix epoch.
    pub oldest_ms: i64,
}

/// How much a tenant's data takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live journal rows.
    pub journal_rows: u64,
    /// Events in live journal rows.
    pub journal_events: u64,
    /// Stored bytes of live journal rows.
    pub journal_bytes: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Events in live blocks.
    pub block_events: u64,
    /// Stored bytes of live blocks.
    pub block_bytes: u64,
    /// Stored bytes of live blocks by column, by name. Footers are what the sum leaves of `block_bytes`.
    pub columns: Vec<ColumnBytes>,
    /// Bytes of the whole store on disk, over all tenants.
    pub file_bytes: u64,
    /// Of these, bytes that are free for new data.
    pub free_bytes: u64,
}

/// How much a column takes over all live blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnBytes {
    /// The column's name in the blocks; `event_id` holds the event ids.
    pub name: String,
    /// Compressed bytes.
    pub bytes: u64,
    /// Values.
    pub values: u64,
}

/// Copies of a batch's events that compaction dropped so far, because an earlier one has their identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// With the same content.
    pub duplicates: u64,
    /// With other content.
    pub conflicts: u64,
}

/// Journal rows of one request to the database, and of one decoding task.
const ROWS: usize = 64;

pub(crate) async fn fetch_journal(
    backend: &Backend,
    tenant: &TenantName,
    sequences: &[u64],
) -> Result<Vec<(u64, EventBatch)>, FetchError> {
    let mut batches = Vec::with_capacity(sequences.len());
    for some in sequences.chunks(ROWS) {
        let payloads: HashMap<u64, Bytes> =
            backend.payloads(Query, tenant, some).await?.into_iter().collect();
        let rows: Option<Vec<(u64, Bytes)>> =
            some.iter().map(|sequence| Some((*sequence, payloads.get(sequence)?.clone()))).collect();
        let rows = rows.ok_or(FetchError::Missing)?;
        let decoded = compute(move || {
            let decode = |(sequence, row): (u64, Bytes)| match journal::decode(&row) {
                Ok(decoded) => Ok((sequence, decoded.batch)),
                Err(source) => Err((sequence, source)),
            };
            rows.into_iter().map(decode).collect::<Result<Vec<_>, _>>()
        });
        match decoded.await.map_err(|_| Unavailable::Stopped)? {
            Ok(decoded) => batches.extend(decoded),
            Err((sequence, source)) if source.is_newer() => {
                return Err(FetchError::Newer { sequence, source });
            }
            Err((sequence, source)) => {
                // Whoever only reads may not be allowed to; compaction finds it again.
                if let Err(error) = backend.quarantine(tenant, sequence, source.to_string(), None).await {
                    tracing::warn!(%error, %tenant, sequence, "a damaged journal row is not in quarantine yet");
                }
                return Err(FetchError::Damaged { sequence, source });
            }
        }
    }
    Ok(batches)
}

pub(crate) async fn fetch_block(
    backend: &Backend,
    purpose: Purpose,
    tenant: &TenantName,
    id: u64,
) -> Result<Block, FetchError> {
    let payload = backend.block_payload(purpose, tenant, id).await?.ok_or(FetchError::Missing)?;
    let opened = compute(move || {
        if xxh3_64(&payload.bytes).to_le_bytes()[..] != payload.checksum[..] {
            return Err(BlockError::Checksum);
        }
        Block::open(payload.bytes)
    });
    let opened = opened.await.map_err(|_| Unavailable::Stopped)?;
    opened.map_err(|source| FetchError::DamagedBlock { id, source })
}

pub(crate) async fn stats(backend: &Backend, tenant: &TenantName) -> Result<Stats, FetchError> {
    let listing = backend.list(Query, tenant, 0).await?;
    let size = backend.file_size().await?;
    let mut stats = Stats { file_bytes: size.bytes, free_bytes: size.free, ..Stats::default() };
    for row in &listing.journal {
        stats.journal_rows += 1;
        stats.journal_events += u64::from(row.events);
        stats.journal_bytes += row.bytes;
    }
    let mut columns: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for block in &listing.blocks {
        stats.blocks += 1;
        stats.block_events += block.events;
        stats.block_bytes += block.bytes;
        for (name, bytes, values) in fetch_block(backend, Query, tenant, block.id).await?.column_bytes() {
            let column = columns.entry(name).or_default();
            column.0 += bytes;
            column.1 += values;
        }
    }
    let columns = columns.into_iter();
    stats.columns = columns.map(|(name, (bytes, values))| ColumnBytes { name, bytes, values }).collect();
    Ok(stats)
}
