//! Durable counts.

use bytes::Bytes;
use runnel_model::{TenantName, limits};

use super::{
    Connection, Database, Dialect,
    failure::unavailable,
    rows::TOGETHER,
    sqlx::{self, QueryBuilder},
};
use crate::{
    AggregateCell, AggregateChange, AggregateError, AggregateState, Aggregates, Unavailable, Versions,
    backend::Purpose::{Admin, Query},
};

impl Database {
    pub(crate) async fn aggregates(
        &self,
        tenant: &TenantName,
        grain: u8,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<Aggregates, Unavailable> {
        let owner = tenant.clone();
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let head: Option<(i64, i64, i64, i64, i64, Option<i64>)> = sqlx::query_as(
                    "SELECT sequence, definition_version, alias_version, erasure_version, retentions, kept_from_ms \
                     FROM heads WHERE tenant_id = $1",
                )
                .bind(owner.as_str())
                .fetch_optional(&mut *connection)
                .await?;
                let state = state(connection, &owner).await?;
                let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
                    "SELECT start_ms, body FROM aggregates \
                     WHERE tenant_id = $1 AND grain = $2 AND start_ms >= $3 AND start_ms < $4 ORDER BY start_ms",
                )
                .bind(owner.as_str())
                .bind(i64::from(grain))
                .bind(from_ms)
                .bind(until_ms)
                .fetch_all(connection)
                .await?;
                let cells = rows.into_iter().map(|(start_ms, body)| AggregateCell {
                    grain,
                    start_ms,
                    body: Some(Bytes::from(body)),
                });
                let cells = cells.collect();
                Ok(match head {
                    Some((sequence, definition, alias, erasure, retentions, kept_from_ms)) => Aggregates {
                        head: versions((sequence, definition, alias, erasure)),
                        retentions: retentions as u64,
                        kept_from_ms,
                        state,
                        cells,
                    },
                    None => Aggregates { state, cells, ..Aggregates::default() },
                })
            })
        })
        .await
    }

    pub(crate) async fn change_aggregates(
        &self,
        tenant: &TenantName,
        change: AggregateChange,
    ) -> Result<(), AggregateError> {
        let owner = tenant.clone();
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                // Whoever changes them holds this row until the commit, and not the tenant's head: appends do not wait.
                if !take_turn(connection, &owner, &change).await.map_err(unavailable)? {
                    return Err(AggregateError::Stale);
                }
                replace(connection, &owner, change).await.map_err(unavailable)?;
                Ok(())
            })
        })
        .await
    }

    pub(crate) async fn restatements(
        &self,
        tenant: &TenantName,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
                    "SELECT number, body FROM restatements \
                     WHERE tenant_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3",
                )
                .bind(owner.as_str())
                .bind(i64::try_from(before).unwrap_or(i64::MAX))
                .bind(limit as i64)
                .fetch_all(connection)
                .await?;
                Ok(rows.into_iter().map(|(number, body)| (number as u64, Bytes::from(body))).collect())
            })
        })
        .await
    }
}

fn versions((sequence, definition, alias, erasure): (i64, i64, i64, i64)) -> Versions {
    Versions {
        sequence: sequence as u64,
        definition: definition as u64,
        alias: alias as u64,
        erasure: erasure as u64,
    }
}

async fn state(
    connection: &mut Connection,
    tenant: &TenantName,
) -> Result<Option<AggregateState>, sqlx::Error> {
    let row: Option<(i64, i64, i64, i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT number, sequence, definition, alias, erasure, body FROM aggregate_states WHERE tenant_id = $1",
    )
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(number, sequence, definition, alias, erasure, body)| AggregateState {
        number: number as u64,
        made_of: versions((sequence, definition, alias, erasure)),
        body: Bytes::from(body),
    }))
}

/// Notes what aggregates are made of. `false` when somebody else did since they were read.
async fn take_turn(
    connection: &mut Connection,
    tenant: &TenantName,
    change: &AggregateChange,
) -> Result<bool, sqlx::Error> {
    let statement = match change.expected {
        0 => {
            "INSERT INTO aggregate_states (number, sequence, definition, alias, erasure, body, tenant_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id) DO NOTHING"
        }
        _ => {
            "UPDATE aggregate_states SET number = $1, sequence = $2, definition = $3, alias = $4, erasure = $5, \
             body = $6 WHERE tenant_id = $7 AND number = $8"
        }
    };
    let mut query = sqlx::query(statement)
        .bind(change.expected as i64 + 1)
        .bind(change.made_of.sequence as i64)
        .bind(change.made_of.definition as i64)
        .bind(change.made_of.alias as i64)
        .bind(change.made_of.erasure as i64)
        .bind(&change.body[..])
        .bind(tenant.as_str());
    if change.expected > 0 {
        query = query.bind(change.expected as i64);
    }
    Ok(query.execute(connection).await?.rows_affected() == 1)
}

async fn replace(
    connection: &mut Connection,
    tenant: &TenantName,
    change: AggregateChange,
) -> Result<(), sqlx::Error> {
    for some in change.cells.chunks(TOGETHER) {
        for cell in some {
            sqlx::query("DELETE FROM aggregates WHERE tenant_id = $1 AND grain = $2 AND start_ms = $3")
                .bind(tenant.as_str())
                .bind(i64::from(cell.grain))
                .bind(cell.start_ms)
                .execute(&mut *connection)
                .await?;
        }
        let full: Vec<(&AggregateCell, &Bytes)> =
            some.iter().filter_map(|cell| Some((cell, cell.body.as_ref()?))).collect();
        if full.is_empty() {
            continue;
        }
        let mut rows: QueryBuilder<Dialect> =
            QueryBuilder::new("INSERT INTO aggregates (tenant_id, grain, start_ms, body) ");
        rows.push_values(full, |mut row, (cell, body)| {
            row.push_bind(tenant.as_str())
                .push_bind(i64::from(cell.grain))
                .push_bind(cell.start_ms)
                .push_bind(&body[..]);
        });
        rows.build().execute(&mut *connection).await?;
    }
    let newest: Option<(i64,)> =
        sqlx::query_as("SELECT number FROM restatements WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1")
            .bind(tenant.as_str())
            .fetch_optional(&mut *connection)
            .await?;
    let mut number = newest.map_or(0, |(number,)| number);
    for body in &change.restatements {
        number += 1;
        sqlx::query("INSERT INTO restatements (tenant_id, number, body) VALUES ($1, $2, $3)")
            .bind(tenant.as_str())
            .bind(number)
            .bind(&body[..])
            .execute(&mut *connection)
            .await?;
    }
    if !change.restatements.is_empty() {
        sqlx::query("DELETE FROM restatements WHERE tenant_id = $1 AND number <= $2")
            .bind(tenant.as_str())
            .bind(number - limits::RESTATEMENTS as i64)
            .execute(connection)
            .await?;
    }
    Ok(())
}
