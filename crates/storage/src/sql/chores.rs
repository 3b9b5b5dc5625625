//! What is left to do for which tenant: compaction, and freeing what nobody needs any more.
//!
//! Rows of tenants can only be read one tenant at a time. So one reference table says which tenants have journal rows that wait,
//! and when something of theirs can be freed; whatever makes such a thing says so in its own transaction ([`note`]).

use std::error::Error as _;

use runnel_model::{TenantName, limits};

use super::{
    Connection, Database, Dialect,
    append::LOCK_BLOCK,
    commit::delete_draft,
    control::tenant as tenant_name,
    failure::unavailable,
    head::lock_head,
    sqlx::{self, QueryBuilder},
};
use crate::{Backlog, Unavailable, backend::Purpose::Compaction};

/// How long what was compacted can still be read, in milliseconds.
pub(super) const RETIRED_MS: i64 = 10 * 60_000;
/// How long writing a block may take. Afterwards its writer counts as ended.
pub(super) const DRAFT_MS: i64 = 60 * 60_000;
/// Journal rows, receipts, parts of blocks and blocks without an owner that one transaction deletes, so that appends between them do not wait.
const ROWS: i64 = 32;
const RECEIPTS: i64 = 500;
const PARTS: i64 = 8;
/// An instant at which everything is old.
const EVER_MS: i64 = i64::MAX / 2;
/// Tenants that one call sweeps at most. The others are the first ones of the next.
const TENANTS: i64 = 1_000;

/// Notes that a tenant has journal rows that wait (`false` leaves what is known), and that something of it can be freed at an instant.
pub(super) async fn note(
    connection: &mut Connection,
    tenant: &TenantName,
    waiting: bool,
    sweep_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO chores (tenant_id, waiting, sweep_ms) VALUES ($1, $2, $3) ON CONFLICT (tenant_id) DO UPDATE SET \
         waiting = CASE WHEN excluded.waiting = 1 THEN 1 ELSE chores.waiting END, \
         sweep_ms = CASE WHEN excluded.sweep_ms < chores.sweep_ms THEN excluded.sweep_ms ELSE chores.sweep_ms END",
    )
    .bind(tenant.as_str())
    .bind(i64::from(waiting))
    .bind(sweep_ms)
    .execute(connection)
    .await?;
    Ok(())
}

impl Database {
    pub(crate) async fn backlog(&self) -> Result<Vec<Backlog>, Unavailable> {
        let tenants = self
            .read_one(Compaction, None, |connection| {
                Box::pin(async move {
                    let statement = "SELECT tenant_id FROM chores WHERE waiting = 1 ORDER BY tenant_id";
                    let rows: Vec<(String,)> = sqlx::query_as(statement).fetch_all(connection).await?;
                    rows.into_iter().map(|(tenant,)| tenant_name(&tenant)).collect::<Result<Vec<_>, _>>()
                })
            })
            .await?;
        let mut backlog = Vec::new();
        for tenant in tenants {
            backlog.extend(self.backlog_of(tenant).await?);
        }
        backlog.sort_by(|left: &Backlog, right| {
            (left.oldest_ms, left.tenant.as_str()).cmp(&(right.oldest_ms, right.tenant.as_str()))
        });
        Ok(backlog)
    }

    async fn backlog_of(&self, tenant: TenantName) -> Result<Option<Backlog>, Unavailable> {
        let owner = tenant.clone();
        self.read(Compaction, Some(&tenant), move |connection| {
            Box::pin(async move {
                let waiting: Option<(i64, i64)> =
                    sqlx::query_as("SELECT journal_bytes, journal_events FROM heads WHERE tenant_id = $1")
                        .bind(owner.as_str())
                        .fetch_optional(&mut *connection)
                        .await?;
                let oldest: Option<(i64,)> = sqlx::query_as(
                    "SELECT created_ms FROM journal WHERE tenant_id = $1 AND retired_ms IS NULL \
                     AND quarantined_ms IS NULL ORDER BY sequence LIMIT 1",
                )
                .bind(owner.as_str())
                .fetch_optional(connection)
                .await?;
                Ok(waiting.zip(oldest).map(|((bytes, events), (oldest_ms,))| Backlog {
                    tenant: owner,
                    bytes: bytes as u64,
                    events: events as u64,
                    oldest_ms,
                }))
            })
        })
        .await
    }

