//! Frees what nobody needs any more, in transactions short enough that appends between them do not wait.

use runnel_model::{TenantName, limits};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;
use tracing::debug;

use super::{
    Embedded,
    control::tenant as tenant_name,
    failure::unavailable,
    writer::{Command, Trust},
};
use crate::Unavailable;

/// How long what was compacted can still be read, in milliseconds.
const RETIRED_MS: i64 = 10 * 60_000;
/// Journal rows, receipts and parts of blocks that one transaction deletes.
const ROWS: i64 = 32;
const RECEIPTS: i64 = 500;
const PARTS: i64 = 8;
/// Pages that one step gives back to the file system, and how many steps a call takes at most.
const PAGES: i64 = 1_024;
const STEPS: usize = 64;
/// Free bytes that are kept for new data.
const KEPT_BYTES: u64 = 8 << 20;

impl Embedded {
    pub(crate) async fn janitor(&self, now_ms: i64) -> Result<(), Unavailable> {
        let retired_before = now_ms.saturating_sub(RETIRED_MS);
        for tenant in self.tenants_with(Leftover::Rows, retired_before).await? {
            while self.delete(Leftover::Rows, &tenant, retired_before).await? > 0 {}
        }
        for tenant in self.tenants_with(Leftover::Blocks, retired_before).await? {
            while self.delete(Leftover::Blocks, &tenant, retired_before).await? > 0 {}
        }
        let received_before = now_ms.saturating_sub(limits::RECEIPT_MS);
        for tenant in self.tenants_with(Leftover::Receipts, received_before).await? {
            while self.delete(Leftover::Receipts, &tenant, received_before).await? > 0 {}
        }
        self.delete_orphans().await?;
        self.shrink().await
    }

    async fn tenants_with(&self, leftover: Leftover, before: i64) -> Result<Vec<TenantName>, Unavailable> {
        self.read_one(move |connection| {
            Box::pin(async move {
                let rows: Vec<(String,)> =
                    sqlx::query_as(leftover.tenants()).bind(before).fetch_all(connection).await?;
                rows.into_iter().map(|(tenant,)| tenant_name(&tenant)).collect()
            })
        })
        .await
    }

    /// One short transaction. Gives how many rows it deleted.
    async fn delete(&self, leftover: Leftover, tenant: &TenantName, before: i64) -> Result<u64, Unavailable> {
        let tenant = tenant.clone();
        self.write(move |connection| {
            Box::pin(async move {
                let deleted = match leftover {
                    Leftover::Rows => delete_rows(connection, &tenant, before).await,
                    Leftover::Blocks => delete_block(connection, &tenant, before).await,
                    Leftover::Receipts => delete_receipts(connection, &tenant, before).await,
                };
                deleted.map_err(unavailable)
            })
        })
        .await
    }

    /// Parts that belong to no block and to none that is being written: a process ended before it could commit them.
    async fn delete_orphans(&self) -> Result<(), Unavailable> {
        let unfinished = self.unfinished().clone();
        let orphans: Vec<(TenantName, u64)> = self
            .read_one(|connection| {
                Box::pin(async move {
                    let rows: Vec<(String, i64)> = sqlx::query_as(
                        "SELECT DISTINCT tenant_id, block_id FROM block_parts WHERE NOT EXISTS ( \
                             SELECT 1 FROM blocks WHERE blocks.tenant_id = block_parts.tenant_id \
                             AND blocks.block_id = block_parts.block_id)",
                    )
                    .fetch_all(connection)
                    .await?;
                    rows.into_iter().map(|(tenant, id)| Ok((tenant_name(&tenant)?, id as u64))).collect()
                })
            })
            .await?;
        for (tenant, id) in orphans {
            // Written since the set was copied is in the set now, or committed by now and not to be touched.
            if unfinished.contains(&(tenant.clone(), id)) || self.unfinished().contains(&(tenant.clone(), id))
            {
                continue;
            }
            debug!(%tenant, block = id, "parts of a block that was never committed are deleted");
            self.write(move |connection| {
                Box::pin(async move { delete_orphan(connection, &tenant, id).await.map_err(unavailable) })
            })
            .await?;
        }
        Ok(())
    }

