//! Where a process keeps everything: a data folder of its own, or a database that it shares.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use runnel_chassis::{
    observe::call_name,
    seal::{Seal, unhex},
    serve::asked_to_stop,
};
use runnel_storage::{CompactOptions, Hot, PostgresOptions, Store, hot::HotOptions};

use crate::mistakes::Mistakes;

/// The shared database.
#[derive(Clone, Args)]
pub(crate) struct PostgresArgs {
    /// The database that processes share: postgres://USER:PASSWORD@HOST:PORT/DATABASE. As the owner of its tables, the schema is brought up to date.
    #[arg(long, env = "RUNNEL_POSTGRES", hide_env_values = true, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// As whom to append, if not as above.
    #[arg(
        long,
        env = "RUNNEL_POSTGRES_INGEST",
        hide_env_values = true,
        value_name = "URL",
        requires = "postgres"
    )]
    postgres_ingest: Option<String>,
    /// As whom to compact, if not as above.
    #[arg(
        long,
        env = "RUNNEL_POSTGRES_COMPACTION",
        hide_env_values = true,
        value_name = "URL",
        requires = "postgres"
    )]
    postgres_compaction: Option<String>,
    /// As whom to read, if not as above.
    #[arg(
        long,
        env = "RUNNEL_POSTGRES_QUERY",
        hide_env_values = true,
        value_name = "URL",
        requires = "postgres"
    )]
    postgres_query: Option<String>,
    /// As whom to keep tenants, keys and definitions, if not as above.
    #[arg(
        long,
        env = "RUNNEL_POSTGRES_ADMIN",
        hide_env_values = true,
        value_name = "URL",
        requires = "postgres"
    )]
    postgres_admin: Option<String>,
    /// Most connections for each of these four.
    #[arg(long, env = "RUNNEL_POSTGRES_CONNECTIONS", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=1000))]
    postgres_connections: u32,
    /// Leave the schema as it is: `runnel migrate` brings it up to date.
    #[arg(long, env = "RUNNEL_POSTGRES_NO_MIGRATION")]
    postgres_no_migration: bool,
    /// Work with a server whose settings let it lose what it has committed.
    #[arg(long, env = "RUNNEL_POSTGRES_ALLOW_UNSAFE")]
    postgres_allow_unsafe: bool,
}

impl std::fmt::Debug for PostgresArgs {
    /// Addresses hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresArgs")
            .field("postgres_connections", &self.postgres_connections)
            .finish_non_exhaustive()
    }
}

impl PostgresArgs {
    /// The options; `None` when no database is named.
    pub(crate) fn options(&self) -> Option<PostgresOptions> {
        let url = self.postgres.clone()?;
        Some(PostgresOptions {
            ingest_url: self.postgres_ingest.clone(),
            compaction_url: self.postgres_compaction.clone(),
            query_url: self.postgres_query.clone(),
            admin_url: self.postgres_admin.clone(),
            connections: self.postgres_connections,
            migrate: !self.postgres_no_migration,
            allow_unsafe_server: self.postgres_allow_unsafe,
            call: call_name,
            ..PostgresOptions::new(url)
        })
    }

    /// Looks for mistakes, where a database has to be named.
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        if self.postgres.is_none() {
            mistakes.look("--postgres", Err::<(), _>(no_database()));
        }
        let urls = [
            ("--postgres", &self.postgres),
            ("--postgres-ingest", &self.postgres_ingest),
            ("--postgres-compaction", &self.postgres_compaction),
            ("--postgres-query", &self.postgres_query),
            ("--postgres-admin", &self.postgres_admin),
        ];
        for (at, url) in urls {
            if let Some(url) = url {
                mistakes.look(at, PostgresOptions::check_url(url));
            }
        }
    }

    /// Whether users beside the owner are named.
    pub(crate) fn names_users(&self) -> bool {
        [&self.postgres_ingest, &self.postgres_compaction, &self.postgres_query, &self.postgres_admin]
            .iter()
            .any(|user| user.is_some())
    }

    /// Connects.
    pub(crate) async fn open(&self) -> anyhow::Result<Store> {
        let options = self.options().ok_or_else(no_database)?;
        tokio::select! {
            opened = Store::open_postgres(&options) => Ok(opened?),
            () = asked_to_stop() => bail!("asked to stop before the database was ready"),
        }
    }
}

