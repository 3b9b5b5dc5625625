//! The shared backend: PostgreSQL, for any number of processes.
//!
//! Every piece of work is one explicit transaction in a task of its own, so that a caller who goes away leaves neither an open transaction nor half a write
//! on a connection that somebody else gets. A connection that did not end its transaction in a known way is closed, not lent again.

mod append;
mod database;
mod failure;
mod lease;
mod migrate;
mod open;
mod partitions;
mod pool;
mod session;

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

use sqlx::{self, PgConnection as Connection, Postgres as Dialect};

use self::{
    append::{LOCK_HEAD, insert},
    database::{Database, Pools},
};

pub(crate) use database::Database as Postgres;
#[cfg(feature = "simulation")]
pub(crate) use migrate::MIGRATIONS;
pub use migrate::MigrateError;
pub use open::{PostgresOpenError, PostgresOptions};

/// How often a follower of a tenant looks for a new number.
const POLL: std::time::Duration = std::time::Duration::from_millis(20);