    /// Gives free pages back to the file system while there are many.
    async fn shrink(&self) -> Result<(), Unavailable> {
        for _ in 0..STEPS {
            let size = self.file_size().await?;
            if size.free <= KEPT_BYTES.max(size.bytes / 4) {
                break;
            }
            let (reply, done) = oneshot::channel();
            let step = Command::Job(Box::new(move |connection| {
                Box::pin(async move {
                    let _ = reply.send(vacuum(connection).await);
                    Trust::Known
                })
            }));
            self.writer.send(step).await.map_err(|_| Unavailable::Closed)?;
            done.await.map_err(|_| Unavailable::Stopped)?.map_err(unavailable)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Leftover {
    Rows,
    Blocks,
    Receipts,
}

impl Leftover {
    fn tenants(self) -> &'static str {
        match self {
            Leftover::Rows => {
                "SELECT DISTINCT tenant_id FROM journal WHERE retired_ms IS NOT NULL AND retired_ms < ?"
            }
            Leftover::Blocks => {
                "SELECT DISTINCT tenant_id FROM blocks WHERE retired_ms IS NOT NULL AND retired_ms < ?"
            }
            Leftover::Receipts => "SELECT DISTINCT tenant_id FROM receipts WHERE created_ms < ?",
        }
    }
}

async fn delete_rows(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "DELETE FROM journal_payloads WHERE tenant_id = ? AND sequence IN ( \
             SELECT sequence FROM journal WHERE tenant_id = ? AND retired_ms IS NOT NULL AND retired_ms < ? \
             ORDER BY sequence LIMIT ?)",
    )
    .bind(tenant.as_str())
    .bind(tenant.as_str())
    .bind(before)
    .bind(ROWS)
    .execute(&mut *connection)
    .await?;
    let deleted = sqlx::query(
        "DELETE FROM journal WHERE tenant_id = ? AND sequence IN ( \
             SELECT sequence FROM journal WHERE tenant_id = ? AND retired_ms IS NOT NULL AND retired_ms < ? \
             ORDER BY sequence LIMIT ?)",
    )
    .bind(tenant.as_str())
    .bind(tenant.as_str())
    .bind(before)
    .bind(ROWS)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

/// Deletes some parts of a retired block, or the block when it has none left.
async fn delete_block(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let block: Option<(i64,)> = sqlx::query_as(
        "SELECT block_id FROM blocks WHERE tenant_id = ? AND retired_ms IS NOT NULL AND retired_ms < ? \
         ORDER BY block_id LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(before)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((id,)) = block else { return Ok(0) };
    let parts = delete_parts(connection, tenant, id).await?;
    if parts > 0 {
        return Ok(parts);
    }
    let deleted = sqlx::query("DELETE FROM blocks WHERE tenant_id = ? AND block_id = ?")
        .bind(tenant.as_str())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected())
}

/// Deletes the highest parts of a block, so that a reader never takes what is left for the whole.
async fn delete_parts(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    id: i64,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "DELETE FROM block_parts WHERE tenant_id = ? AND block_id = ? AND part IN ( \
             SELECT part FROM block_parts WHERE tenant_id = ? AND block_id = ? ORDER BY part DESC LIMIT ?)",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(tenant.as_str())
    .bind(id)
    .bind(PARTS)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

async fn delete_orphan(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    id: u64,
) -> Result<(), sqlx::Error> {
    let known: Option<(i64,)> =
        sqlx::query_as("SELECT block_id FROM blocks WHERE tenant_id = ? AND block_id = ?")
            .bind(tenant.as_str())
            .bind(id as i64)
            .fetch_optional(&mut *connection)
            .await?;
    if known.is_none() {
        while delete_parts(connection, tenant, id as i64).await? > 0 {}
    }
    Ok(())
}

async fn delete_receipts(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "DELETE FROM receipts WHERE tenant_id = ? AND request_id IN ( \
             SELECT request_id FROM receipts WHERE tenant_id = ? AND created_ms < ? LIMIT ?)",
    )
    .bind(tenant.as_str())
    .bind(tenant.as_str())
    .bind(before)
    .bind(RECEIPTS)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

async fn vacuum(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let statement = format!("PRAGMA incremental_vacuum({PAGES})");
    sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false).fetch_all(connection).await?;
    Ok(())
}
