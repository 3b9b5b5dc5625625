//! Names that tenants have used.

use runnel_model::TenantName;

use super::{Database, failure::unavailable, head::lock_head, sqlx};
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
                let count =
                    sqlx::query_scalar("SELECT COUNT(*) FROM names WHERE tenant_id = $1 AND kind = $2");
                let count = count.bind(owner.as_str()).bind(kind as i64).fetch_one(&mut *connection).await;
                let mut count: i64 = count.map_err(unavailable)?;
                let mut no_room = Vec::new();
                for name in names {
                    let there = sqlx::query_scalar(
                        "SELECT COUNT(*) FROM names WHERE tenant_id = $1 AND kind = $2 AND name = $3",
                    );
                    let there = there.bind(owner.as_str()).bind(kind as i64).bind(&name);
                    let there: i64 = there.fetch_one(&mut *connection).await.map_err(unavailable)?;
                    if there > 0 {
                        continue;
                    }
                    if count as usize >= limit {
                        no_room.push(name);
                        continue;
                    }
                    count += 1;
                    if keep {
                        sqlx::query("INSERT INTO names (tenant_id, kind, name) VALUES ($1, $2, $3)")
                            .bind(owner.as_str())
                            .bind(kind as i64)
                            .bind(&name)
                            .execute(&mut *connection)
                            .await
                            .map_err(unavailable)?;
                    }
                }
                Ok(no_room)
            })
        })
        .await
    }
}
