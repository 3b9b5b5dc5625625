//! What an appending transaction writes.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use runnel_model::{TenantName, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Span;

use super::{
    Connection, Dialect,
    chores::note,
    failure::blames_a_batch,
    head::Head,
    insert,
    sqlx::{self, QueryBuilder},
};
use crate::{Admitted, AppendError, Journaled, Request, Unavailable, admitted::Row, point::point};

/// Bytes of batches that may wait for their commit, over all tenants.
pub(super) const WAITING_BYTES: usize = 64 << 20;

/// Rows of one statement. Few, since the database prepares a statement for each number of rows and keeps it.
pub(super) const TOGETHER: usize = 16;
/// The same where there may be very many, and statements of more than [`TOGETHER`] are not kept.
pub(super) const MANY: usize = 512;

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

/// A row that a transaction adds to the journal; without events, only its receipt.
pub(super) struct New<'a> {
    pub(super) number: u64,
    pub(super) row: &'a Row,
    pub(super) now_ms: i64,
}

/// What was noted of a request.
struct Noted {
    content_hash: Vec<u8>,
    outcome: Bytes,
    sequence: u64,
}

/// Writes batches of one tenant, in their order, when its head is locked.
pub(super) async fn write(
    connection: &mut Connection,
    tenant: &TenantName,
    head: Option<Head>,
    group: &[Append],
    backlog_bytes: u64,
) -> Result<Written, sqlx::Error> {
    let mut outcomes = Vec::with_capacity(group.len());
    // The lock on the head is held until the commit: numbers are committed in their order.
    let Some(head) = head else {
        outcomes.extend(group.iter().map(|_| Err(AppendError::TenantUnknown(tenant.clone()))));
        return Ok(Written { outcomes, sequence: None });
    };
    let (mut sequence, mut bytes, mut events) = (head.sequence, 0u64, 0u64);
    let mut noted = receipts(connection, tenant, group).await?;
    let mut new = Vec::with_capacity(group.len());
    for Append { row, now_ms, .. } in group {
        if let Some(request) = &row.request
            && let Some(noted) = noted.get(&request.id)
        {
            let same = noted.content_hash == request.content_hash.to_le_bytes();
            outcomes.push(match same {
                true => Ok(Journaled::committed(noted.sequence, true, noted.outcome.clone())),
                false => Err(AppendError::RequestReused),
            });
            continue;
        }
        if row.events > 0 && row.erasure != head.erasure {
            outcomes.push(Err(AppendError::Erased));
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
        }
        if let Some(request) = &row.request {
            let content_hash = request.content_hash.to_le_bytes().to_vec();
            let outcome = row.outcome.clone();
            noted.insert(request.id.clone(), Noted { content_hash, outcome, sequence: number });
        }
        new.push(New { number, row, now_ms: *now_ms });
        outcomes.push(Ok(Journaled::committed(number, false, row.outcome.clone())));
    }
    if !new.is_empty() {
        insert(connection, tenant, &new).await?;
    }
    point("ing.after_receipt").await?;
    // While rows wait, what is noted of the tenant stays.
    let oldest_receipt = new.iter().map(|new| new.now_ms).min();
    if let (Some(oldest), 0) = (oldest_receipt, head.journal_events) {
        note(connection, tenant, events > 0, oldest + limits::RECEIPT_MS).await?;
    }
    Ok(Written { outcomes, sequence: (events > 0).then_some(sequence) })
}

/// What was noted before of the requests of a group.
async fn receipts(
    connection: &mut Connection,
    tenant: &TenantName,
    group: &[Append],
) -> Result<HashMap<String, Noted>, sqlx::Error> {
    let ids: Vec<&String> =
        group.iter().filter_map(|append| append.row.request.as_ref()).map(|request| &request.id).collect();
    let mut noted = HashMap::with_capacity(ids.len());
    for some in ids.chunks(TOGETHER) {
        let mut query: QueryBuilder<Dialect> = QueryBuilder::new(
            "SELECT request_id, content_hash, outcome, sequence FROM receipts WHERE tenant_id = ",
        );
        query.push_bind(tenant.as_str()).push(" AND request_id IN (");
        let mut list = query.separated(", ");
        some.iter().for_each(|id| {
            list.push_bind(id.as_str());
        });
        query.push(")");
        let found: Vec<(String, Vec<u8>, Vec<u8>, i64)> =
            query.build_query_as().fetch_all(&mut *connection).await?;
        noted.extend(found.into_iter().map(|(id, content_hash, outcome, sequence)| {
            (id, Noted { content_hash, outcome: Bytes::from(outcome), sequence: sequence as u64 })
        }));
    }
    Ok(noted)
}

/// What rows make of their tenant's head: the number of the last, and how many bytes and events came. Then, the tenant.
pub(super) const RAISE_HEAD: &str = "UPDATE heads SET sequence = $1, journal_bytes = journal_bytes + $2, journal_events = journal_events + $3, \
                                     accepted_events = accepted_events + $3 WHERE tenant_id = $4";

/// The first three parameters of [`RAISE_HEAD`].
pub(super) fn raised(rows: &[&New<'_>]) -> [i64; 3] {
    let bytes: usize = rows.iter().map(|new| new.row.payload.len()).sum();
    let events = rows.iter().map(|new| i64::from(new.row.events)).sum();
    [rows.last().map_or(0, |new| new.number as i64), bytes as i64, events]
}

/// Adds to a statement what is noted of some requests.
pub(super) fn push_receipts(
    query: &mut QueryBuilder<Dialect>,
    tenant: &TenantName,
    noted: &[(&New<'_>, &Request)],
) {
    query.push("INSERT INTO receipts (tenant_id, request_id, content_hash, outcome, sequence, created_ms) ");
    query.push_values(noted, |mut values, (new, request)| {
        values
            .push_bind(tenant.as_str())
            .push_bind(request.id.as_str())
            .push_bind(request.content_hash.to_le_bytes().to_vec())
            .push_bind(&new.row.outcome[..])
            .push_bind(new.number as i64)
            .push_bind(new.now_ms);
    });
}
