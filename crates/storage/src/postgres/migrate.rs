//! The schema, brought up to date while others work with it.
//!
//! A migration expands: what older programs read and write stays until the one after it, so that programs of two neighbouring versions run side by side.
//! Several processes may migrate at once; one does, the others wait for its transaction and find nothing left to do.

use std::time::Duration;

use sqlx::{Connection as _, Executor, PgConnection};

use super::partitions::{TABLES, is_busy, not_turned};
use crate::{backend::Purpose, point::point};

/// What each version adds to the one before.
pub(crate) const MIGRATIONS: [&str; 6] = [
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
    include_str!("migrations/4.sql"),
    include_str!("migrations/5.sql"),
    include_str!("migrations/6.sql"),
];
/// The newest version of the schema that is known.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;
/// The oldest program, by the version that it knows, that can work with the schema as it is after all migrations.
const OLDEST_PROGRAM: i64 = 1;
/// Marks the lock under which one process migrates: `RNNL`.
const LOCK: i64 = 0x524e_4e4c;
/// How often a migration that had to wait too long for somebody's lock is tried again, and after how long.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(500);

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer program has changed it, and this one cannot work with that.
    #[error(
        "the database has schema {found}, which needs a program that knows schema {needed} or newer, and this one knows {known}; use a newer program"
    )]
    NewerVersion {
        /// The schema's version.
        found: i64,
        /// The least that a program must know.
        needed: i64,
        /// What this one knows.
        known: i64,
    },
    /// It lacks what this program needs, and was not to be changed.
    #[error(
        "the database has schema {found}, and this program needs {known}; run `runnel migrate` with the owner's rights first"
    )]
    TooOld {
        /// The schema's version; 0 when there is none.
        found: i64,
        /// What this program needs.
        known: i64,
    },
    /// Somebody held a table for all the time that was waited.
    #[error(
        "the schema could not be changed, because somebody holds a table; try again when there is less to do"
    )]
    Busy,
    /// The database failed.
    #[error("the schema could not be brought up to date")]
    Database(#[from] sqlx::Error),
}

/// Brings the schema up to date, and gives users what they need for their purposes.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    users: &[(&str, Purpose)],
) -> Result<(), MigrateError> {
    for _ in 0..ATTEMPTS {
        match once(connection, users).await {
            Err(MigrateError::Database(error)) if is_busy(&error) => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
    Err(MigrateError::Busy)
}

/// Makes the partitions of the hours ahead, by the clock of the database, before there are rows of them: an hour that has rows in the default partition can have
/// none of its own.
pub(super) async fn make_partitions(connection: &mut PgConnection) {
    for table in TABLES {
        let made = sqlx::query(
            "SELECT turn_partitions($1, floor(extract(epoch FROM clock_timestamp()) / 3600)::bigint)",
        )
        .bind(table)
        .execute(&mut *connection)
        .await;
        if let Err(error) = made {
            not_turned(table, &error);
        }
    }
}

async fn once(connection: &mut PgConnection, users: &[(&str, Purpose)]) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await?;
    transaction.execute("SET LOCAL lock_timeout = '2s'").await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    transaction
        .execute("CREATE TABLE IF NOT EXISTS runnel_schema (version bigint NOT NULL, oldest_program bigint NOT NULL)")
        .await?;
    let found = version(&mut transaction).await?;
    if found < VERSION {
        point("mig.before_ddl").await?;
        if found > 0 {
            // In the order in which appends take them, so that neither waits for the other for ever.
            transaction.execute("LOCK TABLE tenants, heads, chores IN ACCESS EXCLUSIVE MODE").await?;
        }
        for migration in &MIGRATIONS[found.max(0) as usize..] {
            transaction.execute(sqlx::raw_sql(*migration)).await?;
            point("mig.between_steps").await?;
        }
        transaction.execute("DELETE FROM runnel_schema").await?;
        sqlx::query("INSERT INTO runnel_schema (version, oldest_program) VALUES ($1, $2)")
            .bind(VERSION)
            .bind(OLDEST_PROGRAM)
            .execute(&mut *transaction)
            .await?;
    }
    for (user, purpose) in users {
        grant(&mut transaction, user, *purpose).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// What a user may do for a purpose, beside looking at the schema's version: privileges, and tables.
fn privileges(purpose: Purpose) -> &'static [(&'static str, &'static str)] {
    match purpose {
        Purpose::Ingest => &[
            ("SELECT", "runnel_schema, tenants"),
            ("SELECT, INSERT", "journal, journal_payloads, receipts, names, aliases, secrets"),
            ("DELETE", "aliases"),
            ("SELECT, DELETE", "list_members"),
            ("SELECT, INSERT", "erasures"),
            ("SELECT, INSERT, UPDATE", "erasing, tombstones"),
            ("SELECT, UPDATE", "heads"),
            ("SELECT, INSERT, UPDATE", "chores"),
        ],
        Purpose::Compaction => &[
            ("SELECT", "runnel_schema, tenants"),
            ("SELECT, UPDATE", "heads"),
            ("EXECUTE", "FUNCTION turn_partitions"),
            (
                "SELECT, INSERT, UPDATE, DELETE",
                "chores, journal, journal_payloads, receipts, blocks, block_parts, drafts, findings, conflicts",
            ),
            ("SELECT, UPDATE, DELETE", "erasing"),
            ("SELECT, UPDATE", "erasures"),
            ("SELECT, INSERT, UPDATE", "tombstones"),
            ("SELECT", "secrets"),
        ],
        Purpose::Query => &[(
            "SELECT",
            "runnel_schema, tenants, chores, heads, journal, journal_payloads, receipts, blocks, block_parts, findings, \
             conflicts, definitions, list_members, names, aliases, aggregate_states, aggregates, restatements, erasures, \
             erasing",
        )],
        Purpose::Admin => &[
            ("SELECT", "runnel_schema"),
            ("SELECT, INSERT, UPDATE", "tenants, keys, heads, chores"),
            ("INSERT", "erasures"),
            ("SELECT, INSERT, DELETE", "definitions, list_members"),
            ("SELECT, INSERT, UPDATE, DELETE", "aggregate_states, aggregates, restatements"),
        ],
    }
}

async fn grant(connection: &mut PgConnection, user: &str, purpose: Purpose) -> Result<(), sqlx::Error> {
    let user = user.replace('"', "\"\"");
    for (privileges, tables) in privileges(purpose) {
        let statement = format!("GRANT {privileges} ON {tables} TO \"{user}\"");
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement))).await?;
    }
    Ok(())
}

/// Refuses a schema that this program cannot work with.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let there: (bool,) =
        sqlx::query_as("SELECT to_regclass('runnel_schema') IS NOT NULL").fetch_one(&mut *connection).await?;
    let found = if there.0 { version(connection).await? } else { 0 };
    if found < VERSION { Err(MigrateError::TooOld { found, known: VERSION }) } else { Ok(()) }
}

async fn version(connection: &mut PgConnection) -> Result<i64, MigrateError> {
    let row: Option<(i64, i64)> = sqlx::query_as("SELECT version, oldest_program FROM runnel_schema")
        .fetch_optional(connection)
        .await?;
    match row {
        Some((found, needed)) if needed > VERSION => {
            Err(MigrateError::NewerVersion { found, needed, known: VERSION })
        }
        row => Ok(row.map_or(0, |(found, _)| found)),
    }
}
