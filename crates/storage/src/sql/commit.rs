//! What compaction writes: parts of blocks, then one short transaction that swaps blocks for their inputs.

use bytes::Bytes;
use runnel_model::TenantName;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Connection, Database, Dialect,
    chores::{DRAFT_MS, RETIRED_MS, note},
    failure::unavailable,
    head::lock_head,
    sqlx::{self, QueryBuilder},
};
use crate::{
    Unavailable,
    backend::{Inputs, Purpose::Compaction, Swap, WrittenBlock},
    merge::{Dropped, NewBlock},
    point::point,
};

/// Bytes of a part: what one commit ahead of an append may take.
const PART_BYTES: usize = 1 << 20;
/// Bytes of a block that is written together with the note of it: events of many months become thousands of these, and a commit takes longer than writing one.
const SMALL_BYTES: usize = 64 << 10;
/// Rows of one multi-row insertion.
const ROWS: usize = 256;

impl Database {
    /// Writes a block's bytes, where nobody sees them yet.
    pub(crate) async fn write_block(
        &self,
        tenant: &TenantName,
        block: NewBlock,
        now_ms: i64,
    ) -> Result<WrittenBlock, Unavailable> {
        let whole = (block.bytes.len() <= SMALL_BYTES).then(|| block.bytes.clone());
        let parts = if whole.is_some() { 0 } else { block.bytes.len().div_ceil(PART_BYTES) };
        let id = self.draft(tenant, whole, now_ms).await?;
        for part in 0..parts {
            let from = part * PART_BYTES;
            let bytes = block.bytes.slice(from..block.bytes.len().min(from + PART_BYTES));
            match self.write_part(tenant, id, part, bytes, now_ms).await {
                Ok(true) => {}
                // Somebody took its writer for ended and deleted it. Its swap, which misses the draft, is refused.
                Ok(false) => break,
                Err(error) => {
                    self.discard(tenant, id).await;
                    return Err(error);
                }
            }
        }
        let checksum = xxh3_64(&block.bytes).to_le_bytes();
        Ok(WrittenBlock {
            id,
            checksum,
            size: block.bytes.len() as u64,
            block: NewBlock { bytes: Bytes::new(), ..block },
        })
    }

    /// Frees the parts of a block that will not be committed. What it cannot free, the janitor will.
    pub(crate) async fn discard(&self, tenant: &TenantName, id: u64) {
        let owner = tenant.clone();
        let freed: Result<(), Unavailable> = self
            .write(Compaction, Some(tenant), move |connection| {
                Box::pin(async move {
                    delete_draft(connection, &owner, id as i64).await.map(drop).map_err(unavailable)
                })
            })
            .await;
        match freed {
            Ok(()) => {}
            // Whoever stops in the middle of a merge leaves a draft behind, as meant.
            Err(Unavailable::Closed) => {
                tracing::debug!(tenant = %tenant, block = id, "a draft is left to the janitor")
            }
            Err(error) => {
                tracing::warn!(%error, tenant = %tenant, block = id, "a discarded block waits for the janitor");
            }
        }
    }