fn no_database() -> anyhow::Error {
    anyhow!("say which database: --postgres URL or RUNNEL_POSTGRES")
}

/// When what was appended is compacted.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompactionArgs {
    /// Compact a tenant's journal when it has this many stored kilobytes …
    #[arg(long, env = "RUNNEL_COMPACT_AFTER_KB", value_name = "KB", default_value = "4096", value_parser = clap::value_parser!(u64).range(1..=262_144))]
    compact_after_kb: u64,
    /// … or when its oldest row has waited for so many seconds.
    #[arg(long, env = "RUNNEL_COMPACT_AFTER_SECONDS", value_name = "SECONDS", default_value = "300", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    compact_after_seconds: u32,
}

impl CompactionArgs {
    /// How compaction works.
    pub(crate) fn options(&self) -> CompactOptions {
        CompactOptions {
            trigger_bytes: self.compact_after_kb << 10,
            trigger_age_ms: i64::from(self.compact_after_seconds) * 1_000,
            ..CompactOptions::default()
        }
    }
}

/// The hot store.
#[derive(Clone, Args)]
pub(crate) struct RedisArgs {
    /// Where processes share what is true at this moment: redis://[USER:PASSWORD@]HOST:PORT, rediss:// with TLS, or redis+cluster://HOST:PORT,HOST:PORT.
    /// Without it each process keeps that to itself. Losing it changes no answer.
    #[arg(long, env = "RUNNEL_REDIS", hide_env_values = true, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// Work with a server that throws away what it holds when its memory is full.
    #[arg(long, env = "RUNNEL_REDIS_ALLOW_EVICTION", requires = "redis")]
    redis_allow_eviction: bool,
}

impl std::fmt::Debug for RedisArgs {
    /// Addresses hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisArgs").finish_non_exhaustive()
    }
}

impl RedisArgs {
    /// Looks for mistakes.
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        if let Some(url) = &self.redis {
            mistakes.look("--redis", HotOptions::new(url.clone()).check());
        }
    }

    /// Connects; without an address, hot state lies in this process.
    pub(crate) async fn open(&self) -> anyhow::Result<Hot> {
        match &self.redis {
            None => Ok(Hot::process()),
            Some(url) => {
                let allow_eviction = self.redis_allow_eviction;
                Ok(Hot::open(&HotOptions { allow_eviction, ..HotOptions::new(url.clone()) }).await?)
            }
        }
    }
}

/// The secret that keys are hashed with, for processes that share a database.
#[derive(Debug, Clone, Args)]
pub(crate) struct PepperArgs {
    /// A file with the secret that keys are hashed with: 32 bytes, or 64 hexadecimal digits. With a data folder it lies there.
    #[arg(long, env = "RUNNEL_PEPPER_FILE", value_name = "FILE")]
    pepper_file: Option<PathBuf>,
}

impl PepperArgs {
    /// Reads the secret.
    pub(crate) fn read(&self) -> anyhow::Result<Seal> {
        match &self.pepper_file {
            Some(path) => secret(path),
            None => bail!(
                "processes that share a database need the secret that keys are hashed with: --pepper-file FILE, \
                 made once, for example with: openssl rand -hex 32"
            ),
        }
    }
}

/// A secret of 32 bytes in a file, plain or in hexadecimal.
pub(crate) fn secret(path: &Path) -> anyhow::Result<Seal> {
    let shown = path.display();
    let bytes = fs::read(path).with_context(|| format!("the file {shown} cannot be read"))?;
    if let Ok(plain) = <[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(Seal::new(plain));
    }
    let digits = std::str::from_utf8(&bytes).ok().and_then(|text| unhex(text.trim()));
    match digits.and_then(|digits| <[u8; 32]>::try_from(digits).ok()) {
        Some(secret) => Ok(Seal::new(secret)),
        None => bail!("the file {shown} holds neither 32 bytes nor 64 hexadecimal digits"),
    }
}
