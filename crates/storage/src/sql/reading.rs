//! What readers, audits and compaction read.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use runnel_model::{ContentSum, TenantName};

use super::{
    Connection, Database, Dialect,
    erasures::erasing,
    sqlx::{self, QueryBuilder},
};
use crate::{
    BlockRef, Found, JournalRef, Listing, Receipt, Unavailable,
    backend::{
        BlockPayload, JournalInput,
        Purpose::{self, Compaction, Ingest, Query},
        Totals, sum_of,
    },
};

impl Database {
    pub(crate) async fn newest(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move { Ok(newest(connection, &owner).await?.sequence) })
        })
        .await
    }

    pub(crate) async fn receipt(
        &self,
        tenant: &TenantName,
        request_id: &str,
    ) -> Result<Option<Receipt>, Unavailable> {
        let (owner, request_id) = (tenant.clone(), request_id.to_owned());
        self.read_one(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                let row: Option<(Vec<u8>, Vec<u8>, i64, i64)> = sqlx::query_as(
                    "SELECT content_hash, outcome, sequence, created_ms FROM receipts \
                     WHERE tenant_id = $1 AND request_id = $2",
                )
                .bind(owner.as_str())
                .bind(request_id)
                .fetch_optional(connection)
                .await?;
                Ok(row.map(|(hash, outcome, sequence, created_ms)| Receipt {
                    content_hash: sum_of(&hash).0,
                    outcome: Bytes::from(outcome),
                    sequence: sequence as u64,
                    created_ms,
                }))
            })
        })
        .await
    }

    pub(crate) async fn list(
        &self,
        purpose: Purpose,
        tenant: &TenantName,
        after: u64,
    ) -> Result<Listing, Unavailable> {
        let owner = tenant.clone();
        self.read(purpose, Some(tenant), move |connection| {
            Box::pin(async move { listing(connection, &owner, after).await })
        })
        .await
    }

    /// A listing of everything, and the totals at the same instant.
    pub(crate) async fn totals(&self, tenant: &TenantName) -> Result<(Listing, Totals), Unavailable> {
        let owner = tenant.clone();
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let listing = listing(connection, &owner, 0).await?;
                let row: Option<(i64, i64, i64)> = sqlx::query_as(
                    "SELECT accepted_events, dropped_events, erased_events FROM heads WHERE tenant_id = $1",
                )
                .bind(owner.as_str())
                .fetch_optional(&mut *connection)
                .await?;
                let (accepted, dropped, erased) = row.unwrap_or_default();
                let quarantine: Vec<(i64, i64, Option<String>)> = sqlx::query_as(
                    "SELECT sequence, events, reason FROM journal \
                     WHERE tenant_id = $1 AND quarantined_ms IS NOT NULL ORDER BY sequence",
                )
                .bind(owner.as_str())
                .fetch_all(&mut *connection)
                .await?;
                let lost = lost(connection, &owner).await?;
                let quarantine = quarantine.into_iter().map(|(sequence, events, reason)| {
                    (sequence as u64, events as u64, reason.unwrap_or_default())
                });
                let totals = Totals {
                    accepted: accepted as u64,
                    dropped: dropped as u64,
                    erased: erased as u64,
                    lost,
                    quarantine: quarantine.collect(),
                };
                Ok((listing, totals))
            })
        })
        .await
    }

    pub(crate) async fn quarantined_events(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let rows: Vec<(i64,)> = sqlx::query_as(
                    "SELECT events FROM journal WHERE tenant_id = $1 AND quarantined_ms IS NOT NULL ORDER BY sequence",
                )
                .bind(owner.as_str())
                .fetch_all(connection)
                .await?;
                Ok(rows.into_iter().map(|(events,)| events as u64).sum())
            })
        })
        .await
    }

    /// Payloads of journal rows, those that are there, by sequence.
    pub(crate) async fn payloads(
        &self,
        purpose: Purpose,
        tenant: &TenantName,
        sequences: &[u64],
    ) -> Result<Vec<(u64, Bytes)>, Unavailable> {
        let (owner, sequences) = (tenant.clone(), sequences.to_vec());
        self.read_one(purpose, Some(tenant), move |connection| {
            Box::pin(async move {
                let mut payloads = Vec::with_capacity(sequences.len());
                for some in sequences.chunks(64) {
                    let mut query: QueryBuilder<Dialect> = QueryBuilder::new(
                        "SELECT sequence, payload FROM journal_payloads WHERE tenant_id = ",
                    );
                    query.push_bind(owner.as_str()).push(" AND sequence IN (");
                    let mut list = query.separated(", ");
                    some.iter().for_each(|&sequence| {
                        list.push_bind(i64::try_from(sequence).unwrap_or(i64::MAX));
                    });
                    query.push(") ORDER BY sequence");
                    let rows: Vec<(i64, Vec<u8>)> =
                        query.build_query_as().persistent(false).fetch_all(&mut *connection).await?;
                    payloads.extend(
                        rows.into_iter().map(|(sequence, payload)| (sequence as u64, Bytes::from(payload))),
                    );
                }
                Ok(payloads)
            })
        })
        .await
    }

    /// A block's parts put together, with what was noted of them; `None` when it is gone.
    pub(crate) async fn block_payload(
        &self,
        purpose: Purpose,
        tenant: &TenantName,
        id: u64,
    ) -> Result<Option<BlockPayload>, Unavailable> {
        let owner = tenant.clone();
        self.read(purpose, Some(tenant), move |connection| {
            Box::pin(async move {
                let id = i64::try_from(id).unwrap_or(i64::MAX);
                let noted: Option<(i64, Vec<u8>, Option<i64>)> = sqlx::query_as(
                    "SELECT bytes, checksum, retired_ms FROM blocks WHERE tenant_id = $1 AND block_id = $2",
                )
                .bind(owner.as_str())
                .bind(id)
                .fetch_optional(&mut *connection)
                .await?;
                let Some((length, checksum, retired_ms)) = noted else { return Ok(None) };
                let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0).min(1 << 30));
                for part in 0.. {
                    let row: Option<(Vec<u8>,)> = sqlx::query_as(
                        "SELECT bytes FROM block_parts WHERE tenant_id = $1 AND block_id = $2 AND part = $3",
                    )
                    .bind(owner.as_str())
                    .bind(id)
                    .bind(part)
                    .fetch_optional(&mut *connection)
                    .await?;
                    match row {
                        Some((part,)) => bytes.extend_from_slice(&part),
                        None => break,
                    }
                }
                let half_deleted = retired_ms.is_some() && bytes.len() as i64 != length;
                Ok((!half_deleted).then(|| BlockPayload { bytes: bytes.freeze(), checksum }))
            })
        })
        .await
    }

    /// The oldest live journal rows, at most `limit`.
    pub(crate) async fn journal_inputs(
        &self,
        tenant: &TenantName,
        limit: usize,
    ) -> Result<Vec<JournalInput>, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, i64, i64, i64, i64)> = sqlx::query_as(
                    "SELECT sequence, events, bytes, raw_bytes, created_ms FROM journal \
                     WHERE tenant_id = $1 AND retired_ms IS NULL AND quarantined_ms IS NULL ORDER BY sequence LIMIT $2",
                )
                .bind(owner.as_str())
                .bind(limit as i64)
                .fetch_all(connection)
                .await?;
                let rows = rows.into_iter();
                Ok(rows
                    .map(|(sequence, events, bytes, raw_bytes, created_ms)| JournalInput {
                        sequence: sequence as u64,
                        events: events as u64,
                        bytes: bytes as u64,
                        raw_bytes: raw_bytes as u64,
                        created_ms,
                    })
                    .collect())
            })
        })
        .await
    }

    /// Contents that lost to another of the same identity, for identities from `from` up to and including `until`; and how many there are for all identities, with how many events were erased.
    pub(crate) async fn conflicts(
        &self,
        tenant: &TenantName,
        from: Vec<u8>,
        until: Vec<u8>,
    ) -> Result<(Vec<(Vec<u8>, ContentSum)>, (u64, u64)), Unavailable> {
        let owner = tenant.clone();
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
                    "SELECT identity, content FROM conflicts \
                     WHERE tenant_id = $1 AND identity >= $2 AND identity <= $3 ORDER BY identity",
                )
                .bind(owner.as_str())
                .bind(from)
                .bind(until)
                .fetch_all(&mut *connection)
                .await?;
                let rows = rows.into_iter().map(|(identity, content)| (identity, sum_of(&content)));
                Ok((rows.collect(), lost(connection, &owner).await?))
            })
        })
        .await
    }

    pub(crate) async fn found(&self, tenant: &TenantName, sequence: u64) -> Result<Found, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let row: Option<(i64, i64)> = sqlx::query_as(
                    "SELECT duplicates, conflicts FROM findings WHERE tenant_id = $1 AND sequence = $2",
                )
                .bind(owner.as_str())
                .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
                .fetch_optional(connection)
                .await?;
                let (duplicates, conflicts) = row.unwrap_or_default();
                Ok(Found { duplicates: duplicates as u64, conflicts: conflicts as u64 })
            })
        })
        .await
    }
}

