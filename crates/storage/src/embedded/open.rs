//! Opening a data folder.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Executor, SqliteConnection,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use tokio::sync::mpsc;

use super::{
    Embedded, EmbeddedOptions,
    failure::is_damaged,
    writer::{QUEUE, Writer},
};
use crate::{notice::Notices, watch::Watchers};

/// Why a folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the folder {} is in use by another process; stop that process or choose another folder", dir.display())]
    InUse {
        /// Which folder.
        dir: PathBuf,
    },
    /// A newer program wrote it.
    #[error("the folder {} has format {found}, this program knows {known}; use a newer program", dir.display())]
    NewerVersion {
        /// Which folder.
        dir: PathBuf,
        /// The folder's format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The folder's database belongs to something else.
    #[error("{} is a database of another program; choose another folder", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The file is no database.
    #[error("{} is no database; restore it from a backup or choose another folder", path.display())]
    NoDatabase {
        /// Which file.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("the database {} is damaged; restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        #[source]
        source: sqlx::Error,
    },
    /// The folder cannot be created, read or written.
    #[error("{} cannot be used", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database failed.
    #[error("the database {} failed", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// How.
        #[source]
        source: sqlx::Error,
    },
}

/// What each format adds to the one before. A new folder gets all of them, an older one those that it lacks.
const SCHEMAS: [&str; 7] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
];
/// The newest format of the folder that is known, and the one that is written.
pub(crate) const FORMAT: u32 = SCHEMAS.len() as u32;
/// SQLite's mark for whose file it is: `RNNL`.
const APPLICATION: u32 = 0x524e_4e4c;
const PAGE_BYTES: u32 = 8_192;
const BUSY: Duration = Duration::from_secs(10);

impl Embedded {
    /// Opens a folder and starts its writer.
    pub(crate) async fn open(dir: &Path, options: EmbeddedOptions) -> Result<Arc<Embedded>, OpenError> {
        create(dir)?;
        let lock = lock(dir)?;
        let path = dir.join("runnel.db");
        check_head(dir, &path)?;
        let failed = |source: sqlx::Error| {
            let path = path.clone();
            if is_damaged(&source) {
                OpenError::Damaged { path, source }
            } else {
                OpenError::Database { path, source }
            }
        };
        let cache = format!("-{}", options.cache_bytes / 1_024);
        let writing = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .pragma("cache_size", cache.clone())
            .pragma("journal_size_limit", "67108864")
            // What is deleted inside of a page is overwritten; whole pages are given back when something was erased.
            .pragma("secure_delete", "FAST")
            .thread_name(|_| "runnel-writer".to_owned())
            .disable_statement_logging();
        let reading = SqliteConnectOptions::new()
            .filename(&path)
            .read_only(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", cache)
            .thread_name(|id| format!("runnel-reader-{id}"))
            .disable_statement_logging();
        let mut connection = writing.connect().await.map_err(failed)?;
        prepare(dir, &path, &mut connection).await?;
        let bound = options.max_bytes.map(|bytes| {
            let pages = (bytes / u64::from(PAGE_BYTES)).clamp(1, u64::from(u32::MAX) - 2);
            format!("PRAGMA max_page_count = {pages}")
        });
        if let Some(bound) = &bound {
            connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(bound.clone()))).await.map_err(failed)?;
        }
        let readers = pool(&options, reading).await.map_err(failed)?;
        let (writer, commands) = mpsc::channel(QUEUE);
        let (watchers, notices) = (Arc::new(Watchers::default()), Notices::default());
        let task = Writer {
            connection,
            options: writing,
            commands,
            watchers: watchers.clone(),
            notices: notices.clone(),
            backlog_bytes: options.backlog_bytes,
            bound,
            lock,
        };
        tokio::spawn(task.run());
        Ok(Arc::new(Embedded::new(writer, readers, watchers, notices)))
    }
}

async fn pool(options: &EmbeddedOptions, reading: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .acquire_timeout(BUSY)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(reading)
        .await
}

fn create(dir: &Path) -> Result<(), OpenError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// Takes the folder for this process. The operating system releases it when the process ends, however it ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let file = options.open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Looks at an existing file before SQLite does, which would turn a foreign database into one of ours. <https://www.sqlite.org/fileformat2.html>
fn check_head(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(100)
            .read_to_end(&mut head)
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
    };
    if head.is_empty() {
        return Ok(());
    }
    if head.len() < 100 || !head.starts_with(b"SQLite format 3\0") {
        return Err(OpenError::NoDatabase { path: path.to_owned() });
    }
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    judge(dir, path, number(68), number(60)).map(|_| ())
}

/// The format of a file with these marks; 0 when it has none yet.
fn judge(dir: &Path, path: &Path, application: u32, found: u32) -> Result<u32, OpenError> {
    match application {
        APPLICATION if found > FORMAT => {
            Err(OpenError::NewerVersion { dir: dir.to_owned(), found, known: FORMAT })
        }
        APPLICATION => Ok(found),
        0 => Ok(0),
        _ => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// Creates the tables of a new folder, or those that an older one lacks.
async fn prepare(dir: &Path, path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let failed = |source: sqlx::Error| {
        let path = path.to_owned();
        if is_damaged(&source) {
            OpenError::Damaged { path, source }
        } else {
            OpenError::Database { path, source }
        }
    };
    let (application,): (i64,) =
        sqlx::query_as("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    let (format,): (i64,) =
        sqlx::query_as("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(failed)?;
    let format = judge(dir, path, application as u32, format as u32)?;
    if format == FORMAT {
        return Ok(());
    }
    let (tables,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM sqlite_schema")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if format == 0 && tables > 0 {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let mut transaction = connection.begin().await.map_err(failed)?;
    let marks = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}");
    for schema in &SCHEMAS[format as usize..] {
        transaction.execute(sqlx::raw_sql(*schema)).await.map_err(failed)?;
    }
    transaction.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(marks))).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
