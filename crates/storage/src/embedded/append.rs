//! The appending transaction.

use bytes::Bytes;
use runnel_model::TenantName;
use sqlx::SqliteConnection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    failure::unavailable,
    watch::Watchers,
    writer::{Trust, begin, commit as commit_transaction, roll_back},
};
use crate::{AppendError, Journaled, Unavailable, admitted::Row};

/// When a sender whose batch was refused for the backlog should try again.
const RETRY_AFTER_MS: u64 = 2_000;

/// A batch that waits for its commit.
pub(crate) struct Append {
    pub(crate) tenant: TenantName,
    pub(crate) row: Row,
    pub(crate) now_ms: i64,
    pub(crate) reply: oneshot::Sender<Result<Journaled, AppendError>>,
    /// Its share of the memory that waiting batches may take.
    pub(crate) _share: OwnedSemaphorePermit,
}

/// Commits batches of one tenant together. When that fails for a reason that may lie in one of them, each gets a transaction of its own.
pub(crate) async fn commit(
    connection: &mut SqliteConnection,
    group: Vec<Append>,
    backlog_bytes: u64,
    watchers: &Watchers,
) -> Trust {
    match transaction(connection, &group, backlog_bytes).await {
        Ok(written) => {
            if let (Some(first), true) = (group.first(), written.sequence > 0) {
                watchers.raise(&first.tenant, written.sequence);
            }
            for (append, outcome) in group.into_iter().zip(written.outcomes) {
                let _ = append.reply.send(outcome);
            }
            Trust::Known
        }
        Err(Unavailable::OutcomeUnknown(error)) => {
            for append in group {
                let _ = append.reply.send(Err(Unavailable::OutcomeUnknown(error.clone()).into()));
            }
            Trust::Suspect
        }
        Err(_) if group.len() > 1 => {
            let mut trust = Trust::Known;
            for append in group {
                if Box::pin(commit(connection, vec![append], backlog_bytes, watchers)).await == Trust::Suspect
                {
                    trust = Trust::Suspect;
                }
            }
            trust
        }
        Err(error) => {
            if let Some(append) = group.into_iter().next() {
                let _ = append.reply.send(Err(error.into()));
            }
            Trust::Known
        }
    }
}

struct Written {
    outcomes: Vec<Result<Journaled, AppendError>>,
    sequence: u64,
}

async fn transaction(
    connection: &mut SqliteConnection,
    group: &[Append],
    backlog_bytes: u64,
) -> Result<Written, Unavailable> {
    begin(connection).await?;
    match write(connection, group, backlog_bytes).await {
        Ok(written) => commit_transaction(connection).await.map(|()| written),
        Err(error) => {
            roll_back(connection).await;
            Err(unavailable(error))
        }
    }
}

async fn write(
    connection: &mut SqliteConnection,
    group: &[Append],
    backlog_bytes: u64,
) -> Result<Written, sqlx::Error> {
    let mut written = Written { outcomes: Vec::with_capacity(group.len()), sequence: 0 };
    let Some(tenant) = group.first().map(|append| &append.tenant) else { return Ok(written) };
    let state: Option<(i64, i64)> =
        sqlx::query_as("SELECT sequence, journal_bytes FROM tenants WHERE tenant_id = ?")
            .bind(tenant.as_str())
            .fetch_optional(&mut *connection)
            .await?;
    let Some((newest, waiting)) = state else {
        let unknown = group.iter().map(|_| Err(AppendError::TenantUnknown(tenant.clone())));
        written.outcomes.extend(unknown);
        return Ok(written);
    };
    let (mut sequence, mut bytes, mut events) = (newest as u64, 0u64, 0u64);
    for Append { row, now_ms, .. } in group {
        if let Some(outcome) = repeated(connection, tenant, row).await? {
            written.outcomes.push(outcome);
            continue;
        }
        let total = waiting as u64 + bytes + row.payload.len() as u64;
        if row.events > 0 && total > backlog_bytes {
            written.outcomes.push(Err(AppendError::Backlog {
                bytes: total,
                limit: backlog_bytes,
                retry_after_ms: RETRY_AFTER_MS,
            }));
            continue;
        }
        let mut number = 0;
        if row.events > 0 {
            sequence += 1;
            number = sequence;
            bytes += row.payload.len() as u64;
            events += u64::from(row.events);
            insert_row(connection, tenant, number, row, *now_ms).await?;
        }
        insert_receipt(connection, tenant, number, row, *now_ms).await?;
        written.outcomes.push(Ok(Journaled::committed(number, false, row.outcome.clone())));
    }
    if events > 0 {
        written.sequence = sequence;
        sqlx::query(
            "UPDATE tenants SET sequence = ?, journal_bytes = journal_bytes + ?, journal_events = journal_events + ?, \
             accepted_events = accepted_events + ? WHERE tenant_id = ?",
        )
        .bind(sequence as i64)
        .bind(bytes as i64)
        .bind(events as i64)
        .bind(events as i64)
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    }
    Ok(written)
}

/// What a request that was seen before is answered.
async fn repeated(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    row: &Row,
) -> Result<Option<Result<Journaled, AppendError>>, sqlx::Error> {
    let Some(request) = &row.request else { return Ok(None) };
    let receipt: Option<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT content_hash, outcome, sequence FROM receipts WHERE tenant_id = ? AND request_id = ?",
    )
    .bind(tenant.as_str())
    .bind(&request.id)
    .fetch_optional(connection)
    .await?;
    Ok(receipt.map(|(hash, outcome, sequence)| {
        if hash == request.content_hash.to_le_bytes() {
            Ok(Journaled::committed(sequence as u64, true, Bytes::from(outcome)))
        } else {
            Err(AppendError::RequestReused)
        }
    }))
}

async fn insert_row(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    number: u64,
    row: &Row,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO journal (tenant_id, sequence, created_ms, events, bytes, raw_bytes, content_sum) \
         VALUES (?, ?, ?, ?, ?, ?, ?); \
         INSERT INTO journal_payloads (tenant_id, sequence, payload) VALUES (?, ?, ?)",
    )
    .bind(tenant.as_str())
    .bind(number as i64)
    .bind(now_ms)
    .bind(i64::from(row.events))
    .bind(row.payload.len() as i64)
    .bind(row.raw_bytes as i64)
    .bind(&row.content_sum.0.to_le_bytes()[..])
    .bind(tenant.as_str())
    .bind(number as i64)
    .bind(&row.payload[..])
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_receipt(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    number: u64,
    row: &Row,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let Some(request) = &row.request else { return Ok(()) };
    sqlx::query(
        "INSERT INTO receipts (tenant_id, request_id, content_hash, outcome, sequence, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(tenant.as_str())
    .bind(&request.id)
    .bind(&request.content_hash.to_le_bytes()[..])
    .bind(&row.outcome[..])
    .bind(number as i64)
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(())
}
