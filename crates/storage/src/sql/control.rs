//! Tenants and keys.

use runnel_model::{TenantName, limits};

use super::{Database, failure::unavailable, sqlx};
use crate::{
    CreateTenantError, KeyKind, KeyRecord, PutKeyError, TenantRecord, Unavailable, backend::Purpose::Admin,
};

type KeyRow = (String, String, i64, Vec<u8>, String, i64, Option<i64>, Option<i64>);

fn record(name: TenantName, created_ms: i64, days: Option<i64>) -> TenantRecord {
    TenantRecord { name, created_ms, retention_days: days.and_then(|days| u32::try_from(days).ok()) }
}

impl Database {
    pub(crate) async fn create_tenant(
        &self,
        name: &TenantName,
        now_ms: i64,
    ) -> Result<TenantRecord, CreateTenantError> {
        let tenant = name.clone();
        self.write(Admin, Some(name), move |connection| {
            Box::pin(async move {
                let created = sqlx::query(
                    "INSERT INTO tenants (tenant_id, created_ms) VALUES ($1, $2) ON CONFLICT (tenant_id) DO NOTHING",
                )
                .bind(tenant.as_str())
                .bind(now_ms)
                .execute(&mut *connection)
                .await
                .map_err(unavailable)?;
                if created.rows_affected() == 0 {
                    return Err(CreateTenantError::AlreadyExists(tenant));
                }
                sqlx::query("INSERT INTO heads (tenant_id) VALUES ($1)")
                    .bind(tenant.as_str())
                    .execute(connection)
                    .await
                    .map_err(unavailable)?;
                Ok(TenantRecord { name: tenant, created_ms: now_ms, retention_days: None })
            })
        })
        .await
    }

    pub(crate) async fn get_tenant(&self, name: &TenantName) -> Result<Option<TenantRecord>, Unavailable> {
        let tenant = name.clone();
        self.read_one(Admin, None, move |connection| {
            Box::pin(async move {
                let row: Option<(i64, Option<i64>)> =
                    sqlx::query_as("SELECT created_ms, retention_days FROM tenants WHERE tenant_id = $1")
                        .bind(tenant.as_str())
                        .fetch_optional(connection)
                        .await?;
                Ok(row.map(|(created_ms, days)| record(tenant, created_ms, days)))
            })
        })
        .await
    }

    pub(crate) async fn list_tenants(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TenantRecord>, Unavailable> {
        let after = after.unwrap_or_default().to_owned();
        let limit = limit.min(limits::PAGE) as i64;
        self.read_one(Admin, None, move |connection| {
            Box::pin(async move {
                let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
                    "SELECT tenant_id, created_ms, retention_days FROM tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2",
                )
                .bind(after)
                .bind(limit)
                .fetch_all(connection)
                .await?;
                rows.into_iter()
                    .map(|(name, created_ms, days)| Ok(record(tenant(&name)?, created_ms, days)))
                    .collect()
            })
        })
        .await
    }

    pub(crate) async fn put_key(&self, key: KeyRecord) -> Result<(), PutKeyError> {
        self.write(Admin, None, move |connection| {
            Box::pin(async move {
                let stored = sqlx::query(
                    "INSERT INTO keys (key_id, tenant_id, kind, hash, label, created_ms, expires_ms, revoked_ms) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (key_id) DO NOTHING",
                )
                .bind(&key.id)
                .bind(key.tenant.as_str())
                .bind(i64::from(key.kind as u8))
                .bind(&key.hash[..])
                .bind(&key.label)
                .bind(key.created_ms)
                .bind(key.expires_ms)
                .bind(key.revoked_ms)
                .execute(connection)
                .await
                .map_err(unavailable)?;
                if stored.rows_affected() == 1 { Ok(()) } else { Err(PutKeyError::AlreadyExists) }
            })
        })
        .await
    }

    pub(crate) async fn get_key(&self, id: &str) -> Result<Option<KeyRecord>, Unavailable> {
        let id = id.to_owned();
        self.read_one(Admin, None, move |connection| {
            Box::pin(async move {
                let row: Option<KeyRow> = sqlx::query_as(
                    "SELECT tenant_id, key_id, kind, hash, label, created_ms, expires_ms, revoked_ms \
                     FROM keys WHERE key_id = $1",
                )
                .bind(id)
                .fetch_optional(connection)
                .await?;
                row.map(key).transpose()
            })
        })
        .await
    }

    pub(crate) async fn list_keys(&self, tenant: &TenantName) -> Result<Vec<KeyRecord>, Unavailable> {
        let tenant = tenant.clone();
        self.read_one(Admin, None, move |connection| {
            Box::pin(async move {
                let rows: Vec<KeyRow> = sqlx::query_as(
                    "SELECT tenant_id, key_id, kind, hash, label, created_ms, expires_ms, revoked_ms \
                     FROM keys WHERE tenant_id = $1 \
                     ORDER BY CASE WHEN revoked_ms IS NULL THEN 0 ELSE 1 END, created_ms DESC, key_id LIMIT $2",
                )
                .bind(tenant.as_str())
                .bind(limits::PAGE as i64)
                .fetch_all(connection)
                .await?;
                let mut keys: Vec<KeyRecord> = rows.into_iter().map(key).collect::<Result<_, _>>()?;
                keys.sort_by(|left, right| (left.created_ms, &left.id).cmp(&(right.created_ms, &right.id)));
                Ok(keys)
            })
        })
        .await
    }

    pub(crate) async fn revoke_key(
        &self,
        tenant: &TenantName,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<KeyRecord>, Unavailable> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.write(Admin, None, move |connection| {
            Box::pin(async move {
                let row: Option<KeyRow> = sqlx::query_as(
                    "UPDATE keys SET revoked_ms = COALESCE(revoked_ms, $1) WHERE tenant_id = $2 AND key_id = $3 \
                     RETURNING tenant_id, key_id, kind, hash, label, created_ms, expires_ms, revoked_ms",
                )
                .bind(now_ms)
                .bind(tenant.as_str())
                .bind(id)
                .fetch_optional(connection)
                .await
                .map_err(unavailable)?;
                row.map(key).transpose().map_err(unavailable)
            })
        })
        .await
    }
}

fn key(row: KeyRow) -> Result<KeyRecord, sqlx::Error> {
    let (tenant_id, id, kind, hash, label, created_ms, expires_ms, revoked_ms) = row;
    let kind = u8::try_from(kind).ok().and_then(KeyKind::from_number);
    Ok(KeyRecord {
        tenant: tenant(&tenant_id)?,
        id,
        kind: kind.ok_or_else(|| strange("kind"))?,
        hash: hash.try_into().map_err(|_| strange("hash"))?,
        label,
        created_ms,
        expires_ms,
        revoked_ms,
    })
}

/// A tenant's name as it was stored.
pub(crate) fn tenant(name: &str) -> Result<TenantName, sqlx::Error> {
    TenantName::parse(name)
        .map_err(|source| sqlx::Error::ColumnDecode { index: "tenant_id".to_owned(), source: source.into() })
}

/// A stored value that nobody writes.
#[derive(Debug, thiserror::Error)]
#[error("a stored value is none that this program writes")]
struct StrangeValue;

fn strange(column: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: StrangeValue.into() }
}
