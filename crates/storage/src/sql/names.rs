//! Names that tenants have used.

use std::collections::HashSet;

use runnel_model::TenantName;

use super::{
    Database, Dialect,
    failure::unavailable,
    head::lock_head,
    rows::TOGETHER,
    sqlx::{self, QueryBuilder},
};
use crate::{NameKind, Unavailable, backend::Purpose::Ingest};

impl Database {
    pub(crate) async fn names(
        &self,
        tenant: &TenantName,
        kind: NameKind,
    ) -> Result<Vec<String>, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                let names = sqlx::query_scalar("SELECT name FROM names WHERE tenant_id = $1 AND kind = $2");
                names.bind(owner.as_str()).bind(kind as i64).fetch_all(connection).await
            })
        })
        .await
    }

    pub(crate) async fn claim_names(
        &self,
        tenant: &TenantName,
        kind: NameKind,
        names: Vec<String>,
        limit: usize,
        keep: bool,
    ) -> Result<Vec<String>, Unavailable> {
        let owner = tenant.clone();
        self.write(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                // Whoever claims names of a tenant waits here for those who do so at this moment.
                if keep {
                    lock_head(connection, &owner).await.map_err(unavailable)?;
                }
                // However many there are, all are read at once: a statement for each name would hold up everybody else.
                let there: Vec<String> =
                    sqlx::query_scalar("SELECT name FROM names WHERE tenant_id = $1 AND kind = $2")
                        .bind(owner.as_str())
                        .bind(kind as i64)
                        .fetch_all(&mut *connection)
                        .await
                        .map_err(unavailable)?;
                let room = limit.saturating_sub(there.len());
                let there: HashSet<String> = there.into_iter().collect();
                let mut new: Vec<String> = names.into_iter().filter(|name| !there.contains(name)).collect();
                let no_room = new.split_off(room.min(new.len()));
                if keep {
                    for some in new.chunks(TOGETHER) {
                        let mut rows: QueryBuilder<Dialect> =
                            QueryBuilder::new("INSERT INTO names (tenant_id, kind, name) ");
                        rows.push_values(some, |mut row, name| {
                            row.push_bind(owner.as_str()).push_bind(kind as i64).push_bind(name.as_str());
                        });
                        rows.build().execute(&mut *connection).await.map_err(unavailable)?;
                    }
                }
                Ok(no_room)
            })
        })
        .await
    }
}
