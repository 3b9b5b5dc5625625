//! Erasures: what is to be deleted, and what is refused from then on.

use std::collections::{BTreeMap, BTreeSet};

use runnel_model::{Erased, Erasing, Identities, Mark, Privacy, Secret, TenantName, limits, visitor_hash};

use super::{
    Connection, Database, Dialect,
    chores::note,
    control::tenant as tenant_name,
    failure::unavailable,
    head::{Head, lock_head},
    identities::around,
    lists::take_off,
    rows::{MANY, TOGETHER},
    sqlx::{self, QueryBuilder},
};
use crate::{
    EraseError, Erasure, Unavailable,
    backend::Purpose::{Compaction, Ingest, Query},
};

/// Receipts that are looked at in one transaction.
const RECEIPTS: usize = 5_000;

impl Database {
    /// What ingest has to know. Where the tenant has no secret, this one becomes it.
    pub(crate) async fn privacy(
        &self,
        tenant: &TenantName,
        secret: Option<Secret>,
    ) -> Result<Privacy, Unavailable> {
        if let Some(secret) = secret {
            let owner = tenant.clone();
            self.write(Ingest, Some(tenant), move |connection| {
                Box::pin(async move { keep_secret(connection, &owner, secret).await.map_err(unavailable) })
            })
            .await?;
        }
        let owner = tenant.clone();
        self.read(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                let (version, refused_before_ms) = version(connection, &owner).await?;
                let secret = secret_of(connection, &owner).await?;
                let rows: Vec<(Vec<u8>, i64)> =
                    sqlx::query_as("SELECT mark, until_ms FROM tombstones WHERE tenant_id = $1")
                        .bind(owner.as_str())
                        .fetch_all(connection)
                        .await?;
                let erased =
                    rows.into_iter().filter_map(|(mark, until_ms)| Some((mark_of(&mark)?, until_ms)));
                Ok(Privacy { version, secret, erased: erased.collect(), refused_before_ms })
            })
        })
        .await
    }

    /// Notes that everything of the visitor whom an id counts as is to be erased, and forgets who that is.
    pub(crate) async fn erase(
        &self,
        tenant: &TenantName,
        id: &str,
        secret: Secret,
        now_ms: i64,
    ) -> Result<Erasure, EraseError> {
        let (owner, id) = (tenant.clone(), id.to_owned());
        self.write(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                // Until the commit nothing is appended and nobody is identified.
                let head = lock_head(connection, &owner).await.map_err(unavailable)?;
                let Some(Head { sequence, .. }) = head else { return Err(EraseError::TenantUnknown(owner)) };
                let claims = around(connection, &owner, [&*id]).await.map_err(unavailable)?;
                let mut people = Identities::default();
                drop(people.add(&claims.ok_or(EraseError::TooManyIds)?));
                let visitor = people.visitor(&id).to_owned();
                let mut ids: BTreeSet<String> = people.of_visitor(&visitor).map(str::to_owned).collect();
                ids.extend([id, visitor]);
                let until = Erased { until_ms: now_ms, sequence };
                Ok(erase(connection, &owner, &ids, secret, until).await.map_err(unavailable)?)
            })
        })
        .await
    }

    pub(crate) async fn erasure(
        &self,
        tenant: &TenantName,
        number: u64,
    ) -> Result<Option<Erasure>, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let row: Option<(i64, Option<i64>, i64)> = sqlx::query_as(
                    "SELECT requested_ms, done_ms, events FROM erasures WHERE tenant_id = $1 AND number = $2",
                )
                .bind(owner.as_str())
                .bind(i64::try_from(number).unwrap_or(i64::MAX))
                .fetch_optional(connection)
                .await?;
                Ok(row.map(|(requested_ms, done_ms, events)| Erasure {
                    number,
                    requested_ms,
                    done_ms,
                    events: events as u64,
                    ids: 0,
                }))
            })
        })
        .await
    }

    /// The tenants of whom something is to be erased.
    pub(crate) async fn to_erase(&self) -> Result<Vec<TenantName>, Unavailable> {
        self.read_one(Compaction, None, |connection| {
            Box::pin(async move {
                let statement = "SELECT tenant_id FROM chores WHERE erasing = 1 ORDER BY tenant_id";
                let rows: Vec<(String,)> = sqlx::query_as(statement).fetch_all(connection).await?;
                rows.into_iter().map(|(tenant,)| tenant_name(&tenant)).collect::<Result<Vec<_>, _>>()
            })
        })
        .await
    }

    /// Events of ids that are erased happened later than was known: up to these instants they are refused as well, and do not count.
    pub(crate) async fn erase_until(
        &self,
        tenant: &TenantName,
        latest: Vec<(String, i64)>,
    ) -> Result<(), Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move { erase_until(connection, &owner, &latest).await.map_err(unavailable) })
        })
        .await
    }

    /// Deletes what is kept of requests whose batches have these numbers.
    pub(crate) async fn forget_requests(
        &self,
        tenant: &TenantName,
        sequences: &BTreeSet<u64>,
    ) -> Result<(), Unavailable> {
        let mut after = String::new();
        loop {
            let (owner, from) = (tenant.clone(), after.clone());
            let page: Vec<(String, i64)> = self
                .read_one(Compaction, Some(tenant), move |connection| {
                    Box::pin(async move {
                        sqlx::query_as(
                            "SELECT request_id, sequence FROM receipts WHERE tenant_id = $1 AND request_id > $2 \
                             ORDER BY request_id LIMIT $3",
                        )
                        .bind(owner.as_str())
                        .bind(from)
                        .bind(RECEIPTS as i64)
                        .fetch_all(connection)
                        .await
                    })
                })
                .await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = last.clone();
            let requests: Vec<String> = page
                .into_iter()
                .filter(|(_, sequence)| sequences.contains(&(*sequence as u64)))
                .map(|(request, _)| request)
                .collect();
            if requests.is_empty() {
                continue;
            }
            let owner = tenant.clone();
            let forgotten: Result<(), Unavailable> = self
                .write(Compaction, Some(tenant), move |connection| {
                    Box::pin(async move {
                        delete_listed(
                            connection,
                            &owner,
                            "DELETE FROM receipts WHERE tenant_id = ",
                            "request_id",
                            &requests,
                        )
                        .await
                        .map(drop)
                        .map_err(unavailable)
                    })
                })
                .await;
            forgotten?;
        }
    }

    /// Deletes what is noted of contents of these ids that lost to others.
    pub(crate) async fn forget_conflicts(
        &self,
        tenant: &TenantName,
        erasing: &Erasing,
    ) -> Result<(), Unavailable> {
        for id in erasing.ids() {
            let (owner, hash) = (tenant.clone(), visitor_hash(id));
            let forgotten: Result<(), Unavailable> = self
                .write(Compaction, Some(tenant), move |connection| {
                    Box::pin(
                        async move { forget_conflicts(connection, &owner, hash).await.map_err(unavailable) },
                    )
                })
                .await;
            forgotten?;
        }
        Ok(())
    }

    /// Forgets the ids of erasures up to this one.
    pub(crate) async fn forget_erasing(&self, tenant: &TenantName, number: u64) -> Result<(), Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM erasing WHERE tenant_id = $1 AND number <= $2")
                    .bind(owner.as_str())
                    .bind(number as i64)
                    .execute(connection)
                    .await
                    .map(drop)
                    .map_err(unavailable)
            })
        })
        .await
    }

    /// Whether there are erasures that are not done.
    pub(crate) async fn has_to_finish(&self, tenant: &TenantName) -> Result<bool, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                let (waiting,): (i64,) =
                    sqlx::query_as("SELECT COUNT(*) FROM erasures WHERE tenant_id = $1 AND done_ms IS NULL")
                        .bind(owner.as_str())
                        .fetch_one(connection)
                        .await?;
                Ok(waiting > 0)
            })
        })
        .await
    }

    /// Notes that erasures up to this one are done.
    pub(crate) async fn erasures_end(
        &self,
        tenant: &TenantName,
        number: u64,
        now_ms: i64,
    ) -> Result<(), Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move { end(connection, &owner, number as i64, now_ms).await.map_err(unavailable) })
        })
        .await
    }
}