/// How many contents are noted as lost, and how many events were erased, such contents among them.
async fn lost(connection: &mut Connection, tenant: &TenantName) -> Result<(u64, u64), sqlx::Error> {
    let (lost,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM conflicts WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let erased: Option<(i64,)> = sqlx::query_as("SELECT erased_events FROM heads WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    Ok((lost as u64, erased.map_or(0, |(erased,)| erased as u64)))
}

/// The numbers of the newest batch, claim about who is who, and erasure.
#[derive(Default)]
struct Newest {
    sequence: u64,
    alias: u64,
    erasure: u64,
    /// From when on events are kept.
    kept_from_ms: Option<i64>,
}

async fn newest(connection: &mut Connection, tenant: &TenantName) -> Result<Newest, sqlx::Error> {
    let row: Option<(i64, i64, i64, Option<i64>)> = sqlx::query_as(
        "SELECT sequence, alias_version, erasure_version, kept_from_ms FROM heads WHERE tenant_id = $1",
    )
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(Newest::default(), |(sequence, alias, erasure, kept_from_ms)| Newest {
        sequence: sequence as u64,
        alias: alias as u64,
        erasure: erasure as u64,
        kept_from_ms,
    }))
}

async fn listing(
    connection: &mut Connection,
    tenant: &TenantName,
    after: u64,
) -> Result<Listing, sqlx::Error> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let Newest { sequence, alias, erasure, kept_from_ms } = newest(connection, tenant).await?;
    let erasing = match erasure {
        0 => Arc::default(),
        _ => Arc::new(erasing(connection, tenant, kept_from_ms).await?),
    };
    let journal: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT sequence, events, bytes FROM journal \
         WHERE tenant_id = $1 AND sequence > $2 AND retired_ms IS NULL AND quarantined_ms IS NULL ORDER BY sequence",
    )
    .bind(tenant.as_str())
    .bind(after)
    .fetch_all(&mut *connection)
    .await?;
    let blocks: Vec<(i64, i64, i64, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT block_id, first_sequence, last_sequence, month, partition_id, events, bytes FROM blocks \
         WHERE tenant_id = $1 AND last_sequence > $2 AND retired_ms IS NULL ORDER BY block_id",
    )
    .bind(tenant.as_str())
    .bind(after)
    .fetch_all(connection)
    .await?;
    let journal = journal.into_iter().map(|(sequence, events, bytes)| JournalRef {
        sequence: sequence as u64,
        events: events as u32,
        bytes: bytes as u64,
    });
    let blocks = blocks.into_iter().map(|(id, first, last, month, partition, events, bytes)| BlockRef {
        id: id as u64,
        first_sequence: first as u64,
        last_sequence: last as u64,
        month: month as i32,
        partition: partition as u32,
        events: events as u64,
        bytes: bytes as u64,
    });
    Ok(Listing { sequence, alias, erasure, erasing, journal: journal.collect(), blocks: blocks.collect() })
}
