//! What compaction writes: parts of blocks, then one short transaction that swaps blocks for their inputs.

use std::sync::PoisonError;

use bytes::Bytes;
use runnel_model::TenantName;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use xxhash_rust::xxh3::xxh3_64;

use super::{Embedded, failure::unavailable};
use crate::{
    Unavailable,
    backend::{Inputs, Swap, WrittenBlock},
    merge::{Dropped, NewBlock},
};

/// Bytes of a part: what one commit ahead of an append may take.
const PART_BYTES: usize = 1 << 20;
/// Rows of one multi-row insertion.
const ROWS: usize = 256;

impl Embedded {
    /// Writes a block's bytes, where nobody sees them yet.
    pub(crate) async fn write_block(
        &self,
        tenant: &TenantName,
        block: NewBlock,
    ) -> Result<WrittenBlock, Unavailable> {
        let id = self.next_block(tenant).await?;
        self.unfinished().insert((tenant.clone(), id));
        let parts = block.bytes.len().div_ceil(PART_BYTES);
        for part in 0..parts {
            let from = part * PART_BYTES;
            let bytes = block.bytes.slice(from..block.bytes.len().min(from + PART_BYTES));
            if let Err(error) = self.write_part(tenant, id, part, bytes).await {
                self.discard(tenant, id).await;
                return Err(error);
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
        let name = tenant.clone();
        let freed: Result<(), Unavailable> = self
            .write(move |connection| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM block_parts WHERE tenant_id = ? AND block_id = ?")
                        .bind(name.as_str())
                        .bind(id as i64)
                        .execute(connection)
                        .await
                        .map_err(unavailable)?;
                    Ok(())
                })
            })
            .await;
        if let Err(error) = freed {
            tracing::warn!(%error, tenant = %tenant, block = id, "a discarded block waits for the janitor");
        }
        self.unfinished().remove(&(tenant.clone(), id));
    }

    /// Makes blocks visible and their inputs not, at one instant. `false`, and nothing changed, when an input is not live any more.
    pub(crate) async fn swap(
        &self,
        tenant: &TenantName,
        swap: Swap,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        let ids: Vec<u64> = swap.blocks.iter().map(|block| block.id).collect();
        let name = tenant.clone();
        let swapped = self
            .write(move |connection| {
                Box::pin(async move {
                    match swap_in(connection, &name, &swap, now_ms).await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(SwapError::Stale),
                        Err(error) => Err(SwapError::Unavailable(unavailable(error))),
                    }
                })
            })
            .await;
        match swapped {
            Ok(()) => {
                let mut unfinished = self.unfinished();
                ids.iter().for_each(|&id| {
                    unfinished.remove(&(tenant.clone(), id));
                });
                Ok(true)
            }
            Err(SwapError::Stale) => {
                self.discard_all(tenant, ids).await;
                Ok(false)
            }
            Err(SwapError::Unavailable(error)) => {
                // After a commit of unknown outcome the blocks may be visible; then the janitor decides.
                if matches!(error, Unavailable::OutcomeUnknown(_)) {
                    let mut unfinished = self.unfinished();
                    ids.iter().for_each(|&id| {
                        unfinished.remove(&(tenant.clone(), id));
                    });
                } else {
                    self.discard_all(tenant, ids).await;
                }
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
        let tenant = tenant.clone();
        self.write(move |connection| {
            Box::pin(async move {
                quarantine(connection, &tenant, sequence, &reason, now_ms).await.map_err(unavailable)
            })
        })
        .await
    }

    async fn discard_all(&self, tenant: &TenantName, ids: Vec<u64>) {
        for id in ids {
            self.discard(tenant, id).await;
        }
    }

    async fn next_block(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        let tenant = tenant.clone();
        self.write(move |connection| {
            Box::pin(async move {
                let (id,): (i64,) = sqlx::query_as(
                    "UPDATE tenants SET block_id = block_id + 1 WHERE tenant_id = ? RETURNING block_id",
                )
                .bind(tenant.as_str())
                .fetch_one(connection)
                .await
                .map_err(unavailable)?;
                Ok(id as u64)
            })
        })
        .await
    }

    async fn write_part(
        &self,
        tenant: &TenantName,
        id: u64,
        part: usize,
        bytes: Bytes,
    ) -> Result<(), Unavailable> {
        let tenant = tenant.clone();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query("INSERT INTO block_parts (tenant_id, block_id, part, bytes) VALUES (?, ?, ?, ?)")
                    .bind(tenant.as_str())
                    .bind(id as i64)
                    .bind(part as i64)
                    .bind(&bytes[..])
                    .execute(connection)
                    .await
                    .map_err(unavailable)?;
                Ok(())
            })
        })
        .await
    }

    pub(super) fn unfinished(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::HashSet<(TenantName, u64)>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
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

async fn swap_in(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    swap: &Swap,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let live = match &swap.inputs {
        Inputs::Rows { first, last, rows, bytes, events } => {
            retire_rows(connection, tenant, (*first, *last), (*rows, *bytes, *events), now_ms).await?
        }
        Inputs::Blocks(ids) => retire_blocks(connection, tenant, ids, now_ms).await?,
    };
    if !live {
        return Ok(false);
    }
    for written in &swap.blocks {
        let block = &written.block;
        sqlx::query(
            "INSERT INTO blocks (tenant_id, block_id, first_sequence, last_sequence, month, partition_id, events, \
             bytes, checksum, content_sum, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(tenant.as_str())
        .bind(written.id as i64)
        .bind(block.first_sequence as i64)
        .bind(block.last_sequence as i64)
        .bind(i64::from(block.month))
        .bind(i64::from(block.partition))
        .bind(block.events as i64)
        .bind(written.size as i64)
        .bind(&written.checksum[..])
        .bind(&block.content_sum.0.to_le_bytes()[..])
        .bind(now_ms)
        .execute(&mut *connection)
        .await?;
    }
    note_dropped(connection, tenant, &swap.dropped).await?;
    Ok(true)
}

/// Retires the live rows of a range. They can only have become fewer since they were read, so that their number tells whether they are the same.
async fn retire_rows(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    (first, last): (u64, u64),
    (rows, bytes, events): (u64, u64, u64),
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let retired = sqlx::query(
        "UPDATE journal SET retired_ms = ? WHERE tenant_id = ? AND sequence BETWEEN ? AND ? \
         AND retired_ms IS NULL AND quarantined_ms IS NULL",
    )
    .bind(now_ms)
    .bind(tenant.as_str())
    .bind(first as i64)
    .bind(last as i64)
    .execute(&mut *connection)
    .await?;
    if retired.rows_affected() != rows {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE tenants SET journal_bytes = journal_bytes - ?, journal_events = journal_events - ? WHERE tenant_id = ?",
    )
    .bind(bytes as i64)
    .bind(events as i64)
    .bind(tenant.as_str())
    .execute(connection)
    .await?;
    Ok(true)
}

async fn retire_blocks(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    ids: &[u64],
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    for &id in ids {
        let retired = sqlx::query(
            "UPDATE blocks SET retired_ms = ? WHERE tenant_id = ? AND block_id = ? AND retired_ms IS NULL",
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

async fn note_dropped(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    dropped: &Dropped,
) -> Result<(), sqlx::Error> {
    let findings: Vec<_> = dropped.findings.iter().collect();
    for some in findings.chunks(ROWS) {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO findings (tenant_id, sequence, duplicates, conflicts) ");
        query.push_values(some, |mut row, (sequence, finding)| {
            row.push_bind(tenant.as_str())
                .push_bind(**sequence as i64)
                .push_bind(finding.duplicates as i64)
                .push_bind(finding.conflicts as i64);
        });
        query.push(
            " ON CONFLICT (tenant_id, sequence) DO UPDATE SET duplicates = duplicates + excluded.duplicates, \
             conflicts = conflicts + excluded.conflicts",
        );
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    for some in dropped.conflicts.chunks(ROWS) {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO conflicts (tenant_id, identity, content) ");
        query.push_values(some, |mut row, (identity, content)| {
            row.push_bind(tenant.as_str())
                .push_bind(identity.to_bytes().to_vec())
                .push_bind(content.to_le_bytes().to_vec());
        });
        query.push(" ON CONFLICT (tenant_id, identity, content) DO NOTHING");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    let events = dropped.duplicates() + dropped.conflicts();
    if events > 0 {
        sqlx::query("UPDATE tenants SET dropped_events = dropped_events + ? WHERE tenant_id = ?")
            .bind(events as i64)
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn quarantine(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    sequence: u64,
    reason: &str,
    now_ms: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let row: Option<(i64, i64)> = sqlx::query_as(
        "UPDATE journal SET quarantined_ms = COALESCE(?, created_ms), reason = ? WHERE tenant_id = ? AND sequence = ? \
         AND retired_ms IS NULL AND quarantined_ms IS NULL RETURNING bytes, events",
    )
    .bind(now_ms)
    .bind(reason)
    .bind(tenant.as_str())
    .bind(sequence as i64)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((bytes, events)) = row else { return Ok(false) };
    sqlx::query(
        "UPDATE tenants SET journal_bytes = journal_bytes - ?, journal_events = journal_events - ? WHERE tenant_id = ?",
    )
    .bind(bytes)
    .bind(events)
    .bind(tenant.as_str())
    .execute(connection)
    .await?;
    Ok(true)
}
