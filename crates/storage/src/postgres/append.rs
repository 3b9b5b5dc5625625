//! Appends: batches of one tenant share a commit, and none waits for another tenant's.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use runnel_failpoints::hit;
use runnel_model::TenantName;
use tokio::{sync::Semaphore, time::Instant};
use tracing::Instrument;

use super::{
    Connection, Database, Dialect,
    failure::{collided, commit_failed, lost, timed_out, unavailable},
    pool::Pool,
    rows::{
        self, Append, New, RAISE_HEAD, TOGETHER, WAITING_BYTES, Written, answer, push_receipts, raised, write,
    },
    session::{PATIENCE, Session, within},
    sqlx::{self, Arguments, QueryBuilder, postgres::PgArguments},
};
use crate::{
    Admitted, AppendError, Journaled, Request, Unavailable, notice::Notices, point::point, spans,
    watch::Watchers,
};

/// Payload bytes that one commit takes at most, unless a single batch has more.
const COMMIT_BYTES: usize = 8 << 20;
/// How often a commit is tried again that the server undid because of others.
const COLLISIONS: usize = 5;
const HOUR_MS: i64 = 3_600_000;

/// The hour of an instant, since the Unix epoch.
pub(super) fn hour_of(now_ms: i64) -> i64 {
    now_ms.div_euclid(HOUR_MS)
}

/// Batches that wait, by tenant. A tenant is there while a commit of its is in flight.
#[derive(Clone)]
pub(super) struct Queues {
    waiting: Arc<Mutex<HashMap<TenantName, VecDeque<Append>>>>,
    room: Arc<Semaphore>,
    watchers: Arc<Watchers>,
    notices: Notices,
    backlog_bytes: u64,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").field("backlog_bytes", &self.backlog_bytes).finish_non_exhaustive()
    }
}

impl Queues {
    pub(super) fn new(backlog_bytes: u64, watchers: Arc<Watchers>, notices: Notices) -> Queues {
        let room = Arc::new(Semaphore::new(WAITING_BYTES));
        Queues { waiting: Arc::default(), room, watchers, notices, backlog_bytes }
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.room.close();
    }

    /// Puts a batch into the tenant's queue. `true` when nobody works on that queue yet.
    fn push(&self, tenant: &TenantName, append: Append) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(tenant) {
            Some(queue) => {
                queue.push_back(append);
                false
            }
            None => {
                waiting.insert(tenant.clone(), VecDeque::from([append]));
                true
            }
        }
    }

    /// The batches of the next commit. When there are none, the tenant is not there any more.
    fn take(&self, tenant: &TenantName) -> Vec<Append> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = waiting.get_mut(tenant) else { return Vec::new() };
        let mut bytes = 0;
        let fit = queue.iter().take_while(|append| {
            bytes += append.row.memory();
            bytes <= COMMIT_BYTES
        });
        let fit = fit.count().max(1).min(queue.len());
        let group: Vec<Append> = queue.drain(..fit).collect();
        if group.is_empty() {
            waiting.remove(tenant);
        }
        group
    }
}

impl Database {
    pub(crate) async fn append(
        &self,
        tenant: &TenantName,
        admitted: &Admitted,
        now_ms: i64,
    ) -> Result<Journaled, AppendError> {
        let hand_over = |append| {
            if self.queues.push(tenant, append) {
                tokio::spawn(work_off(self.queues.clone(), self.pools.ingest.clone(), tenant.clone()));
            }
            std::future::ready(Ok(()))
        };
        rows::append(&self.queues.room, admitted, now_ms, hand_over).await
    }
}

/// Commits what waits, group by group, until nothing does.
async fn work_off(queues: Queues, pool: Pool, tenant: TenantName) {
    let mut worker = Worker { queues: &queues, tenant: &tenant, is_done: false };
    loop {
        let group = queues.take(&tenant);
        if group.is_empty() {
            worker.is_done = true;
            return;
        }
        commit(&queues, &pool, &tenant, group).await;
    }
}

/// Whoever works on a tenant's queue. When it ends before the queue does, because it panicked, those who wait are told that it stopped, and the next has another worker.
struct Worker<'a> {
    queues: &'a Queues,
    tenant: &'a TenantName,
    is_done: bool,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.queues.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(self.tenant);
        }
    }
}

/// Commits batches together. When that fails for a reason that may lie in one of them, each gets a transaction of its own.
async fn commit(queues: &Queues, pool: &Pool, tenant: &TenantName, group: Vec<Append>) {
    let mut result = transaction(queues, pool, tenant, &group).await;
    for _ in 0..COLLISIONS {
        if !result.as_ref().is_err_and(collided) {
            break;
        }
        result = transaction(queues, pool, tenant, &group).await;
    }
    let result = result.map(|written| {
        if let Some(sequence) = written.sequence {
            queues.watchers.raise(tenant, sequence);
        }
        written.outcomes
    });
    for append in answer(group, result) {
        Box::pin(commit(queues, pool, tenant, vec![append])).await;
    }
}

