//! How large the file is, and giving free pages back to the file system.

use sqlx::SqliteConnection;
use tokio::sync::oneshot;

use super::{
    Embedded,
    failure::unavailable,
    writer::{Command, Trust},
};
use crate::{
    Unavailable,
    backend::{FileSize, Purpose::Query},
};

/// Pages that one step gives back to the file system, and how many steps a call takes at most.
const PAGES: i64 = 1_024;
const STEPS: usize = 64;
/// Free bytes that are kept for new data.
const KEPT_BYTES: u64 = 8 << 20;

impl Embedded {
    pub(crate) async fn file_size(&self) -> Result<FileSize, Unavailable> {
        self.read_one(Query, None, |connection| {
            Box::pin(async move {
                let (pages, free, page_bytes): (i64, i64, i64) = sqlx::query_as(
                    "SELECT page_count, freelist_count, page_size \
                     FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()",
                )
                .fetch_one(connection)
                .await?;
                Ok(FileSize { bytes: (pages * page_bytes) as u64, free: (free * page_bytes) as u64 })
            })
        })
        .await
    }

    /// What the janitor does beside the rows of tenants: gives free pages back while there are many.
    pub(super) async fn tidy(&self, _now_ms: i64) -> Result<(), Unavailable> {
        for _ in 0..STEPS {
            let size = self.file_size().await?;
            if size.free <= KEPT_BYTES.max(size.bytes / 4) {
                break;
            }
            let (reply, done) = oneshot::channel();
            let step = Command::Job(Box::new(move |connection| {
                Box::pin(async move {
                    let _ = reply.send(vacuum(connection).await);
                    Trust::Known
                })
            }));
            self.writer.send(step).await.map_err(|_| Unavailable::Closed)?;
            done.await.map_err(|_| Unavailable::Stopped)?.map_err(unavailable)?;
        }
        Ok(())
    }
}

async fn vacuum(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let statement = format!("PRAGMA incremental_vacuum({PAGES})");
    sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false).fetch_all(connection).await?;
    Ok(())
}
