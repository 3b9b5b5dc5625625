//! The embedded backend: SQLite in a folder of this machine, for one process.

mod append;
mod failure;
mod open;
mod space;
mod writer;

// The statements that every backend has in common, compiled for this one.
#[path = "sql/aggregates.rs"]
mod aggregates;
#[path = "sql/chores.rs"]
mod chores;
#[path = "sql/commit.rs"]
mod commit;
#[path = "sql/control.rs"]
mod control;
#[path = "sql/definitions.rs"]
mod definitions;
#[path = "sql/erasures.rs"]
mod erasures;
#[path = "sql/head.rs"]
mod head;
#[path = "sql/identities.rs"]
mod identities;
#[path = "sql/lists.rs"]
mod lists;
#[path = "sql/names.rs"]
mod names;
#[path = "sql/reading.rs"]
mod reading;
#[path = "sql/retention.rs"]
mod retention;
#[path = "sql/rows.rs"]
mod rows;

use std::{sync::Arc, time::Duration};

use runnel_model::TenantName;
use sqlx::{self, Sqlite as Dialect, SqliteConnection as Connection, sqlite::SqlitePool};
use tokio::sync::{OwnedMutexGuard, Semaphore, mpsc, oneshot};
use tracing::Instrument;

use self::{
    append::{LOCK_HEAD, insert},
    failure::unavailable,
    rows::WAITING_BYTES,
    writer::{Command, Work, transact},
};
use crate::{
    Admitted, AppendError, Journaled, Unavailable,
    backend::Purpose,
    notice::Notices,
    spans::{self, FOLDER},
    turns::Turns,
    watch::Watchers,
};

pub use open::OpenError;

type Database = Embedded;

/// How the embedded store behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Page cache of each connection, in bytes.
    pub cache_bytes: u64,
    /// Connections for reading.
    pub readers: u32,
    /// Most stored bytes of a tenant's journal that may wait for compaction; appends beyond are refused.
    pub backlog_bytes: u64,
    /// Most bytes of the database file; beyond, the disk counts as full. `None`: as much as the disk has.
    pub max_bytes: Option<u64>,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions { cache_bytes: 16 << 20, readers: 4, backlog_bytes: 1 << 30, max_bytes: None }
    }
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Embedded {
    writer: mpsc::Sender<Command>,
    waiting: Arc<Semaphore>,
    readers: SqlitePool,
    watchers: Arc<Watchers>,
    pub(crate) notices: Notices,
    /// One compaction of a tenant at a time.
    compacting: Turns,
}

impl Embedded {
    fn new(
        writer: mpsc::Sender<Command>,
        readers: SqlitePool,
        watchers: Arc<Watchers>,
        notices: Notices,
    ) -> Embedded {
        Embedded {
            writer,
            waiting: Arc::new(Semaphore::new(WAITING_BYTES)),
            readers,
            watchers,
            notices,
            compacting: Turns::default(),
        }
    }

    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.readers.close().await;
        if self.writer.send(Command::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
        self.watchers.clear();
    }

    pub(crate) async fn append(
        &self,
        tenant: &TenantName,
        admitted: &Admitted,
        now_ms: i64,
    ) -> Result<Journaled, AppendError> {
        let hand_over = |append| async {
            let command = Command::Append(tenant.clone(), Box::new(append));
            self.writer.send(command).await.map_err(|_| Unavailable::Closed)
        };
        rows::append(&self.waiting, admitted, now_ms, hand_over).await
    }

    /// A folder always answers.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        None
    }

    pub(crate) async fn ping(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    pub(crate) async fn wait_beyond(&self, tenant: &TenantName, sequence: u64) -> Result<u64, Unavailable> {
        let follower = self.watchers.follow(tenant);
        let newest = self.newest(tenant).await?;
        if newest > sequence {
            return Ok(newest);
        }
        follower.beyond(sequence).await.ok_or(Unavailable::Closed)
    }

    /// Keeps other compactions of the tenant out. `None` when one runs and `wait` is not set.
    pub(crate) async fn compaction_lock(
        &self,
        tenant: &TenantName,
        wait: bool,
    ) -> Result<Option<OwnedMutexGuard<()>>, Unavailable> {
        Ok(self.compacting.take(tenant, wait).await)
    }

    pub(crate) async fn compaction_ends(&self, _: &TenantName, alone: OwnedMutexGuard<()>) {
        drop(alone);
    }

    /// A writing transaction.
    async fn write<T, E, F>(&self, purpose: Purpose, _: Option<&TenantName>, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, E>> + Send + 'static,
    {
        transact(&self.writer, purpose, work).await
    }

    /// A reading transaction: all statements see one instant. It runs in a task of its own, so that a caller who goes away cannot leave it open.
    async fn read<T, F>(&self, purpose: Purpose, _: Option<&TenantName>, work: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (readers, span) = (self.readers.clone(), spans::transaction(FOLDER, purpose, false));
        let reading = async move {
            let mut connection = readers.acquire().await?;
            sqlx::query("BEGIN").execute(&mut *connection).await?;
            let result = work(&mut connection).await;
            let ended = sqlx::query("ROLLBACK").execute(&mut *connection).await;
            if ended.is_err() {
                connection.close().await?;
            }
            result
        };
        match tokio::spawn(reading.instrument(span).in_current_span()).await {
            Ok(result) => result.map_err(unavailable),
            Err(_) => Err(Unavailable::Stopped),
        }
    }

    /// One reading statement.
    async fn read_one<T, F>(
        &self,
        purpose: Purpose,
        _: Option<&TenantName>,
        work: F,
    ) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (readers, span) = (self.readers.clone(), spans::transaction(FOLDER, purpose, false));
        let reading = async move { work(&mut *readers.acquire().await?).await };
        match tokio::spawn(reading.instrument(span).in_current_span()).await {
            Ok(result) => result.map_err(unavailable),
            Err(_) => Err(Unavailable::Stopped),
        }
    }
}
