//! One transaction on a borrowed connection.

use std::{future::Future, time::Duration};

use runnel_model::TenantName;

use super::{
    Connection,
    append::LOCK_HEAD,
    database::Work,
    failure::{commit_failed, is_late, lost, timed_out, unavailable, warned},
    head::Head,
    pool::Pool,
    sqlx::{self, Executor, FromRow, Postgres, pool::PoolConnection, postgres::PgRow},
};
use crate::{Unavailable, warnings::heeding};

/// How long a statement or a transaction may take until its connection counts as lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long beginning one may.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long beginning one at a tenant's head may, which others may hold.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a commit may.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// Connections that may turn out to be dead before one gives up.
const ATTEMPTS: usize = 20;

/// An open transaction. A connection whose transaction did not end in a known way is closed when this is dropped: the server then rolls back, and nobody else
/// can get the connection.
pub(super) struct Session {
    connection: Option<PoolConnection<Postgres>>,
    clean: bool,
}

impl Session {
    /// Begins. A connection that died while it waited is replaced, since nothing can have happened on it.
    pub(super) async fn begin(
        pool: &Pool,
        tenant: Option<&TenantName>,
        reads: bool,
    ) -> Result<Session, Unavailable> {
        let session = Session::open(pool, tenant, reads, None).await;
        pool.server.note(session.is_ok());
        session.map(|(session, _)| session)
    }

    /// Begins and locks a tenant's head on the same way to the server; `None` where there is no such tenant.
    pub(super) async fn begin_at_head(
        pool: &Pool,
        tenant: &TenantName,
    ) -> Result<(Session, Option<Head>), Unavailable> {
        let lock = LOCK_HEAD.replace("$1", &format!("'{tenant}'"));
        let session = Session::open(pool, Some(tenant), false, Some(&lock)).await;
        pool.server.note(session.is_ok());
        let (session, rows) = session?;
        let head: Option<(i64, i64, i64, i64)> =
            rows.first().map(FromRow::from_row).transpose().map_err(unavailable)?;
        Ok((session, head.map(Head::from)))
    }

    /// Begins with a statement without parameters, and gives its rows.
    async fn open(
        pool: &Pool,
        tenant: Option<&TenantName>,
        reads: bool,
        first: Option<&str>,
    ) -> Result<(Session, Vec<PgRow>), Unavailable> {
        let mode = if reads { "REPEATABLE READ READ ONLY" } else { "READ COMMITTED" };
        // A tenant's name has no character that would need quoting.
        let tenant =
            tenant.map(|tenant| format!("; SET LOCAL runnel.tenant = '{tenant}'")).unwrap_or_default();
        let naming = pool.server.naming();
        let (first, patience) = match first {
            Some(first) => (format!("; {first}"), HEAD_PATIENCE),
            None => (String::new(), BEGIN_PATIENCE),
        };
        let statement = format!("BEGIN ISOLATION LEVEL {mode}{tenant}{naming}{first}");
        let mut attempts = 0;
        loop {
            attempts += 1;
            let connection = pool.connections.acquire().await.map_err(unavailable)?;
            let mut session = Session { connection: Some(connection), clean: false };
            match session.execute(statement.clone(), patience).await {
                Ok(rows) => return Ok((session, rows)),
                // A server that does not answer on one connection does not answer on the next.
                Err(error) if lost(&error) && !is_late(&error) && attempts < ATTEMPTS => {}
                Err(error) => return Err(unavailable(error)),
            }
        }
    }

    /// The connection, unless it was closed.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_deref_mut()
    }

    /// Works in the transaction.
    pub(super) async fn work<T, E, F>(&mut self, work: F) -> Result<T, E>
    where
        E: From<Unavailable>,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, Result<T, E>>,
    {
        let Some(connection) = &mut self.connection else { return Err(Unavailable::Stopped.into()) };
        match tokio::time::timeout(PATIENCE, work(connection)).await {
            Ok(result) => result,
            Err(_) => {
                self.connection = close(self.connection.take());
                Err(unavailable(timed_out()).into())
            }
        }
    }

    /// Ends the transaction for good. An error leaves open whether it took place, unless the server said that it did not. So does a warning: whoever cancels a commit
    /// that waits for a standby makes the server say that it took place, though no standby has it.
    pub(super) async fn commit(mut self) -> Result<(), Unavailable> {
        let (done, is_warned) = heeding(self.execute("COMMIT".to_owned(), COMMIT_PATIENCE)).await;
        let done = if is_warned { done.and(Err(warned())) } else { done };
        self.clean = done.is_ok();
        done.map(drop).map_err(commit_failed)
    }

    /// Undoes the transaction.
    pub(super) async fn roll_back(mut self) {
        self.clean = self.execute("ROLLBACK".to_owned(), COMMIT_PATIENCE).await.is_ok();
    }

    async fn execute(&mut self, statement: String, patience: Duration) -> Result<Vec<PgRow>, sqlx::Error> {
        let Some(connection) = &mut self.connection else { return Err(timed_out()) };
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(statement));
        within(patience, connection.fetch_all(statement)).await
    }
}

/// Fails when work takes too long.
pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Closes a connection, without a word to the server.
fn close(connection: Option<PoolConnection<Postgres>>) -> Option<PoolConnection<Postgres>> {
    drop(connection.map(PoolConnection::detach));
    None
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.clean {
            self.connection = close(self.connection.take());
        }
    }
}
