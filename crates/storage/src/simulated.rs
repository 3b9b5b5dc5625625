//! A PostgreSQL server in memory, and the storage's own code for PostgreSQL over it: for simulations, in which everything that can go wrong does, at moments
//! that a seed chooses, and again when it is repeated.
//!
//! What the product does is not written again here: these are the files of `postgres/` and `sql/`, compiled over a module that is called as the database's driver
//! and answers what they ask of it. It reads the statements, so it knows as much of SQL as they need; it takes the tables from the migrations. It keeps what
//! PostgreSQL promises and the product relies on: rows in versions, READ COMMITTED and REPEATABLE READ, locks on rows, one statement or none, a transaction that
//! fails with its first statement, policies, and connections that outlive whoever waited for their answer.

mod connection;
mod fault;
mod parse;
mod read;
mod schema;
mod server;
mod sqlx;
mod statement;
mod table;
mod value;
mod write;

#[path = "postgres/append.rs"]
mod append;
#[path = "postgres/database.rs"]
mod database;
#[path = "postgres/failure.rs"]
mod failure;
#[path = "postgres/lease.rs"]
mod lease;
#[path = "postgres/partitions.rs"]
mod partitions;
#[path = "postgres/pool.rs"]
mod pool;
#[path = "postgres/session.rs"]
mod session;

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

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use self::{
    append::{LOCK_HEAD, insert},
    connection::Process,
    database::{Database, Pools},
    server::Server,
    sqlx::{PgConnection as Connection, PgPool, Postgres as Dialect},
};
use crate::{Store, backend::Backend};

pub(crate) use self::database::Database as Simulated;
pub use self::fault::{SimulatedFaults, SimulatedTally};

/// How often a follower of a tenant looks for a new number: less often than over PostgreSQL, since time costs nothing here, and looking does.
const POLL: Duration = Duration::from_millis(250);

/// Told of everything that happens, in its order.
pub type Observer = Arc<dyn Fn(fmt::Arguments<'_>) + Send + Sync>;

/// What transactions that only read look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// What the product asks for: one instant.
    #[default]
    RepeatableRead,
    /// A new instant with every statement, whatever the product asks for. Answers are wrong then, which is what this is for.
    ReadCommitted,
}

/// How the server behaves.
#[derive(Clone, Default)]
pub struct SimulatedOptions {
    /// What everything that goes by chance is drawn from.
    pub seed: u64,
    /// What the server's clock shows at first, in milliseconds since the Unix epoch. It goes on with the tokio runtime's time.
    pub now_ms: i64,
    /// What readers look at.
    pub isolation: Isolation,
    /// What goes wrong.
    pub faults: SimulatedFaults,
    /// Who is told.
    pub observer: Option<Observer>,
}

impl fmt::Debug for SimulatedOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedOptions").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A database server in memory. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SimulatedDatabase {
    server: Arc<Server>,
}

impl SimulatedDatabase {
    /// An empty database. Whatever works with it does so inside one tokio runtime.
    #[must_use]
    pub fn new(options: SimulatedOptions) -> SimulatedDatabase {
        SimulatedDatabase { server: Arc::new(Server::new(options)) }
    }

    /// A process that works with it.
    #[must_use]
    pub fn process(&self) -> SimulatedProcess {
        SimulatedProcess { process: Process::new(self.server.clone()) }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: SimulatedFaults) {
        self.server.set_faults(faults);
    }

    /// Ends the server at once; it answers again after a while. What was committed is there then, and nothing else.
    pub fn restart(&self, down: Duration) {
        self.server.restart(down);
    }

    /// What went wrong so far.
    #[must_use]
    pub fn tally(&self) -> SimulatedTally {
        self.server.tally()
    }
}

/// A process that works with a [`SimulatedDatabase`]. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SimulatedProcess {
    process: Process,
}

/// Connections of a process for each purpose.
const CONNECTIONS: usize = 4;
/// Most stored bytes of a tenant's journal that may wait for compaction.
const BACKLOG_BYTES: u64 = 1 << 30;

impl SimulatedProcess {
    /// The process's store.
    #[must_use]
    pub fn store(&self) -> Store {
        let server =
            Arc::new(pool::Server { name: "simulated".into(), call: || None, silent: Mutex::default() });
        let pool = || pool::Pool {
            connections: PgPool::new(self.process.clone(), CONNECTIONS),
            server: server.clone(),
        };
        let pools = Pools { ingest: pool(), compaction: pool(), query: pool(), admin: pool() };
        Store::over(Backend::Simulated(Arc::new(Simulated::new(pools, BACKLOG_BYTES))))
    }

    /// Ends the process at once, wherever it stands. What it was about to do next with its store never happens: such calls do not come back.
    pub fn kill(&self) {
        self.process.kill();
    }
}
