//! How large the file is, and giving free pages back to the file system.

use std::time::Duration;

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

/// Gives so many pages back to the file system, and how many steps a call takes at most.
const VACUUM: &str = "PRAGMA incremental_vacuum(1024)";
const STEPS: usize = 64;
/// Writes everything into the database file, and empties the write-ahead log.
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// How often that is tried while readers hold on to older instants, and the time between.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);
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
            self.alone(VACUUM).await?;
        }
        Ok(())
    }

    /// Gives all free pages back and empties the write-ahead log, so that nothing that was deleted can be read from the files. A reader that holds on to an older
    /// instant keeps some of the log for as long.
    pub(crate) async fn scrub(&self) -> Result<(), Unavailable> {
        while self.file_size().await?.free > 0 {
            let before = self.file_size().await?.free;
            self.alone(VACUUM).await?;
            if self.file_size().await?.free >= before {
                break;
            }
        }
        for _ in 0..ATTEMPTS {
            if self.empty_log().await? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let text = "a reader keeps the write-ahead log from being emptied";
        Err(unavailable(sqlx::Error::Protocol(text.to_owned())))
    }

    /// Empties the write-ahead log. `false` when a reader still needs it.
    async fn empty_log(&self) -> Result<bool, Unavailable> {
        let (reply, done) = oneshot::channel();
        let step = Command::Job(Box::new(move |connection| {
            Box::pin(async move {
                let row = sqlx::query_as(EMPTY_LOG).persistent(false).fetch_one(connection).await;
                let _ = reply.send(row.map(|(busy, _, _): (i64, i64, i64)| busy == 0));
                Trust::Known
            })
        }));
        self.writer.send(step).await.map_err(|_| Unavailable::Closed)?;
        done.await.map_err(|_| Unavailable::Stopped)?.map_err(unavailable)
    }

    /// Carries out a statement that is a transaction by itself.
    async fn alone(&self, statement: &'static str) -> Result<(), Unavailable> {
        let (reply, done) = oneshot::channel();
        let step = Command::Job(Box::new(move |connection| {
            Box::pin(async move {
                let _ = reply
                    .send(sqlx::query(statement).persistent(false).fetch_all(connection).await.map(drop));
                Trust::Known
            })
        }));
        self.writer.send(step).await.map_err(|_| Unavailable::Closed)?;
        done.await.map_err(|_| Unavailable::Stopped)?.map_err(unavailable)
    }
}
