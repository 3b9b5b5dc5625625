//! Appends to the folder: the writer commits batches of one tenant together.

use runnel_failpoints::hit;
use runnel_model::TenantName;
use sqlx::{QueryBuilder, SqliteConnection};
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    failure::{commit_failed, unavailable},
    head::lock_head,
    rows::{Append, New, RAISE_HEAD, TOGETHER, Written, answer, push_receipts, raised, write},
    writer::{Trust, begin, commit as commit_transaction, roll_back},
};
use crate::{
    Unavailable,
    notice::Notices,
    point::point,
    spans::{self, FOLDER},
    watch::Watchers,
};

/// The one writer needs no lock.
pub(super) const LOCK_HEAD: &str =
    "SELECT sequence, journal_bytes, journal_events, erasure_version FROM heads WHERE tenant_id = $1";
pub(super) const LOCK_BLOCK: &str = "SELECT block_id FROM blocks WHERE tenant_id = $1 AND block_id = $2";

/// Writes rows with their payloads and receipts, and raises the head. Nothing is on its way to this database, so that each row may have a statement.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    new: &[New<'_>],
) -> Result<(), sqlx::Error> {
    let rows: Vec<&New<'_>> = new.iter().filter(|new| new.row.events > 0).collect();
    for New { number, row, now_ms } in &rows {
        sqlx::query(
            "INSERT INTO journal (tenant_id, sequence, created_ms, events, bytes, raw_bytes, content_sum) \
             VALUES (?, ?, ?, ?, ?, ?, ?); \
             INSERT INTO journal_payloads (tenant_id, sequence, payload) VALUES (?, ?, ?)",
        )
        .bind(tenant.as_str())
        .bind(*number as i64)
        .bind(*now_ms)
        .bind(i64::from(row.events))
        .bind(row.payload.len() as i64)
        .bind(row.raw_bytes as i64)
        .bind(&row.content_sum.0.to_le_bytes()[..])
        .bind(tenant.as_str())
        .bind(*number as i64)
        .bind(&row.payload[..])
        .execute(&mut *connection)
        .await?;
    }
    if !rows.is_empty() {
        point("ing.after_journal").await?;
        let [sequence, bytes, events] = raised(&rows);
        let raise = sqlx::query(RAISE_HEAD).bind(sequence).bind(bytes).bind(events).bind(tenant.as_str());
        raise.execute(&mut *connection).await?;
    }
    let noted = new.iter().filter_map(|new| Some((new, new.row.request.as_ref()?)));
    for some in noted.collect::<Vec<_>>().chunks(TOGETHER) {
        let mut query = QueryBuilder::new("");
        push_receipts(&mut query, tenant, some);
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Commits batches of one tenant together. When that fails for a reason that may lie in one of them, each gets a transaction of its own.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    group: Vec<Append>,
    backlog_bytes: u64,
    watchers: &Watchers,
    notices: &Notices,
) -> Trust {
    let began = Instant::now();
    let span = spans::append(FOLDER, group.iter().map(|append| &append.span));
    let result = transaction(connection, tenant, &group, backlog_bytes).instrument(span).await;
    notices.committed(began, group.len(), &result);
    let mut trust = match &result {
        Err(Unavailable::OutcomeUnknown(_)) => Trust::Suspect,
        _ => Trust::Known,
    };
    let result = result.map(|written| {
        if let Some(sequence) = written.sequence {
            watchers.raise(tenant, sequence);
        }
        written.outcomes
    });
    for append in answer(group, result) {
        let alone =
            Box::pin(commit(connection, tenant, vec![append], backlog_bytes, watchers, notices)).await;
        if alone == Trust::Suspect {
            trust = Trust::Suspect;
        }
    }
    trust
}

async fn transaction(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    group: &[Append],
    backlog_bytes: u64,
) -> Result<Written, Unavailable> {
    hit("ing.before_begin").await?;
    begin(connection).await?;
    let written = async {
        point("ing.in_begin").await?;
        let head = lock_head(connection, tenant).await?;
        let written = write(connection, tenant, head, group, backlog_bytes).await?;
        point("sq.before_commit").await.map(|()| written)
    };
    match written.await {
        Ok(written) => {
            commit_transaction(connection).await?;
            point("ing.after_commit_before_ack").await.map_err(commit_failed)?;
            Ok(written)
        }
        Err(error) => {
            roll_back(connection).await;
            Err(unavailable(error))
        }
    }
}
