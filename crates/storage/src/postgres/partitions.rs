//! The journal's partitions: one an hour, made ahead, dropped when they are empty.
//!
//! Deleted rows would leave their space in the file; a dropped partition leaves nothing. A row whose hour has no partition goes to the default one, so
//! nothing depends on this having been done.

use super::{Database, append::hour_of, failure::unavailable, sqlx};
use crate::{Unavailable, backend::Purpose::Compaction};

/// Partitioned tables.
const TABLES: [&str; 2] = ["journal", "journal_payloads"];

impl Database {
    /// What the janitor does beside the rows of tenants.
    pub(super) async fn tidy(&self, now_ms: i64) -> Result<(), Unavailable> {
        for table in TABLES {
            let turned = self
                .write(Compaction, None, move |connection| {
                    Box::pin(async move {
                        sqlx::query("SELECT turn_partitions($1, $2)")
                            .bind(table)
                            .bind(hour_of(now_ms))
                            .execute(connection)
                            .await
                            .map_err(unavailable)?;
                        Ok::<_, Unavailable>(())
                    })
                })
                .await;
            match turned {
                // Somebody works with the table: there is another time.
                Err(Unavailable::Database(error)) => {
                    tracing::debug!(%error, table, "partitions stay as they are")
                }
                turned => turned?,
            }
        }
        Ok(())
    }
}
