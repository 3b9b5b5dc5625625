//! Connecting to a database.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    MigrateError, Pools, Postgres,
    migrate::{check, make_partitions, migrate},
    pool::{Pool, Server},
    session::within,
};
use crate::backend::Purpose;

/// How the shared store behaves.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Where the database is, as its owner if the schema is to be brought up to date.
    pub url: String,
    /// As whom to append, compact, read, and administer; as above where it is not said.
    pub ingest_url: Option<String>,
    /// See `ingest_url`.
    pub compaction_url: Option<String>,
    /// See `ingest_url`.
    pub query_url: Option<String>,
    /// See `ingest_url`.
    pub admin_url: Option<String>,
    /// Most connections for each of these.
    pub connections: u32,
    /// Most stored bytes of a tenant's journal that may wait for compaction; appends beyond are refused.
    pub backlog_bytes: u64,
    /// Bring the schema up to date, instead of only looking whether it is.
    pub migrate: bool,
    /// Work with a server that may lose what it has committed.
    pub allow_unsafe_server: bool,
    /// What a transaction is called on the server for as long as it lasts (`application_name`), asked in the span that it belongs to when it begins: at most 63
    /// letters, digits, spaces and dashes. `None` leaves `runnel`.
    pub call: fn() -> Option<String>,
}

impl PostgresOptions {
    /// A database, with everything else as usual.
    #[must_use]
    pub fn new(url: String) -> PostgresOptions {
        PostgresOptions {
            url,
            ingest_url: None,
            compaction_url: None,
            query_url: None,
            admin_url: None,
            connections: 8,
            backlog_bytes: 1 << 30,
            migrate: true,
            allow_unsafe_server: false,
            call: || None,
        }
    }

    /// Whether an address is one.
    pub fn check_url(url: &str) -> Result<(), PostgresOpenError> {
        connect_options(url).map(drop)
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("connections", &self.connections)
            .field("backlog_bytes", &self.backlog_bytes)
            .field("migrate", &self.migrate)
            .field("allow_unsafe_server", &self.allow_unsafe_server)
            .finish_non_exhaustive()
    }
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The address is none.
    #[error(
        "the address of the database cannot be read; it is written postgres://USER:PASSWORD@HOST:PORT/DATABASE"
    )]
    Url(#[source] sqlx::Error),
    /// Nobody answers there, or does not let this program in.
    #[error("the database at {host} cannot be reached")]
    Connect {
        /// Where.
        host: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The server is too old.
    #[error("the database server has version {found}, and 15 or newer is needed")]
    TooOld {
        /// Its version.
        found: i64,
    },
    /// The server may lose what it has committed.
    #[error(
        "the database server may lose what it has committed: {settings} is off; switch it on, or allow an unsafe server"
    )]
    Unsafe {
        /// The settings that make it so.
        settings: String,
    },
    /// The schema does not fit.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one waits for a connection.
const ACQUIRE: Duration = Duration::from_millis(900);
/// After how long a connection is replaced by a new one.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

impl Postgres {
    /// Connects, looks whether the server keeps what it commits, and brings the schema up to date.
    pub(crate) async fn open(options: &PostgresOptions) -> Result<Postgres, PostgresOpenError> {
        let owner = connect_options(&options.url)?;
        let users = [&options.ingest_url, &options.compaction_url, &options.query_url, &options.admin_url]
            .map(|url| url.as_ref().map(|url| connect_options(url)).transpose());
        let [ingest, compaction, query, admin] = users;
        let (ingest, compaction, query, admin) = (ingest?, compaction?, query?, admin?);
        let host = || format!("{}:{}", owner.get_host(), owner.get_port());
        let mut connection = within(CONNECT, owner.connect())
            .await
            .map_err(|source| PostgresOpenError::Connect { host: host(), source })?;
        look_at_server(&mut connection, options.allow_unsafe_server).await?;
        if options.migrate {
            let users = [
                (&ingest, Purpose::Ingest),
                (&compaction, Purpose::Compaction),
                (&query, Purpose::Query),
                (&admin, Purpose::Admin),
            ];
            let users: Vec<(&str, Purpose)> = users
                .iter()
                .filter_map(|(user, purpose)| Some((user.as_ref()?.get_username(), *purpose)))
                .filter(|(user, _)| *user != owner.get_username())
                .collect();
            migrate(&mut connection, &users).await?;
            make_partitions(&mut connection).await;
        }
        check(&mut connection).await?;
        connection.close().await?;
        let name = owner.get_database().unwrap_or(owner.get_username()).to_owned();
        let server = Arc::new(Server { name, call: options.call, silent: Mutex::default() });
        let pool = |own: Option<PgConnectOptions>, most: u32| Pool {
            connections: lazy_pool(
                own.unwrap_or_else(|| owner.clone()),
                most.max(1),
                !options.allow_unsafe_server,
            ),
            server: server.clone(),
        };
        let pools = Pools {
            ingest: pool(ingest, options.connections),
            compaction: pool(compaction, options.connections),
            query: pool(query, options.connections),
            admin: pool(admin, options.connections),
        };
        Ok(Postgres::new(pools, options.backlog_bytes))
    }
}

fn connect_options(url: &str) -> Result<PgConnectOptions, PostgresOpenError> {
    // The client library takes any scheme.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(PostgresOpenError::Url(sqlx::Error::Configuration("it is of another kind".into())));
    }
    let options: PgConnectOptions = url.parse().map_err(PostgresOpenError::Url)?;
    Ok(options
        .application_name("runnel")
        .options([
            ("statement_timeout", "30s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("client_min_messages", "warning"),
        ])
        .disable_statement_logging())
}

/// Waits for a commit to be on disk, and on that of a standby where commits wait for one, also where the settings of a user say otherwise: the look at the server
/// sees only those of the owner.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";

fn lazy_pool(options: PgConnectOptions, most: u32, durable: bool) -> PgPool {
    PgPoolOptions::new()
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if durable {
                    sqlx::query(DURABLE).execute(connection).await?;
                }
                Ok(())
            })
        })
        .max_connections(most)
        .acquire_timeout(ACQUIRE)
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

async fn look_at_server(connection: &mut PgConnection, allow_unsafe: bool) -> Result<(), PostgresOpenError> {
    let (version,): (i64,) = sqlx::query_as("SELECT current_setting('server_version_num')::bigint / 10000")
        .fetch_one(&mut *connection)
        .await?;
    if version < 15 {
        return Err(PostgresOpenError::TooOld { found: version });
    }
    let off: Vec<(String,)> = sqlx::query_as(
        "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') \
         AND setting = 'off' ORDER BY name",
    )
    .fetch_all(&mut *connection)
    .await?;
    let (alone,): (bool,) = sqlx::query_as("SELECT current_setting('synchronous_standby_names') = ''")
        .fetch_one(connection)
        .await?;
    if alone {
        tracing::info!(
            "commits wait for no standby: what is acknowledged is as safe as the database server's disk"
        );
    }
    if off.is_empty() {
        return Ok(());
    }
    let settings = off.into_iter().map(|(name,)| name).collect::<Vec<_>>().join(", ");
    if allow_unsafe {
        tracing::warn!(settings, "the database server may lose what it has committed");
        return Ok(());
    }
    Err(PostgresOpenError::Unsafe { settings })
}
