//! Saved definitions.

use bytes::Bytes;
use runnel_model::{TenantName, limits};

use super::{Connection, Database, failure::unavailable, sqlx};
use crate::{
    DefinitionChange, DefinitionRecord, SaveDefinitionError, Unavailable,
    backend::Purpose::{Admin, Query},
};

/// Version, body (none: deleted) and time of a name's newest version.
type Newest = (i64, Option<Vec<u8>>, i64);

impl Database {
    pub(crate) async fn save_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        body: Bytes,
        expected: Option<u64>,
        now_ms: i64,
    ) -> Result<DefinitionRecord, SaveDefinitionError> {
        let (owner, kind, name) = (tenant.clone(), kind.to_owned(), name.to_owned());
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                if !raise_version(connection, &owner).await.map_err(unavailable)? {
                    return Err(SaveDefinitionError::TenantUnknown(owner));
                }
                let newest = newest(connection, &owner, &kind, &name).await.map_err(unavailable)?;
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
                    lower_version(connection, &owner).await.map_err(unavailable)?;
                    return Ok(DefinitionRecord {
                        name,
                        version: *version as u64,
                        body,
                        saved_ms: *saved_ms,
                    });
                }
                let version = newest.map_or(0, |(version, _, _)| version) + 1;
                insert(connection, &owner, &kind, &name, version, Some(&body), now_ms)
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
        let (owner, kind, name) = (tenant.clone(), kind.to_owned(), name.to_owned());
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let row = if version == 0 {
                    newest(connection, &owner, &kind, &name).await?
                } else {
                    sqlx::query_as(
                        "SELECT version, body, saved_ms FROM definitions \
                         WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND version = $4",
                    )
                    .bind(owner.as_str())
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
        let (owner, kind) = (tenant.clone(), kind.to_owned());
        let after = after.unwrap_or_default().to_owned();
        let limit = limit.min(limits::PAGE) as i64;
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let rows: Vec<(String, i64, Option<Vec<u8>>, i64)> = sqlx::query_as(
                    "SELECT name, version, body, saved_ms FROM definitions AS outermost \
                     WHERE tenant_id = $1 AND kind = $2 AND name > $3 AND body IS NOT NULL AND version = ( \
                         SELECT MAX(version) FROM definitions AS inner_one \
                         WHERE inner_one.tenant_id = outermost.tenant_id AND inner_one.kind = outermost.kind \
                         AND inner_one.name = outermost.name) \
                     ORDER BY name LIMIT $4",
                )
                .bind(owner.as_str())
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
        let (owner, kind, name) = (tenant.clone(), kind.to_owned(), name.to_owned());
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                // Whoever changes definitions of a tenant waits here for those who do so at this moment.
                if !raise_version(connection, &owner).await.map_err(unavailable)? {
                    return Ok(false);
                }
                let found = newest(connection, &owner, &kind, &name).await.map_err(unavailable)?;
                let Some((version, Some(_), _)) = found else {
                    lower_version(connection, &owner).await.map_err(unavailable)?;
                    return Ok(false);
                };
                let gone = replace(connection, &owner, &kind, &name, version, None, now_ms).await;
                gone.map(|()| true).map_err(unavailable)
            })
        })
        .await
    }

    pub(crate) async fn change_definitions(
        &self,
        tenant: &TenantName,
        changes: Vec<DefinitionChange>,
        expected: u64,
        now_ms: i64,
    ) -> Result<u64, SaveDefinitionError> {
        let owner = tenant.clone();
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                if !raise_version(connection, &owner).await.map_err(unavailable)? {
                    return Err(SaveDefinitionError::TenantUnknown(owner));
                }
                let raised = version(connection, &owner).await.map_err(unavailable)?;
                if raised != expected + 1 {
                    return Err(SaveDefinitionError::VersionConflict { found: raised - 1 });
                }
                for DefinitionChange { kind, name, body, only_newest } in changes {
                    let newest = newest(connection, &owner, &kind, &name).await.map_err(unavailable)?;
                    let version = newest.map_or(0, |(version, _, _)| version);
                    let changed = match &body {
                        Some(body) if only_newest => {
                            replace(connection, &owner, &kind, &name, version + 1, Some(body), now_ms).await
                        }
                        Some(body) => {
                            insert(connection, &owner, &kind, &name, version + 1, Some(body), now_ms).await
                        }
                        None if version == 0 => Ok(()),
                        None => replace(connection, &owner, &kind, &name, version, None, now_ms).await,
                    };
                    changed.map_err(unavailable)?;
                }
                Ok(raised)
            })
        })
        .await
    }

    pub(crate) async fn definition_version(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move { version(connection, &owner).await })
        })
        .await
    }
}

async fn version(connection: &mut Connection, tenant: &TenantName) -> Result<u64, sqlx::Error> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT definition_version FROM heads WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.map_or(0, |(version,)| version as u64))
}

/// Takes all versions of a name away and leaves one of this number; without a body, a note that it was deleted.
pub(super) async fn replace(
    connection: &mut Connection,
    tenant: &TenantName,
    kind: &str,
    name: &str,
    version: i64,
    body: Option<&[u8]>,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM definitions WHERE tenant_id = $1 AND kind = $2 AND name = $3")
        .bind(tenant.as_str())
        .bind(kind)
        .bind(name)
        .execute(&mut *connection)
        .await?;
    insert(connection, tenant, kind, name, version, body, now_ms).await
}

fn record(name: String, (version, body, saved_ms): Newest) -> Option<DefinitionRecord> {
    Some(DefinitionRecord { name, version: version as u64, body: Bytes::from(body?), saved_ms })
}

pub(super) async fn newest(
    connection: &mut Connection,
    tenant: &TenantName,
    kind: &str,
    name: &str,
) -> Result<Option<Newest>, sqlx::Error> {
    sqlx::query_as(
        "SELECT version, body, saved_ms FROM definitions \
         WHERE tenant_id = $1 AND kind = $2 AND name = $3 ORDER BY version DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(kind)
    .bind(name)
    .fetch_optional(connection)
    .await
}

async fn insert(
    connection: &mut Connection,
    tenant: &TenantName,
    kind: &str,
    name: &str,
    version: i64,
    body: Option<&[u8]>,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO definitions (tenant_id, kind, name, version, body, saved_ms) VALUES ($1, $2, $3, $4, $5, $6)",
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
pub(super) async fn raise_version(
    connection: &mut Connection,
    tenant: &TenantName,
) -> Result<bool, sqlx::Error> {
    let raised =
        sqlx::query("UPDATE heads SET definition_version = definition_version + 1 WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .execute(connection)
            .await?;
    Ok(raised.rows_affected() == 1)
}

/// Takes a note back, within the transaction that made it.
pub(super) async fn lower_version(
    connection: &mut Connection,
    tenant: &TenantName,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE heads SET definition_version = definition_version - 1 WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
