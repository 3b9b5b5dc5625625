//! A database that any number of processes share: connections by purpose, and transactions on them.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use runnel_model::TenantName;
use tracing::Instrument;

use super::{Connection, POLL, append::Queues, failure::unavailable, pool::Pool, session::Session, sqlx};
use crate::{
    Unavailable,
    backend::{FileSize, Purpose},
    notice::Notices,
    spans,
    turns::Turns,
    watch::Watchers,
};

/// A future that borrows the connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// With many followers each of them looks less often, so that all together do not take the connections from questions.
const POLL_EACH: Duration = Duration::from_millis(2);

/// How long closing may take.
const CLOSES: Duration = Duration::from_secs(3);

/// Connections by what they are for, so that none of these can starve another.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pub(super) ingest: Pool,
    pub(super) compaction: Pool,
    pub(super) query: Pool,
    pub(super) admin: Pool,
}

impl Pools {
    fn of(&self, purpose: Purpose) -> &Pool {
        match purpose {
            Purpose::Ingest => &self.ingest,
            Purpose::Compaction => &self.compaction,
            Purpose::Query => &self.query,
            Purpose::Admin => &self.admin,
        }
    }
}

/// A database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(super) pools: Pools,
    pub(super) queues: Queues,
    watchers: Arc<Watchers>,
    /// Those who wait for a tenant's next number.
    following: Arc<()>,
    pub(crate) notices: Notices,
    /// One compaction of a tenant at a time in this process.
    pub(super) compacting: Turns,
}

impl Database {
    /// A database behind pools. Appends beyond `backlog_bytes` of a tenant's journal are refused.
    pub(super) fn new(pools: Pools, backlog_bytes: u64) -> Database {
        let (watchers, notices) = (Arc::new(Watchers::default()), Notices::default());
        let queues = Queues::new(backlog_bytes, watchers.clone(), notices.clone());
        Database { pools, queues, watchers, following: Arc::default(), notices, compacting: Turns::default() }
    }

    pub(crate) async fn close(&self) {
        self.queues.close();
        self.watchers.clear();
        let Pools { ingest, compaction, query, admin } = &self.pools;
        let closing = [ingest, compaction, query, admin].map(|pool| pool.connections.close());
        // A database that hangs keeps no process from ending; what it did not confirm was not acknowledged.
        drop(tokio::time::timeout(CLOSES, futures_util::future::join_all(closing)).await);
    }

    pub(crate) async fn wait_beyond(&self, tenant: &TenantName, sequence: u64) -> Result<u64, Unavailable> {
        // This process is told at once of what it commits itself; for what others commit it looks.
        let follower = self.watchers.follow(tenant);
        let waiting = self.following.clone();
        loop {
            let newest = self.newest(tenant).await?;
            if newest > sequence {
                return Ok(newest);
            }
            let told = follower.beyond(sequence);
            let pause = POLL.max(POLL_EACH * Arc::strong_count(&waiting) as u32);
            match tokio::time::timeout(pause, told).await {
                Ok(Some(newest)) => return Ok(newest),
                Ok(None) => return Err(Unavailable::Closed),
                Err(_) => {}
            }
        }
    }

    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.pools.query.server.silent_for()
    }

    pub(crate) async fn ping(&self) -> Result<(), Unavailable> {
        self.read(Purpose::Query, None, |_| Box::pin(async { Ok(()) })).await
    }

    pub(crate) async fn clock_ms(&self) -> Result<i64, Unavailable> {
        self.read_one(Purpose::Query, None, |connection| {
            Box::pin(async move {
                let (now_ms,): (i64,) =
                    sqlx::query_as("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                        .fetch_one(connection)
                        .await?;
                Ok(now_ms)
            })
        })
        .await
    }

    pub(crate) async fn file_size(&self) -> Result<FileSize, Unavailable> {
        self.read(Purpose::Query, None, |connection| {
            Box::pin(async move {
                let (bytes,): (i64,) = sqlx::query_as("SELECT pg_database_size(current_database())")
                    .fetch_one(connection)
                    .await?;
                Ok(FileSize { bytes: bytes as u64, free: 0 })
            })
        })
        .await
    }

    /// A writing transaction on rows of a tenant, or on reference tables.
    pub(super) async fn write<T, E, F>(
        &self,
        purpose: Purpose,
        tenant: Option<&TenantName>,
        work: F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, E>> + Send + 'static,
    {
        let (pool, tenant) = (self.pools.of(purpose).clone(), tenant.cloned());
        let span = spans::transaction(pool.server.place(), purpose, true);
        let writing = async move {
            let mut session = Session::begin(&pool, tenant.as_ref(), false).await?;
            let value = match session.work(work).await {
                Ok(value) => value,
                Err(error) => {
                    session.roll_back().await;
                    return Err(error);
                }
            };
            session.commit().await?;
            Ok(value)
        };
        tokio::spawn(writing.instrument(span).in_current_span())
            .await
            .unwrap_or_else(|_| Err(Unavailable::Stopped.into()))
    }

    /// A reading transaction: all statements see one instant.
    pub(super) async fn read<T, F>(
        &self,
        purpose: Purpose,
        tenant: Option<&TenantName>,
        work: F,
    ) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (pool, tenant) = (self.pools.of(purpose).clone(), tenant.cloned());
        let span = spans::transaction(pool.server.place(), purpose, false);
        let reading = async move {
            let mut session = Session::begin(&pool, tenant.as_ref(), true).await?;
            let result = session
                .work(|connection| Box::pin(async move { work(connection).await.map_err(unavailable) }))
                .await;
            session.roll_back().await;
            result
        };
        tokio::spawn(reading.instrument(span).in_current_span()).await.unwrap_or(Err(Unavailable::Stopped))
    }

    /// One reading statement. Its tenant has to be named, so it takes a transaction as well.
    pub(super) async fn read_one<T, F>(
        &self,
        purpose: Purpose,
        tenant: Option<&TenantName>,
        work: F,
    ) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.read(purpose, tenant, work).await
    }
}