    /// Makes blocks visible and their inputs not, at one instant. `false`, and nothing changed, when an input is not live any more.
    pub(crate) async fn swap(
        &self,
        tenant: &TenantName,
        swap: Swap,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        let ids: Vec<u64> = swap.blocks.iter().map(|block| block.id).collect();
        let owner = tenant.clone();
        let swapped = self
            .write(Compaction, Some(tenant), move |connection| {
                Box::pin(async move {
                    match swap_in(connection, &owner, &swap, now_ms).await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(SwapError::Stale),
                        Err(error) => Err(SwapError::Unavailable(unavailable(error))),
                    }
                })
            })
            .await;
        match swapped {
            Ok(()) => Ok(true),
            Err(SwapError::Stale) => {
                self.discard_all(tenant, ids).await;
                Ok(false)
            }
            // After a commit of unknown outcome the blocks may be visible; then the janitor decides.
            Err(SwapError::Unavailable(error @ Unavailable::OutcomeUnknown(_))) => Err(error),
            Err(SwapError::Unavailable(error)) => {
                self.discard_all(tenant, ids).await;
                Err(error)
            }
        }
    }

    /// Puts a journal row into quarantine. `false` when it is not live any more.
    pub(crate) async fn quarantine(
        &self,
        tenant: &TenantName,
        sequence: u64,
        reason: String,
        now_ms: Option<i64>,
    ) -> Result<bool, Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                quarantine(connection, &owner, sequence, &reason, now_ms).await.map_err(unavailable)
            })
        })
        .await
    }

    async fn discard_all(&self, tenant: &TenantName, ids: Vec<u64>) {
        for id in ids {
            self.discard(tenant, id).await;
        }
    }

    /// Takes an identifier for a block that is about to be written, and notes that. What is there of it already is its only part.
    async fn draft(
        &self,
        tenant: &TenantName,
        whole: Option<Bytes>,
        now_ms: i64,
    ) -> Result<u64, Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                let id = draft(connection, &owner, now_ms).await.map_err(unavailable)?;
                if let Some(bytes) = whole {
                    insert_part(connection, &owner, (id, 0), &bytes).await.map_err(unavailable)?;
                }
                Ok(id)
            })
        })
        .await
    }

    /// Adds a part to a block that is being written. `false`, and nothing was added, when the block was deleted.
    async fn write_part(
        &self,
        tenant: &TenantName,
        id: u64,
        part: usize,
        bytes: Bytes,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                if !hold_draft(connection, &owner, id as i64, now_ms).await.map_err(unavailable)? {
                    return Ok(false);
                }
                insert_part(connection, &owner, (id, part), &bytes).await.map_err(unavailable)?;
                Ok(true)
            })
        })
        .await
    }
}

enum SwapError {
    Stale,
    Unavailable(Unavailable),
}

impl From<Unavailable> for SwapError {
    fn from(error: Unavailable) -> SwapError {
        SwapError::Unavailable(error)
    }
}

async fn draft(connection: &mut Connection, tenant: &TenantName, now_ms: i64) -> Result<u64, sqlx::Error> {
    let (id,): (i64,) =
        sqlx::query_as("UPDATE heads SET block_id = block_id + 1 WHERE tenant_id = $1 RETURNING block_id")
            .bind(tenant.as_str())
            .fetch_one(&mut *connection)
            .await?;
    sqlx::query("INSERT INTO drafts (tenant_id, block_id, created_ms) VALUES ($1, $2, $3)")
        .bind(tenant.as_str())
        .bind(id)
        .bind(now_ms)
        .execute(&mut *connection)
        .await?;
    note(connection, tenant, false, now_ms + DRAFT_MS).await?;
    Ok(id as u64)
}

