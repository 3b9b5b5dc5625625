//! Saved definitions.

use bytes::Bytes;
use runnel_model::{TenantName, limits};
use sqlx::SqliteConnection;

use super::{Embedded, failure::unavailable};
use crate::{DefinitionRecord, SaveDefinitionError, Unavailable};

/// Version, body (none: deleted) and time of a name's newest version.
type Newest = (i64, Option<Vec<u8>>, i64);

impl Embedded {
    pub(crate) async fn save_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        body: Bytes,
        expected: Option<u64>,
        now_ms: i64,
    ) -> Result<DefinitionRecord, SaveDefinitionError> {
        let (tenant, kind, name) = (tenant.clone(), kind.to_owned(), name.to_owned());
        self.write(move |connection| {
            Box::pin(async move {
                if !raise_version(connection, &tenant).await.map_err(unavailable)? {
                    return Err(SaveDefinitionError::TenantUnknown(tenant));
                }
                let newest = newest(connection, &tenant, &kind, &name).await.map_err(unavailable)?;
                let found = match &newest {
                    Some((version, Some(_), _)) => *version as u64,
                    _ => 0,
                };
                if expected.is_some_and(|expected| expected != found) {
                    return Err(SaveDefinitionError::VersionConflict { found });
                }
                if let Some((version, Some(known), saved_ms)) = &newest
                    && *known == body
                {
                    lower_version(connection, &tenant).await.map_err(unavailable)?;
                    return Ok(DefinitionRecord {
                        name,
                        version: *version as u64,
                        body,
                        saved_ms: *saved_ms,
                    });
                }
                let version = newest.map_or(0, |(version, _, _)| version) + 1;
                insert(connection, &tenant, &kind, &name, version, Some(&body), now_ms)
                    .await
                    .map_err(unavailable)?;
                Ok(DefinitionRecord { name, version: version as u64, body, saved_ms: now_ms })
            })
        })
        .await
    }

    pub(crate) async fn get_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        version: u64,
    ) -> Result<Option<DefinitionRecord>, Unavailable> {
        let (tenant, kind, name) = (tenant.clone(), kind.to_owned(), name.to_owned());
        self.read_one(move |connection| {
            Box::pin(async move {
                let row = if version == 0 {
                    newest(connection, &tenant, &kind, &name).await?
                } else {
                    sqlx::query_as(
                        "SELECT version, body, saved_ms FROM definitions \
                         WHERE tenant_id = ? AND kind = ? AND name = ? AND version = ?",
                    )
                    .bind(tenant.as_str())
                    .bind(kind)
                    .bind(&name)
                    .bind(i64::try_from(version).unwrap_or(i64::MAX))
                    .fetch_optional(connection)
                    .await?
                };
                Ok(row.and_then(|row: Newest| record(name, row)))
            })
        })
        .await
    }

    pub(crate) async fn list_definitions(
        &self,
        tenant: &TenantName,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DefinitionRecord>, Unavailable> {
        let (tenant, kind) = (tenant.clone(), kind.to_owned());
        let after = after.unwrap_or_default().to_owned();
        let limit = limit.min(limits::PAGE) as i64;
        self.read_one(move |connection| {
            Box::pin(async move {
                let rows: Vec<(String, i64, Option<Vec<u8>>, i64)> = sqlx::query_as(
                    "SELECT name, version, body, saved_ms FROM definitions AS outermost \
                     WHERE tenant_id = ? AND kind = ? AND name > ? AND body IS NOT NULL AND version = ( \
                         SELECT MAX(version) FROM definitions AS inner_one \
                         WHERE inner_one.tenant_id = outermost.tenant_id AND inner_one.kind = outermost.kind \
                         AND inner_one.name = outermost.name) \
                     ORDER BY name LIMIT ?",
                )
                .bind(tenant.as_str())
                .bind(kind)
                .bind(after)
                .bind(limit)
                .fetch_all(connection)
                .await?;
                let rows = rows.into_iter();
                Ok(rows
                    .filter_map(|(name, version, body, saved)| record(name, (version, body, saved)))
                    .collect())
            })
        })
        .await
    }

    pub(crate) async fn delete_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        let (tenant, kind, name) = (tenant.clone(), kind.to_owned(), name.to_owned());
        self.write(move |connection| {
            Box::pin(async move {
                let found = newest(connection, &tenant, &kind, &name).await.map_err(unavailable)?;
                let Some((version, Some(_), _)) = found else { return Ok(false) };
                sqlx::query("DELETE FROM definitions WHERE tenant_id = ? AND kind = ? AND name = ?")
                    .bind(tenant.as_str())
                    .bind(&kind)
                    .bind(&name)
                    .execute(&mut *connection)
                    .await
                    .map_err(unavailable)?;
                insert(connection, &tenant, &kind, &name, version, None, now_ms)
                    .await
                    .map_err(unavailable)?;
                raise_version(connection, &tenant).await.map_err(unavailable)
            })
        })
        .await
    }

    pub(crate) async fn definition_version(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        let tenant = tenant.clone();
        self.read_one(move |connection| {
            Box::pin(async move {
                let row: Option<(i64,)> =
                    sqlx::query_as("SELECT definition_version FROM tenants WHERE tenant_id = ?")
                        .bind(tenant.as_str())
                        .fetch_optional(connection)
                        .await?;
                Ok(row.map_or(0, |(version,)| version as u64))
            })
        })
        .await
    }
}

fn record(name: String, (version, body, saved_ms): Newest) -> Option<DefinitionRecord> {
    Some(DefinitionRecord { name, version: version as u64, body: Bytes::from(body?), saved_ms })
}

async fn newest(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    kind: &str,
    name: &str,
) -> Result<Option<Newest>, sqlx::Error> {
    sqlx::query_as(
        "SELECT version, body, saved_ms FROM definitions \
         WHERE tenant_id = ? AND kind = ? AND name = ? ORDER BY version DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(kind)
    .bind(name)
    .fetch_optional(connection)
    .await
}

async fn insert(
    connection: &mut SqliteConnection,
    tenant: &TenantName,
    kind: &str,
    name: &str,
    version: i64,
    body: Option<&[u8]>,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO definitions (tenant_id, kind, name, version, body, saved_ms) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(tenant.as_str())
    .bind(kind)
    .bind(name)
    .bind(version)
    .bind(body)
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that definitions changed. `false` when there is no such tenant.
async fn raise_version(connection: &mut SqliteConnection, tenant: &TenantName) -> Result<bool, sqlx::Error> {
    let raised =
        sqlx::query("UPDATE tenants SET definition_version = definition_version + 1 WHERE tenant_id = ?")
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    Ok(raised.rows_affected() == 1)
}

/// Takes a note back, within the transaction that made it.
async fn lower_version(connection: &mut SqliteConnection, tenant: &TenantName) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE tenants SET definition_version = definition_version - 1 WHERE tenant_id = ?")
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