/// One try, in a span of its own.
async fn transaction(
    queues: &Queues,
    pool: &Pool,
    tenant: &TenantName,
    group: &[Append],
) -> Result<Written, Unavailable> {
    let began = Instant::now();
    let span = spans::append(pool.server.place(), group.iter().map(|append| &append.span));
    let result = attempt(pool, tenant, group, queues.backlog_bytes).instrument(span).await;
    queues.notices.committed(began, group.len(), &result);
    result
}

async fn attempt(
    pool: &Pool,
    tenant: &TenantName,
    group: &[Append],
    backlog_bytes: u64,
) -> Result<Written, Unavailable> {
    hit("ing.before_begin").await?;
    let (mut session, head) = Session::begin_at_head(pool, tenant).await?;
    hit("ing.in_begin").await?;
    let written = match session.connection() {
        Some(connection) => within(PATIENCE, write(connection, tenant, head, group, backlog_bytes)).await,
        None => Err(timed_out()),
    };
    match written {
        Ok(written) => {
            hit("ing.before_commit").await?;
            // The point is passed while the commit is on its way.
            let (committed, passed) = tokio::join!(session.commit(), point("ing.in_commit"));
            committed.and(passed.map_err(commit_failed))?;
            point("ing.after_commit_before_ack").await.map_err(commit_failed)?;
            Ok(written)
        }
        Err(error) => {
            // Of a connection that is lost, or does not answer, nothing more is asked.
            if !lost(&error) {
                session.roll_back().await;
            }
            Err(unavailable(error))
        }
    }
}

/// Whoever reads a tenant's head keeps others from it until the end of the transaction.
pub(super) const LOCK_HEAD: &str = "SELECT sequence, journal_bytes, journal_events, erasure_version FROM heads WHERE tenant_id = $1 FOR NO KEY UPDATE";

/// Writes rows with their payloads and receipts, and raises the head: one way to the database for [`TOGETHER`] of them.
pub(super) async fn insert(
    connection: &mut Connection,
    tenant: &TenantName,
    new: &[New<'_>],
) -> Result<(), sqlx::Error> {
    for some in new.chunks(TOGETHER) {
        let rows: Vec<&New<'_>> = some.iter().filter(|new| new.row.events > 0).collect();
        let noted = some.iter().filter_map(|new| Some((new, new.row.request.as_ref()?)));
        let noted: Vec<(&New<'_>, &Request)> = noted.collect();
        if rows.is_empty() {
            let mut query: QueryBuilder<Dialect> = QueryBuilder::new("");
            push_receipts(&mut query, tenant, &noted);
            query.build().execute(&mut *connection).await?;
            continue;
        }
        let mut arguments = PgArguments::default();
        for number in raised(&rows) {
            arguments.add(number).map_err(sqlx::Error::Encode)?;
        }
        arguments.add(tenant.as_str()).map_err(sqlx::Error::Encode)?;
        let head = format!("WITH head AS ({RAISE_HEAD}), ");
        let mut query: QueryBuilder<Dialect> = QueryBuilder::with_arguments(head, arguments);
        if !noted.is_empty() {
            query.push("receipt AS (");
            push_receipts(&mut query, tenant, &noted);
            query.push("), ");
        }
        query.push("payload AS (INSERT INTO journal_payloads (tenant_id, sequence, hour, payload) ");
        query.push_values(&rows, |mut values, New { number, row, now_ms }| {
            values
                .push_bind(tenant.as_str())
                .push_bind(*number as i64)
                .push_bind(hour_of(*now_ms))
                .push_bind(&row.payload[..]);
        });
        query.push(
            ") INSERT INTO journal (tenant_id, sequence, hour, created_ms, events, bytes, raw_bytes, content_sum) ",
        );
        query.push_values(&rows, |mut values, New { number, row, now_ms }| {
            values
                .push_bind(tenant.as_str())
                .push_bind(*number as i64)
                .push_bind(hour_of(*now_ms))
                .push_bind(*now_ms)
                .push_bind(i64::from(row.events))
                .push_bind(row.payload.len() as i64)
                .push_bind(row.raw_bytes as i64)
                .push_bind(row.content_sum.0.to_le_bytes().to_vec());
        });
        query.build().execute(&mut *connection).await?;
    }
    point("ing.after_journal").await
}

/// Whoever reads a block's row so keeps others who would delete it or its parts waiting until the end of the transaction.
pub(super) const LOCK_BLOCK: &str =
    "SELECT block_id FROM blocks WHERE tenant_id = $1 AND block_id = $2 FOR UPDATE";