    pub(crate) async fn janitor(&self, now_ms: i64) -> Result<(), Unavailable> {
        let due = self
            .read_one(Compaction, None, move |connection| {
                Box::pin(async move {
                    let rows: Vec<(String,)> = sqlx::query_as(
                        "SELECT tenant_id FROM chores WHERE sweep_ms <= $1 ORDER BY sweep_ms, tenant_id LIMIT $2",
                    )
                    .bind(now_ms)
                    .bind(TENANTS)
                    .fetch_all(connection)
                    .await?;
                    rows.into_iter().map(|(tenant,)| tenant_name(&tenant)).collect::<Result<Vec<_>, _>>()
                })
            })
            .await?;
        for tenant in due {
            match self.sweep(&tenant, now_ms).await {
                Ok(()) => {}
                Err(Unavailable::Closed) => return Err(Unavailable::Closed),
                // The others do not pay for it, and its turn comes again with the next call.
                Err(error) => {
                    let cause = error.source().map(tracing::field::display);
                    tracing::warn!(%error, cause, %tenant, "what a tenant needs no more stays for now");
                }
            }
        }
        self.tidy(now_ms).await
    }

    /// Frees what a tenant does not need any more. Several may do so at once: what belongs to a row is deleted by whoever deletes the row, and who finds others at
    /// it leaves it to them.
    async fn sweep(&self, tenant: &TenantName, now_ms: i64) -> Result<(), Unavailable> {
        for leftover in [Leftover::Rows, Leftover::Blocks, Leftover::Drafts, Leftover::Receipts] {
            while self.delete(leftover, tenant, now_ms).await? > 0 {}
        }
        self.settle(tenant, now_ms).await
    }

    /// Frees what was retired, however short ago, and what is being written, which whoever compacts alone knows to be left over.
    pub(crate) async fn purge(&self, tenant: &TenantName) -> Result<(), Unavailable> {
        for leftover in [Leftover::Rows, Leftover::Blocks, Leftover::Drafts] {
            while self.delete(leftover, tenant, EVER_MS).await? > 0 {}
        }
        Ok(())
    }

    /// One short transaction. Gives how much it deleted.
    async fn delete(&self, leftover: Leftover, tenant: &TenantName, now_ms: i64) -> Result<u64, Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                let deleted = match leftover {
                    Leftover::Rows => delete_rows(connection, &owner, now_ms - RETIRED_MS).await,
                    Leftover::Blocks => delete_block(connection, &owner, now_ms - RETIRED_MS).await,
                    Leftover::Drafts => delete_drafts(connection, &owner, now_ms - DRAFT_MS).await,
                    Leftover::Receipts => {
                        delete_receipts(connection, &owner, now_ms - limits::RECEIPT_MS).await
                    }
                };
                deleted.map_err(unavailable)
            })
        })
        .await
    }

    /// Notes when something of a tenant can be freed next.
    async fn settle(&self, tenant: &TenantName, now_ms: i64) -> Result<(), Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move { settle(connection, &owner, now_ms).await.map_err(unavailable) })
        })
        .await
    }
}

/// What can be freed.
#[derive(Debug, Clone, Copy)]
enum Leftover {
    Rows,
    Blocks,
    Drafts,
    Receipts,
}

/// The oldest of what a tenant has of each kind that is to be freed, and after how long that is.
const AGES: [(&str, i64); 4] = [
    ("SELECT MIN(retired_ms) FROM journal WHERE tenant_id = $1 AND retired_ms IS NOT NULL", RETIRED_MS),
    ("SELECT MIN(retired_ms) FROM blocks WHERE tenant_id = $1 AND retired_ms IS NOT NULL", RETIRED_MS),
    ("SELECT MIN(created_ms) FROM drafts WHERE tenant_id = $1", DRAFT_MS),
    ("SELECT MIN(created_ms) FROM receipts WHERE tenant_id = $1", limits::RECEIPT_MS),
];

