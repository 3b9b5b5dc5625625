//! The journal's partitions: one an hour, made ahead, dropped when they are empty.
//!
//! Deleted rows would leave their space in the file; a dropped partition leaves nothing. A row whose hour has no partition goes to the default one, so
//! nothing depends on this having been done.

use super::{Database, append::hour_of, failure::unavailable, sqlx};
use crate::{Unavailable, backend::Purpose::Compaction};

/// Partitioned tables.
pub(super) const TABLES: [&str; 2] = ["journal", "journal_payloads"];

/// Whether somebody works with the table, so that there is another time: 55P03 lock_not_available, 40P01 deadlock_detected.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Partitions were neither made nor dropped. Nothing depends on them, so that it is only said.
pub(super) fn not_turned(table: &str, error: &sqlx::Error) {
    if is_busy(error) {
        tracing::debug!(%error, table, "partitions stay as they are");
    } else {
        tracing::warn!(%error, table, "partitions stay as they are");
    }
}

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
                Err(Unavailable::Database(error)) => not_turned(table, &error),
                turned => turned?,
            }
        }
        Ok(())
    }
}
