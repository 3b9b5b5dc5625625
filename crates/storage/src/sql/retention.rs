//! For how long events are kept.
//!
//! What is too old is refused first, then counted a last time, and only then it is gone: see [`Database::keep_from`].

use runnel_model::TenantName;

use super::{
    Connection, Database,
    control::tenant as tenant_name,
    erasures::{begin, next_version},
    failure::unavailable,
    head::lock_head,
    sqlx,
};
use crate::{Retain, Retention, Unavailable, backend::Purpose::Admin};

impl Database {
    /// Says for how many days a tenant's events are kept, or that they are for ever. `false` where there is no such tenant.
    pub(crate) async fn set_retention(
        &self,
        tenant: &TenantName,
        days: Option<u32>,
    ) -> Result<bool, Unavailable> {
        let owner = tenant.clone();
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                // Whoever is about to delete by what was said before has done so, or sees that it is not said any more.
                lock_head(connection, &owner).await.map_err(unavailable)?;
                sqlx::query("UPDATE tenants SET retention_days = $1 WHERE tenant_id = $2")
                    .bind(days.map(i64::from))
                    .bind(owner.as_str())
                    .execute(connection)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(unavailable)
            })
        })
        .await
    }

    pub(crate) async fn retention(&self, tenant: &TenantName) -> Result<Option<Retention>, Unavailable> {
        let owner = tenant.clone();
        self.read(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                let said: Option<(Option<i64>,)> =
                    sqlx::query_as("SELECT retention_days FROM tenants WHERE tenant_id = $1")
                        .bind(owner.as_str())
                        .fetch_optional(&mut *connection)
                        .await?;
                let done: Option<(Option<i64>, Option<i64>)> =
                    sqlx::query_as("SELECT refused_before_ms, kept_from_ms FROM heads WHERE tenant_id = $1")
                        .bind(owner.as_str())
                        .fetch_optional(&mut *connection)
                        .await?;
                let chores: Option<(i64,)> =
                    sqlx::query_as("SELECT erasing FROM chores WHERE tenant_id = $1")
                        .bind(owner.as_str())
                        .fetch_optional(connection)
                        .await?;
                let (refused_before_ms, kept_from_ms) = done.unwrap_or_default();
                Ok(said.map(|(days,)| Retention {
                    days: days.and_then(|days| u32::try_from(days).ok()),
                    refused_before_ms,
                    kept_from_ms,
                    deleting: chores.is_some_and(|(erasing,)| erasing == 1),
                }))
            })
        })
        .await
    }

    /// The tenants whose events are not kept for ever, and for how many days they are.
    pub(crate) async fn retained(&self) -> Result<Vec<(TenantName, u32)>, Unavailable> {
        self.read_one(Admin, None, |connection| {
            Box::pin(async move {
                let rows: Vec<(String, i64)> = sqlx::query_as(
                    "SELECT tenant_id, retention_days FROM tenants WHERE retention_days IS NOT NULL ORDER BY tenant_id",
                )
                .fetch_all(connection)
                .await?;
                let rows = rows.into_iter();
                rows.map(|(tenant, days)| Ok((tenant_name(&tenant)?, u32::try_from(days).unwrap_or(u32::MAX))))
                    .collect()
            })
        })
        .await
    }

    /// Refuses what happened before an instant from the commit on, if events are kept for so many days.
    pub(crate) async fn refuse_before(
        &self,
        tenant: &TenantName,
        days: u32,
        instant_ms: i64,
    ) -> Result<(), Unavailable> {
        let owner = tenant.clone();
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(
                async move { refuse_before(connection, &owner, days, instant_ms).await.map_err(unavailable) },
            )
        })
        .await
    }

    /// Gives over to be deleted what happened before an instant, if it is refused already and the aggregates know of all of it. `false` when they do not.
    pub(crate) async fn keep_from(
        &self,
        tenant: &TenantName,
        retain: Retain,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        let owner = tenant.clone();
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move { keep_from(connection, &owner, retain, now_ms).await.map_err(unavailable) })
        })
        .await
    }
}

async fn refuse_before(
    connection: &mut Connection,
    tenant: &TenantName,
    days: u32,
    instant_ms: i64,
) -> Result<(), sqlx::Error> {
    lock_head(connection, tenant).await?;
    if !is_said(connection, tenant, days).await? {
        return Ok(());
    }
    let refused = sqlx::query(
        "UPDATE heads SET refused_before_ms = $1, retentions = retentions + 1 WHERE tenant_id = $2 \
         AND (refused_before_ms IS NULL OR refused_before_ms < $1)",
    )
    .bind(instant_ms)
    .bind(tenant.as_str())
    .execute(&mut *connection)
    .await?;
    if refused.rows_affected() == 1 {
        // Appends that were checked without it are checked again.
        next_version(connection, tenant).await?;
    }
    Ok(())
}

/// Whether a tenant's events are kept for so many days. Whoever asks holds the tenant's head.
async fn is_said(connection: &mut Connection, tenant: &TenantName, days: u32) -> Result<bool, sqlx::Error> {
    let said: Option<(Option<i64>,)> =
        sqlx::query_as("SELECT retention_days FROM tenants WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_optional(connection)
            .await?;
    Ok(said.is_some_and(|(said,)| said == Some(i64::from(days))))
}

async fn keep_from(
    connection: &mut Connection,
    tenant: &TenantName,
    Retain { days, kept_from_ms, aggregates, made_of }: Retain,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    // Until the commit nobody makes others. Before the head, so that appends do not wait for somebody who does.
    let counted = sqlx::query("UPDATE aggregate_states SET number = $1 WHERE tenant_id = $2 AND number = $1")
        .bind(aggregates as i64)
        .bind(tenant.as_str())
        .execute(&mut *connection)
        .await?;
    lock_head(connection, tenant).await?;
    if counted.rows_affected() == 0 || !is_said(connection, tenant, days).await? {
        return Ok(false);
    }
    let kept = sqlx::query(
        "UPDATE heads SET kept_from_ms = $1, retentions = retentions + 1 WHERE tenant_id = $2 \
         AND definition_version = $3 AND erasure_version = $4 AND refused_before_ms >= $1 \
         AND (kept_from_ms IS NULL OR kept_from_ms < $1)",
    )
    .bind(kept_from_ms)
    .bind(tenant.as_str())
    .bind(made_of.definition as i64)
    .bind(made_of.erasure as i64)
    .execute(&mut *connection)
    .await?;
    if kept.rows_affected() == 0 {
        return Ok(false);
    }
    begin(connection, tenant, now_ms).await?;
    Ok(true)
}
