//! What an appending transaction writes.

use std::sync::Arc;

use bytes::Bytes;
use runnel_model::{TenantName, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Span;

use super::{Connection, chores::note, failure::blames_a_batch, head::lock_head, insert_row, sqlx};
use crate::{Admitted, AppendError, Journaled, Unavailable, admitted::Row, point::point};

/// Bytes of batches that may wait for their commit, over all tenants.
pub(super) const WAITING_BYTES: usize = 64 << 20;

/// When a sender whose batch was refused for the backlog should try again.
const RETRY_AFTER_MS: u64 = 2_000;

/// A batch that waits for its commit.
pub(super) struct Append {
    pub(super) row: Row,
    pub(super) now_ms: i64,
    pub(super) reply: oneshot::Sender<Result<Journaled, AppendError>>,
    /// What it is part of.
    pub(super) span: Span,
    /// Its share of the memory that waiting batches may take.
    pub(super) _share: OwnedSemaphorePermit,
}

/// Waits for room, hands a batch over to whoever commits it, and waits for its outcome.
pub(super) async fn append<F: Future<Output = Result<(), Unavailable>>>(
    room: &Arc<Semaphore>,
    admitted: &Admitted,
    now_ms: i64,
    hand_over: impl FnOnce(Append) -> F,
) -> Result<Journaled, AppendError> {
    let row = Row::of(admitted);
    if row.events == 0 && row.request.is_none() {
        return Ok(Journaled::committed(0, false, row.outcome));
    }
    let share = row.memory().min(WAITING_BYTES) as u32;
    let share = room.clone().acquire_many_owned(share).await.map_err(|_| Unavailable::Closed)?;
    let (reply, outcome) = oneshot::channel();
    hand_over(Append { row, now_ms, reply, span: Span::current(), _share: share }).await?;
    outcome.await.unwrap_or_else(|_| Err(Unavailable::Stopped.into()))
}

/// What a transaction answers to each batch, and the tenant's newest number if it rose.
pub(super) struct Written {
    pub(super) outcomes: Vec<Result<Journaled, AppendError>>,
    pub(super) sequence: Option<u64>,
}

/// Answers batches after their transaction. Those that get no answer have to be tried one by one, because one of them may be to blame.
pub(super) fn answer(
    group: Vec<Append>,
    result: Result<Vec<Result<Journaled, AppendError>>, Unavailable>,
) -> Vec<Append> {
    match result {
        Ok(outcomes) => {
            for (append, outcome) in group.into_iter().zip(outcomes) {
                let _ = append.reply.send(outcome);
            }
        }
        Err(error) if group.len() > 1 && blames_a_batch(&error) => return group,
        Err(error) => {
            for append in group {
                let _ = append.reply.send(Err(error.clone().into()));
            }
        }
    }
    Vec::new()
}

/// Writes batches of one tenant, in their order.
pub(super) async fn write(
    connection: &mut Connection,
    tenant: &TenantName,
    group: &[Append],
    backlog_bytes: u64,
) -> Result<Written, sqlx::Error> {
    let mut outcomes = Vec::with_capacity(group.len());
    // The lock on the head is held until the commit: numbers are committed in their order.
    let Some(head) = lock_head(connection, tenant).await? else {
        outcomes.extend(group.iter().map(|_| Err(AppendError::TenantUnknown(tenant.clone()))));
        return Ok(Written { outcomes, sequence: None });
    };
    let (mut sequence, mut bytes, mut events) = (head.sequence, 0u64, 0u64);
    let mut oldest_receipt: Option<i64> = None;
    for Append { row, now_ms, .. } in group {
        if let Some(outcome) = repeated(connection, tenant, row).await? {
            outcomes.push(outcome);
            continue;
        }
        let total = head.journal_bytes + bytes + row.payload.len() as u64;
        if row.events > 0 && total > backlog_bytes {
            outcomes.push(Err(AppendError::Backlog {
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
            point("ing.after_journal").await?;
        }
        insert_receipt(connection, tenant, number, row, *now_ms).await?;
        point("ing.after_receipt").await?;
        oldest_receipt = oldest_receipt.into_iter().chain([*now_ms]).min();
        outcomes.push(Ok(Journaled::committed(number, false, row.outcome.clone())));
    }
    if events > 0 {
        sqlx::query(
            "UPDATE heads SET sequence = $1, journal_bytes = journal_bytes + $2, journal_events = journal_events + $3, \
             accepted_events = accepted_events + $3 WHERE tenant_id = $4",
        )
        .bind(sequence as i64)
        .bind(bytes as i64)
        .bind(events as i64)
        .bind(tenant.as_str())
        .execute(&mut *connection)
        .await?;
    }
    // While rows wait, what is noted of the tenant stays.
    if let (Some(oldest), 0) = (oldest_receipt, head.journal_events) {
        note(connection, tenant, events > 0, oldest + limits::RECEIPT_MS).await?;
    }
    Ok(Written { outcomes, sequence: (events > 0).then_some(sequence) })
}

/// What a request that was seen before is answered.
async fn repeated(
    connection: &mut Connection,
    tenant: &TenantName,
    row: &Row,
) -> Result<Option<Result<Journaled, AppendError>>, sqlx::Error> {
    let Some(request) = &row.request else { return Ok(None) };
    let receipt: Option<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT content_hash, outcome, sequence FROM receipts WHERE tenant_id = $1 AND request_id = $2",
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

async fn insert_receipt(
    connection: &mut Connection,
    tenant: &TenantName,
    number: u64,
    row: &Row,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let Some(request) = &row.request else { return Ok(()) };
    sqlx::query(
        "INSERT INTO receipts (tenant_id, request_id, content_hash, outcome, sequence, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
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
