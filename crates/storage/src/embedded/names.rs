//! Names that tenants have used.

use runnel_model::TenantName;

use super::{Embedded, failure::unavailable};
use crate::{NameKind, Unavailable};

impl Embedded {
    pub(crate) async fn names(
        &self,
        tenant: &TenantName,
        kind: NameKind,
    ) -> Result<Vec<String>, Unavailable> {
        let tenant = tenant.clone();
        self.read_one(move |connection| {
            Box::pin(async move {
                let names = sqlx::query_scalar("SELECT name FROM names WHERE tenant_id = ? AND kind = ?");
                names.bind(tenant.as_str()).bind(kind as u8).fetch_all(connection).await
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
        let tenant = tenant.clone();
        self.write(move |connection| {
            Box::pin(async move {
                let count = sqlx::query_scalar("SELECT COUNT(*) FROM names WHERE tenant_id = ? AND kind = ?");
                let count = count.bind(tenant.as_str()).bind(kind as u8).fetch_one(&mut *connection).await;
                let mut count: i64 = count.map_err(unavailable)?;
                let mut no_room = Vec::new();
                for name in names {
                    let there = sqlx::query_scalar(
                        "SELECT COUNT(*) FROM names WHERE tenant_id = ? AND kind = ? AND name = ?",
                    );
                    let there = there.bind(tenant.as_str()).bind(kind as u8).bind(&name);
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
                        sqlx::query("INSERT INTO names (tenant_id, kind, name) VALUES (?, ?, ?)")
                            .bind(tenant.as_str())
                            .bind(kind as u8)
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
