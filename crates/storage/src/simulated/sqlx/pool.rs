//! A bounded number of connections, lent and given back.

use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::sqlx::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::Postgres;
use crate::simulated::connection::{Connection, Process, connected};

/// How long one waits for a connection, as with the product's pools.
const ACQUIRE: Duration = Duration::from_millis(900);

/// The connections of a process for one purpose.
#[derive(Debug, Clone)]
pub(crate) struct PgPool {
    process: Process,
    room: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl PgPool {
    /// At most so many connections.
    pub(crate) fn new(process: Process, most: usize) -> PgPool {
        PgPool { process, room: Arc::new(Semaphore::new(most)), idle: Arc::default() }
    }

    /// A connection that waits, or a new one.
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        self.process.lives().await;
        let deadline = Instant::now() + ACQUIRE;
        let room = match timeout_at(deadline, self.room.clone().acquire_owned()).await {
            Ok(room) => room.map_err(|_| Error::PoolClosed)?,
            Err(_) => return Err(Error::PoolTimedOut),
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connected(&self.process, deadline).await.ok_or(Error::PoolTimedOut)?,
        };
        Ok(PoolConnection { connection, pool: Some(self.clone()), _room: room, database: PhantomData })
    }

    /// Lends no more.
    pub(crate) async fn close(&self) {
        self.room.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that goes back to its pool when this is dropped.
#[derive(Debug)]
pub(crate) struct PoolConnection<D> {
    connection: Connection,
    pool: Option<PgPool>,
    _room: OwnedSemaphorePermit,
    database: PhantomData<D>,
}

impl<D> PoolConnection<D> {
    /// The connection, which does not go back.
    pub(crate) fn detach(mut self) -> Connection {
        self.pool = None;
        self.connection.clone()
    }
}

impl<D> Drop for PoolConnection<D> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take()
            && !self.connection.is_broken()
            && !pool.room.is_closed()
        {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection.clone());
        }
    }
}

impl<D> Deref for PoolConnection<D> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<D> DerefMut for PoolConnection<D> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