async fn settle(connection: &mut Connection, tenant: &TenantName, now_ms: i64) -> Result<(), sqlx::Error> {
    // Whoever makes something that is to be freed later waits here, and notes it afterwards.
    lock_head(connection, tenant).await?;
    let mut next: Option<i64> = None;
    for (statement, age) in AGES {
        let (oldest,): (Option<i64>,) =
            sqlx::query_as(statement).bind(tenant.as_str()).fetch_one(&mut *connection).await?;
        next = next.into_iter().chain(oldest.map(|oldest| oldest + age + 1)).min();
    }
    let deleted = match next {
        Some(_) => 0,
        None => sqlx::query("DELETE FROM chores WHERE tenant_id = $1 AND waiting = 0 AND erasing = 0")
            .bind(tenant.as_str())
            .execute(&mut *connection)
            .await?
            .rows_affected(),
    };
    if deleted == 0 {
        sqlx::query("UPDATE chores SET sweep_ms = $1 WHERE tenant_id = $2")
            .bind(next.unwrap_or(now_ms + limits::RECEIPT_MS))
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Deletes retired rows, and the payloads of those and of no others: each statement sees an instant of its own, so that the same question asked twice may
/// mean other rows when somebody else deletes some meanwhile.
async fn delete_rows(
    connection: &mut Connection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let deleted: Vec<(i64,)> = sqlx::query_as(
        "DELETE FROM journal WHERE tenant_id = $1 AND sequence IN ( \
             SELECT sequence FROM journal WHERE tenant_id = $1 AND retired_ms IS NOT NULL AND retired_ms < $2 \
             ORDER BY sequence LIMIT $3) RETURNING sequence",
    )
    .bind(tenant.as_str())
    .bind(before)
    .bind(ROWS)
    .fetch_all(&mut *connection)
    .await?;
    if deleted.is_empty() {
        return Ok(0);
    }
    let mut payloads: QueryBuilder<Dialect> =
        QueryBuilder::new("DELETE FROM journal_payloads WHERE tenant_id = ");
    payloads.push_bind(tenant.as_str()).push(" AND sequence IN (");
    let mut list = payloads.separated(", ");
    for (sequence,) in &deleted {
        list.push_bind(*sequence);
    }
    payloads.push(")");
    payloads.build().persistent(false).execute(connection).await?;
    Ok(deleted.len() as u64)
}

/// Deletes some parts of a retired block, or the block when it has none left.
async fn delete_block(
    connection: &mut Connection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let block: Option<(i64,)> = sqlx::query_as(
        "SELECT block_id FROM blocks WHERE tenant_id = $1 AND retired_ms IS NOT NULL AND retired_ms < $2 \
         ORDER BY block_id LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(before)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((id,)) = block else { return Ok(0) };
    // One who found that somebody else has just deleted the same parts would take them for the last ones.
    let locked: Option<(i64,)> =
        sqlx::query_as(LOCK_BLOCK).bind(tenant.as_str()).bind(id).fetch_optional(&mut *connection).await?;
    if locked.is_none() {
        return Ok(0);
    }
    let parts = delete_parts(connection, tenant, id).await?;
    if parts > 0 {
        return Ok(parts);
    }
    let deleted = sqlx::query("DELETE FROM blocks WHERE tenant_id = $1 AND block_id = $2")
        .bind(tenant.as_str())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected())
}

/// Deletes the highest parts of a block, so that a reader never takes what is left for the whole.
async fn delete_parts(connection: &mut Connection, tenant: &TenantName, id: i64) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "DELETE FROM block_parts WHERE tenant_id = $1 AND block_id = $2 AND part IN ( \
             SELECT part FROM block_parts WHERE tenant_id = $1 AND block_id = $2 ORDER BY part DESC LIMIT $3)",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(PARTS)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

/// Deletes a block whose writer ended before it could commit it.
async fn delete_drafts(
    connection: &mut Connection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let draft: Option<(i64,)> = sqlx::query_as(
        "SELECT block_id FROM drafts WHERE tenant_id = $1 AND created_ms < $2 ORDER BY block_id LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(before)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((id,)) = draft else { return Ok(0) };
    tracing::debug!(%tenant, block = id, "a block that was never committed is deleted");
    delete_draft(connection, tenant, id).await.map(u64::from)
}

async fn delete_receipts(
    connection: &mut Connection,
    tenant: &TenantName,
    before: i64,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "DELETE FROM receipts WHERE tenant_id = $1 AND request_id IN ( \
             SELECT request_id FROM receipts WHERE tenant_id = $1 AND created_ms < $2 LIMIT $3)",
    )
    .bind(tenant.as_str())
    .bind(before)
    .bind(RECEIPTS)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}