/// Notes ids whose events are deleted, and refused from now on.
async fn erase(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: &BTreeSet<String>,
    secret: Secret,
    Erased { until_ms: now_ms, sequence }: Erased,
) -> Result<Erasure, sqlx::Error> {
    keep_secret(connection, tenant, secret).await?;
    let secret = secret_of(connection, tenant).await?.unwrap_or(secret);
    let named: Vec<String> = ids.iter().cloned().collect();
    for column in ["id", "belongs_to"] {
        delete_listed(connection, tenant, "DELETE FROM aliases WHERE tenant_id = ", column, &named).await?;
    }
    take_off(connection, tenant, &named).await?;
    let number = begin(connection, tenant, now_ms).await?;
    for some in named.chunks(MANY) {
        let mut rows: QueryBuilder<Dialect> =
            QueryBuilder::new("INSERT INTO erasing (tenant_id, id, number, until_ms, sequence) ");
        rows.push_values(some, |mut row, id| {
            row.push_bind(tenant.as_str()).push_bind(id.as_str()).push_bind(number).push_bind(now_ms);
            row.push_bind(sequence as i64);
        });
        rows.push(
            " ON CONFLICT (tenant_id, id) DO UPDATE SET number = excluded.number, sequence = excluded.sequence, \
             until_ms = \
             CASE WHEN excluded.until_ms > erasing.until_ms THEN excluded.until_ms ELSE erasing.until_ms END",
        );
        rows.build().persistent(false).execute(&mut *connection).await?;
        let marks: Vec<(Mark, i64)> = some.iter().map(|id| (secret.mark(id), now_ms)).collect();
        bury(connection, tenant, &marks).await?;
    }
    Ok(Erasure {
        number: number as u64,
        requested_ms: now_ms,
        done_ms: None,
        events: 0,
        ids: named.len() as u32,
    })
}