async fn insert_part(
    connection: &mut Connection,
    tenant: &TenantName,
    (id, part): (u64, usize),
    bytes: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO block_parts (tenant_id, block_id, part, bytes) VALUES ($1, $2, $3, $4)")
        .bind(tenant.as_str())
        .bind(id as i64)
        .bind(part as i64)
        .bind(bytes)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps others from deleting a block that is being written, until the end of the transaction. `false` when it was deleted: what is written now, nobody would ever
/// free.
async fn hold_draft(
    connection: &mut Connection,
    tenant: &TenantName,
    id: i64,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let held = sqlx::query("UPDATE drafts SET created_ms = $1 WHERE tenant_id = $2 AND block_id = $3")
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(held.rows_affected() == 1)
}

/// Takes blocks off the list of those that are being written. `false` when some are not there: then their parts may be gone.
async fn take_drafts(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: &[i64],
) -> Result<bool, sqlx::Error> {
    for some in ids.chunks(ROWS) {
        let mut query: QueryBuilder<Dialect> = QueryBuilder::new("DELETE FROM drafts WHERE tenant_id = ");
        query.push_bind(tenant.as_str()).push(" AND block_id IN (");
        let mut list = query.separated(", ");
        some.iter().for_each(|&id| {
            list.push_bind(id);
        });
        query.push(")");
        let taken = query.build().persistent(false).execute(&mut *connection).await?;
        if taken.rows_affected() != some.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Deletes a block that nobody sees. `false` when it is none of those.
pub(super) async fn delete_draft(
    connection: &mut Connection,
    tenant: &TenantName,
    id: i64,
) -> Result<bool, sqlx::Error> {
    if !take_drafts(connection, tenant, &[id]).await? {
        return Ok(false);
    }
    sqlx::query("DELETE FROM block_parts WHERE tenant_id = $1 AND block_id = $2")
        .bind(tenant.as_str())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(true)
}

async fn swap_in(
    connection: &mut Connection,
    tenant: &TenantName,
    swap: &Swap,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    // Nobody sees these before the commit, and appends do not wait for them: the head is held for the counts only.
    let ids: Vec<i64> = swap.blocks.iter().map(|written| written.id as i64).collect();
    if !take_drafts(connection, tenant, &ids).await? {
        return Ok(false);
    }
    insert_blocks(connection, tenant, &swap.blocks, now_ms).await?;
    note_findings(connection, tenant, &swap.dropped).await?;
    let live = match &swap.inputs {
        Inputs::Rows { first, last, rows, .. } => {
            retire_rows(connection, tenant, (*first, *last), *rows, now_ms).await?
        }
        Inputs::Blocks(ids) => retire_blocks(connection, tenant, ids, now_ms).await?,
    };
    if !live {
        return Ok(false);
    }
    lock_head(connection, tenant).await?;
    point("drn.after_lock").await?;
    if let Inputs::Rows { bytes, events, .. } = &swap.inputs {
        take_from_backlog(connection, tenant, *bytes as i64, *events as i64).await?;
    }
    count_dropped(connection, tenant, &swap.dropped).await?;
    count_erased(connection, tenant, swap.erased as i64).await?;
    note(connection, tenant, false, now_ms + RETIRED_MS).await?;
    point("drn.before_commit").await?;
    Ok(true)
}

async fn insert_blocks(
    connection: &mut Connection,
    tenant: &TenantName,
    blocks: &[WrittenBlock],
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    for some in blocks.chunks(ROWS) {
        let mut query: QueryBuilder<Dialect> = QueryBuilder::new(
            "INSERT INTO blocks (tenant_id, block_id, first_sequence, last_sequence, month, partition_id, events, \
             bytes, checksum, content_sum, created_ms) ",
        );
        query.push_values(some, |mut row, written| {
            let block = &written.block;
            row.push_bind(tenant.as_str())
                .push_bind(written.id as i64)
                .push_bind(block.first_sequence as i64)
                .push_bind(block.last_sequence as i64)
                .push_bind(i64::from(block.month))
                .push_bind(i64::from(block.partition))
                .push_bind(block.events as i64)
                .push_bind(written.size as i64)
                .push_bind(written.checksum.to_vec())
                .push_bind(block.content_sum.0.to_le_bytes().to_vec())
                .push_bind(now_ms);
        });
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Retires the live rows of a range. They can only have become fewer since they were read, so that their number tells whether they are the same.
async fn retire_rows(
    connection: &mut Connection,
    tenant: &TenantName,
    (first, last): (u64, u64),
    rows: u64,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let retired = sqlx::query(
        "UPDATE journal SET retired_ms = $1 WHERE tenant_id = $2 AND sequence BETWEEN $3 AND $4 \
         AND retired_ms IS NULL AND quarantined_ms IS NULL",
    )
    .bind(now_ms)
    .bind(tenant.as_str())
    .bind(first as i64)
    .bind(last as i64)
    .execute(&mut *connection)
    .await?;
    Ok(retired.rows_affected() == rows)
}

/// Journal rows of a tenant are not live any more. Whoever says so holds the rows before the head.
async fn take_from_backlog(
    connection: &mut Connection,
    tenant: &TenantName,
    bytes: i64,
    events: i64,
) -> Result<(), sqlx::Error> {
    let (left,): (i64,) = sqlx::query_as(
        "UPDATE heads SET journal_bytes = journal_bytes - $1, journal_events = journal_events - $2 \
         WHERE tenant_id = $3 RETURNING journal_events",
    )
    .bind(bytes)
    .bind(events)
    .bind(tenant.as_str())
    .fetch_one(&mut *connection)
    .await?;
    if left == 0 {
        sqlx::query("UPDATE chores SET waiting = 0 WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn retire_blocks(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: &[u64],
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    for &id in ids {
        let retired = sqlx::query(
            "UPDATE blocks SET retired_ms = $1 WHERE tenant_id = $2 AND block_id = $3 AND retired_ms IS NULL",
        )
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(id as i64)
        .execute(&mut *connection)
        .await?;
        if retired.rows_affected() != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What became of the events that compaction dropped, by the batch that brought them.
async fn note_findings(
    connection: &mut Connection,
    tenant: &TenantName,
    dropped: &Dropped,
) -> Result<(), sqlx::Error> {
    let findings: Vec<_> = dropped.findings.iter().collect();
    for some in findings.chunks(ROWS) {
        let mut query: QueryBuilder<Dialect> =
            QueryBuilder::new("INSERT INTO findings (tenant_id, sequence, duplicates, conflicts) ");
        query.push_values(some, |mut row, (sequence, finding)| {
            row.push_bind(tenant.as_str())
                .push_bind(**sequence as i64)
                .push_bind(finding.duplicates as i64)
                .push_bind(finding.conflicts as i64);
        });
        query.push(
            " ON CONFLICT (tenant_id, sequence) DO UPDATE SET duplicates = findings.duplicates + excluded.duplicates, \
             conflicts = findings.conflicts + excluded.conflicts",
        );
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    for some in dropped.conflicts.chunks(ROWS) {
        let mut query: QueryBuilder<Dialect> =
            QueryBuilder::new("INSERT INTO conflicts (tenant_id, identity, content) ");
        query.push_values(some, |mut row, (identity, content)| {
            row.push_bind(tenant.as_str())
                .push_bind(identity.to_bytes().to_vec())
                .push_bind(content.to_le_bytes().to_vec());
        });
        query.push(" ON CONFLICT (tenant_id, identity, content) DO NOTHING");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn count_dropped(
    connection: &mut Connection,
    tenant: &TenantName,
    dropped: &Dropped,
) -> Result<(), sqlx::Error> {
    let events = dropped.duplicates() + dropped.conflicts();
    if events > 0 {
        sqlx::query("UPDATE heads SET dropped_events = dropped_events + $1 WHERE tenant_id = $2")
            .bind(events as i64)
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn count_erased(
    connection: &mut Connection,
    tenant: &TenantName,
    events: i64,
) -> Result<(), sqlx::Error> {
    if events == 0 {
        return Ok(());
    }
    for statement in [
        "UPDATE heads SET erased_events = erased_events + $1 WHERE tenant_id = $2",
        "UPDATE erasures SET events = events + $1 WHERE tenant_id = $2 AND done_ms IS NULL",
    ] {
        sqlx::query(statement).bind(events).bind(tenant.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn quarantine(
    connection: &mut Connection,
    tenant: &TenantName,
    sequence: u64,
    reason: &str,
    now_ms: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let row: Option<(i64, i64)> = sqlx::query_as(
        "UPDATE journal SET quarantined_ms = COALESCE($1, created_ms), reason = $2 WHERE tenant_id = $3 AND sequence = $4 \
         AND retired_ms IS NULL AND quarantined_ms IS NULL RETURNING bytes, events",
    )
    .bind(now_ms)
    .bind(reason)
    .bind(tenant.as_str())
    .bind(sequence as i64)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((bytes, events)) = row else { return Ok(false) };
    take_from_backlog(connection, tenant, bytes, events).await?;
    Ok(true)
}
