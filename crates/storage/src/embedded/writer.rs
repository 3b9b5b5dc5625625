//! The one task that writes. It owns the only writing connection, so a caller that goes away can never leave a transaction open on it.

use std::{collections::VecDeque, fs::File, future::Future, pin::Pin, sync::Arc};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, warn};

use runnel_model::TenantName;

use super::{
    append,
    failure::{commit_failed, unavailable},
    rows::Append,
};
use crate::{
    Unavailable,
    backend::Purpose,
    notice::Notices,
    point::point,
    spans::{self, FOLDER},
    watch::Watchers,
};

/// Commands that may wait. Callers beyond wait for a place.
pub(crate) const QUEUE: usize = 1_024;
/// Payload bytes that one commit takes at most, unless a single batch has more.
const COMMIT_BYTES: usize = 8 << 20;

/// A future that borrows the connection.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// A transaction of its own. Tells whether the connection is still to be trusted.
type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, Trust> + Send>;

/// What the writer is asked to do.
pub(crate) enum Command {
    Append(TenantName, Box<Append>),
    Job(Job),
    Close(oneshot::Sender<()>),
}

/// Whether the connection is in a known state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Known,
    Suspect,
}

pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    pub(crate) options: SqliteConnectOptions,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) notices: Notices,
    pub(crate) backlog_bytes: u64,
    /// Statement that bounds the file, which holds for a connection only.
    pub(crate) bound: Option<String>,
    /// Held until the last write is done.
    pub(crate) lock: File,
}

impl Writer {
    /// Writes until every handle is gone or one asks to close.
    pub(crate) async fn run(mut self) {
        let mut waiting = VecDeque::new();
        let mut closing = Vec::new();
        loop {
            while waiting.len() < QUEUE
                && let Ok(command) = self.commands.try_recv()
            {
                waiting.push_back(command);
            }
            let command = match waiting.pop_front() {
                Some(command) => command,
                None if !closing.is_empty() => break,
                None => match self.commands.recv().await {
                    Some(command) => command,
                    None => break,
                },
            };
            let trust = match command {
                Command::Append(tenant, first) => {
                    let group = group(&tenant, *first, &mut waiting);
                    let Self { connection, backlog_bytes, watchers, notices, .. } = &mut self;
                    append::commit(connection, &tenant, group, *backlog_bytes, watchers, notices).await
                }
                Command::Job(job) => job(&mut self.connection).await,
                Command::Close(reply) => {
                    self.commands.close();
                    closing.push(reply);
                    Trust::Known
                }
            };
            if trust == Trust::Suspect {
                self.reconnect().await;
            }
        }
        self.finish().await;
        for reply in closing {
            let _ = reply.send(());
        }
    }

    /// After a commit of unknown outcome, a new connection sees what is there.
    async fn reconnect(&mut self) {
        match self.options.connect().await {
            Ok(mut connection) => {
                if let Some(bound) = &self.bound {
                    let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(bound.clone()));
                    if let Err(error) = sqlx::Executor::execute(&mut connection, statement).await {
                        warn!(%error, "the file's size is no longer bounded");
                    }
                }
                self.connection = connection;
            }
            Err(error) => warn!(%error, "the database could not be opened again"),
        }
    }

    async fn finish(mut self) {
        let checkpoint = async {
            point("sq.mid_checkpoint").await?;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.connection).await
        };
        let checkpoint = checkpoint.await;
        if let Err(error) = checkpoint {
            warn!(%error, "the write-ahead log stays for the next start");
        }
        if let Err(error) = self.connection.close().await {
            warn!(%error, "the database did not close cleanly");
        }
        drop(self.lock);
    }
}

/// The appends that share a commit: those of the same tenant that wait, as long as they are not too large together.
fn group(tenant: &TenantName, first: Append, waiting: &mut VecDeque<Command>) -> Vec<Append> {
    let mut bytes = first.row.memory();
    let mut group = vec![first];
    let mut full = false;
    for command in std::mem::take(waiting) {
        match command {
            Command::Append(of, next) if !full && of == *tenant => {
                if bytes + next.row.memory() <= COMMIT_BYTES {
                    bytes += next.row.memory();
                    group.push(*next);
                } else {
                    full = true;
                    waiting.push_back(Command::Append(of, next));
                }
            }
            other => waiting.push_back(other),
        }
    }
    group
}

/// Begins a transaction that may write.
pub(crate) async fn begin(connection: &mut SqliteConnection) -> Result<(), Unavailable> {
    if sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.is_ok() {
        return Ok(());
    }
    roll_back(connection).await;
    sqlx::query("BEGIN IMMEDIATE").execute(connection).await.map_err(unavailable)?;
    Ok(())
}

/// Ends a transaction for good. An error leaves open whether it took place, except when the disk is full.
pub(crate) async fn commit(connection: &mut SqliteConnection) -> Result<(), Unavailable> {
    match sqlx::query("COMMIT").execute(&mut *connection).await {
        Ok(_) => Ok(()),
        Err(error) => {
            roll_back(connection).await;
            Err(commit_failed(error))
        }
    }
}

/// Undoes a transaction. That there is none, because the database undid it already, is no error.
pub(crate) async fn roll_back(connection: &mut SqliteConnection) {
    let _ = sqlx::query("ROLLBACK").execute(connection).await;
}

/// Sends a transaction to the writer and waits for its outcome.
pub(crate) async fn transact<T, E, F>(
    writer: &mpsc::Sender<Command>,
    purpose: Purpose,
    work: F,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Unavailable> + Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, Result<T, E>> + Send + 'static,
{
    let (reply, outcome) = oneshot::channel();
    let span = spans::transaction(FOLDER, purpose, true);
    let job: Job = Box::new(move |connection| {
        let done = async move {
            let (result, trust) = in_transaction(connection, work).await;
            let _ = reply.send(result);
            trust
        };
        Box::pin(done.instrument(span))
    });
    writer.send(Command::Job(job)).await.map_err(|_| Unavailable::Closed)?;
    outcome.await.unwrap_or_else(|_| Err(Unavailable::Stopped.into()))
}

async fn in_transaction<T, E, F>(connection: &mut SqliteConnection, work: F) -> (Result<T, E>, Trust)
where
    E: From<Unavailable>,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, Result<T, E>>,
{
    if let Err(error) = begin(connection).await {
        return (Err(error.into()), Trust::Known);
    }
    match work(connection).await {
        Ok(value) => match commit(connection).await {
            Ok(()) => (Ok(value), Trust::Known),
            Err(error) => {
                let unknown = matches!(error, Unavailable::OutcomeUnknown(_));
                (Err(error.into()), if unknown { Trust::Suspect } else { Trust::Known })
            }
        },
        Err(error) => {
            roll_back(connection).await;
            (Err(error), Trust::Known)
        }
    }
}