/// Notes that something does not count from the commit on and is to be deleted. The number of the erasure.
pub(super) async fn begin(
    connection: &mut Connection,
    tenant: &TenantName,
    now_ms: i64,
) -> Result<i64, sqlx::Error> {
    let number = next_version(connection, tenant).await?;
    sqlx::query("INSERT INTO erasures (tenant_id, number, requested_ms) VALUES ($1, $2, $3)")
        .bind(tenant.as_str())
        .bind(number)
        .bind(now_ms)
        .execute(&mut *connection)
        .await?;
    note(connection, tenant, false, now_ms + limits::RECEIPT_MS).await?;
    sqlx::query("UPDATE chores SET erasing = 1 WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(number)
}

/// Refuses what happened to ids, of which none occurs twice, each up to an instant.
async fn bury(
    connection: &mut Connection,
    tenant: &TenantName,
    marks: &[(Mark, i64)],
) -> Result<(), sqlx::Error> {
    let mut rows: QueryBuilder<Dialect> =
        QueryBuilder::new("INSERT INTO tombstones (tenant_id, mark, until_ms) ");
    rows.push_values(marks, |mut row, (mark, until_ms)| {
        row.push_bind(tenant.as_str()).push_bind(mark.0.to_vec()).push_bind(*until_ms);
    });
    rows.push(
        " ON CONFLICT (tenant_id, mark) DO UPDATE SET until_ms = \
         CASE WHEN excluded.until_ms > tombstones.until_ms THEN excluded.until_ms ELSE tombstones.until_ms END",
    );
    rows.build().persistent(false).execute(connection).await?;
    Ok(())
}

async fn erase_until(
    connection: &mut Connection,
    tenant: &TenantName,
    latest: &[(String, i64)],
) -> Result<(), sqlx::Error> {
    lock_head(connection, tenant).await?;
    let Some(secret) = secret_of(connection, tenant).await? else { return Ok(()) };
    next_version(connection, tenant).await?;
    for (id, until_ms) in latest {
        sqlx::query("UPDATE erasing SET until_ms = $1 WHERE tenant_id = $2 AND id = $3 AND until_ms < $1")
            .bind(*until_ms)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    let marks: Vec<(Mark, i64)> = latest.iter().map(|(id, until_ms)| (secret.mark(id), *until_ms)).collect();
    for some in marks.chunks(MANY) {
        bury(connection, tenant, some).await?;
    }
    Ok(())
}

/// What was dropped as a conflict counts as erased.
async fn forget_conflicts(
    connection: &mut Connection,
    tenant: &TenantName,
    visitor_hash: u64,
) -> Result<(), sqlx::Error> {
    let from = visitor_hash.to_be_bytes().to_vec();
    let until = [&from[..], &[u8::MAX; 16]].concat();
    let deleted =
        sqlx::query("DELETE FROM conflicts WHERE tenant_id = $1 AND identity >= $2 AND identity <= $3")
            .bind(tenant.as_str())
            .bind(from)
            .bind(until)
            .execute(&mut *connection)
            .await?;
    if deleted.rows_affected() > 0 {
        sqlx::query(
            "UPDATE heads SET dropped_events = dropped_events - $1, erased_events = erased_events + $1 \
             WHERE tenant_id = $2",
        )
        .bind(deleted.rows_affected() as i64)
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn end(
    connection: &mut Connection,
    tenant: &TenantName,
    number: i64,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    lock_head(connection, tenant).await?;
    sqlx::query("UPDATE erasures SET done_ms = $1 WHERE tenant_id = $2 AND number <= $3 AND done_ms IS NULL")
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(number)
        .execute(&mut *connection)
        .await?;
    // What was asked for meanwhile, and what is not kept since, which has no ids, is not done.
    let (waiting,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM erasures WHERE tenant_id = $1 AND done_ms IS NULL")
            .bind(tenant.as_str())
            .fetch_one(&mut *connection)
            .await?;
    if waiting == 0 {
        sqlx::query("UPDATE chores SET erasing = 0 WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Ids whose events are being deleted, beside everything before an instant.
pub(super) async fn erasing(
    connection: &mut Connection,
    tenant: &TenantName,
    kept_from_ms: Option<i64>,
) -> Result<Erasing, sqlx::Error> {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT id, until_ms, sequence FROM erasing WHERE tenant_id = $1 ORDER BY id")
            .bind(tenant.as_str())
            .fetch_all(connection)
            .await?;
    let rows = rows.into_iter();
    let ids = rows.map(|(id, until_ms, sequence)| (id, Erased { until_ms, sequence: sequence as u64 }));
    Ok(Erasing::new(ids.collect(), kept_from_ms))
}

/// Those of the ids that are refused at an instant, each with the last one at which it is.
pub(super) async fn erased(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let mut erased = BTreeMap::new();
    // A claim that is being made waits for an erasure that is, the first one too, and the other way about.
    if lock_head(connection, tenant).await?.is_none_or(|head| head.erasure == 0) {
        return Ok(erased);
    }
    let Some(secret) = secret_of(connection, tenant).await? else { return Ok(erased) };
    let marks: Vec<(Mark, &str)> = ids.iter().map(|id| (secret.mark(id), *id)).collect();
    for some in marks.chunks(MANY) {
        let mut query: QueryBuilder<Dialect> =
            QueryBuilder::new("SELECT mark, until_ms FROM tombstones WHERE tenant_id = ");
        query.push_bind(tenant.as_str()).push(" AND mark IN (");
        let mut list = query.separated(", ");
        some.iter().for_each(|(mark, _)| {
            list.push_bind(mark.0.to_vec());
        });
        query.push(")");
        let query = query.build_query_as().persistent(some.len() <= TOGETHER);
        let rows: Vec<(Vec<u8>, i64)> = query.fetch_all(&mut *connection).await?;
        for (mark, until_ms) in rows {
            let mut of = some.iter().filter(|(known, _)| known.0[..] == mark[..]);
            erased.extend(of.next().map(|(_, id)| ((*id).to_owned(), until_ms)));
        }
    }
    Ok(erased)
}

/// Deletes the rows of a table of which a column has one of these values. The statement goes up to its tenant. How many there were.
pub(super) async fn delete_listed(
    connection: &mut Connection,
    tenant: &TenantName,
    statement: &'static str,
    column: &'static str,
    values: &[String],
) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    for some in values.chunks(MANY) {
        let mut query: QueryBuilder<Dialect> = QueryBuilder::new(statement);
        query.push_bind(tenant.as_str());
        query.push(" AND ").push(column).push(" IN (");
        let mut list = query.separated(", ");
        some.iter().for_each(|value| {
            list.push_bind(value.as_str());
        });
        query.push(")");
        let query = query.build().persistent(some.len() <= TOGETHER);
        deleted += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(deleted)
}

async fn keep_secret(
    connection: &mut Connection,
    tenant: &TenantName,
    secret: Secret,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO secrets (tenant_id, secret) VALUES ($1, $2) ON CONFLICT (tenant_id) DO NOTHING")
        .bind(tenant.as_str())
        .bind(&secret.0[..])
        .execute(connection)
        .await?;
    Ok(())
}

async fn secret_of(connection: &mut Connection, tenant: &TenantName) -> Result<Option<Secret>, sqlx::Error> {
    let row: Option<(Vec<u8>,)> = sqlx::query_as("SELECT secret FROM secrets WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.and_then(|(secret,)| secret.try_into().ok()).map(Secret))
}

fn mark_of(bytes: &[u8]) -> Option<Mark> {
    bytes.try_into().ok().map(Mark)
}

/// The number of the newest erasure, and before which instant everything is refused.
async fn version(
    connection: &mut Connection,
    tenant: &TenantName,
) -> Result<(u64, Option<i64>), sqlx::Error> {
    let row: Option<(i64, Option<i64>)> =
        sqlx::query_as("SELECT erasure_version, refused_before_ms FROM heads WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_optional(connection)
            .await?;
    Ok(row.map_or((0, None), |(version, refused_before_ms)| (version as u64, refused_before_ms)))
}

/// Appends that do not know of it are refused from the commit on, and journeys are read anew.
pub(super) async fn next_version(
    connection: &mut Connection,
    tenant: &TenantName,
) -> Result<i64, sqlx::Error> {
    let (version,): (i64,) = sqlx::query_as(
        "UPDATE heads SET erasure_version = erasure_version + 1 WHERE tenant_id = $1 RETURNING erasure_version",
    )
    .bind(tenant.as_str())
    .fetch_one(connection)
    .await?;
    Ok(version)
}
