//! PostgreSQL.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    disk::SmallDisk,
    keeper::{HarnessError, Keeper, folder, free_port, other_user},
};

/// Starts the server and ends it with this process's input. `fsync` stays on: what is tested is what is deployed.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cd "$DIR" || exit 1
eval "$MAKE" >make.log 2>&1 || { cat make.log >&2; exit 1; }
"$BIN/pg_ctl" -D data -l server.log -w -s -o "-p $PORT -k $DIR -c listen_addresses=127.0.0.1 -c max_connections=300 $OPTIONS" start </dev/null >&2 || { cat server.log >&2; exit 1; }
echo ready
cat >/dev/null
"$BIN/pg_ctl" -D data -m immediate -s stop >/dev/null 2>&1
cd / && rm -rf "$DIR"
"#;

/// Makes the data of a server, and of one that follows another.
const NEW: &str = r#""$BIN/initdb" -D data -U postgres --auth=trust --no-sync --encoding=UTF8 --locale=C"#;
const FOLLOWING: &str = r#""$BIN/pg_basebackup" -D data -h 127.0.0.1 -p "$OTHER" -U postgres --write-recovery-conf --checkpoint=fast --no-sync"#;

/// A server with databases for tests.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    bin: PathBuf,
    dir: PathBuf,
    options: String,
    databases: AtomicU32,
    _keeper: Keeper,
    disk: Option<SmallDisk>,
}

impl Postgres {
    /// Starts a server with further options of the `postgres` program.
    pub fn start(options: &str) -> Result<Postgres, HarnessError> {
        Postgres::start_alone(options, None)
    }

    /// As [`start`](Postgres::start), on a disk in memory of so many megabytes. Only root may make one.
    pub fn start_on_small_disk(megabytes: u32) -> Result<Postgres, HarnessError> {
        Postgres::start_alone("-c max_wal_size=64MB -c min_wal_size=32MB", Some(megabytes))
    }

    /// Starts a standby of this server, which from then on commits nothing that the standby does not have as well.
    pub fn standby(&self) -> Result<Postgres, HarnessError> {
        let standby = Postgres::start_on("", None, FOLLOWING, self.port)?;
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        for _ in 0..600 {
            if self.sql("postgres", "SELECT sync_state FROM pg_stat_replication")? == "sync" {
                return Ok(standby);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(HarnessError::Failed { what: "following", reason: standby.log()? })
    }

    /// Makes a standby a server of its own.
    pub fn promote(&self) -> Result<(), HarnessError> {
        self.control(&["promote"])
    }

    /// Lets a standby receive nothing more, or again.
    pub fn receive(&self, receives: bool) -> Result<(), HarnessError> {
        let receiver = self.sql("postgres", "SELECT pid FROM pg_stat_wal_receiver")?;
        let signal = if receives { "-CONT" } else { "-STOP" };
        if Command::new("kill").args([signal, &receiver]).status()?.success() {
            return Ok(());
        }
        Err(HarnessError::Failed { what: "a signal", reason: format!("to the receiver {receiver}") })
    }

    fn start_alone(options: &str, megabytes: Option<u32>) -> Result<Postgres, HarnessError> {
        let server = Postgres::start_on(options, megabytes, NEW, 0)?;
        // The owner is no superuser, so that policies hold for it as they do where this is deployed.
        server.sql("postgres", "CREATE ROLE owner LOGIN; CREATE ROLE ingest LOGIN; CREATE ROLE compaction LOGIN; CREATE ROLE query LOGIN; CREATE ROLE admin LOGIN")?;
        Ok(server)
    }

    fn start_on(
        options: &str,
        megabytes: Option<u32>,
        make: &str,
        other: u16,
    ) -> Result<Postgres, HarnessError> {
        let bin = programs()?;
        let port = free_port()?;
        let dir = folder("postgres", port)?;
        let disk = megabytes.map(|megabytes| SmallDisk::mount(dir.clone(), megabytes)).transpose()?;
        let (number, other) = (port.to_string(), other.to_string());
        let variables = [
            ("MAKE", make.into()),
            ("OTHER", other.as_str().into()),
            ("BIN", bin.to_string_lossy()),
            ("DIR", dir.to_string_lossy()),
            ("PORT", number.as_str().into()),
            ("OPTIONS", options.into()),
        ];
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        let keeper = Keeper::start("starting PostgreSQL", SCRIPT, &variables)?;
        Ok(Postgres {
            port,
            dir,
            options: options.to_owned(),
            databases: AtomicU32::new(0),
            _keeper: keeper,
            disk,
            bin,
        })
    }

    /// The server that all tests of this process share.
    pub fn shared() -> Result<&'static Postgres, &'static HarnessError> {
        static SERVER: OnceLock<Result<Postgres, HarnessError>> = OnceLock::new();
        SERVER.get_or_init(|| Postgres::start("")).as_ref()
    }

    /// The name of a new, empty database that `owner` owns.
    pub fn database(&self) -> Result<String, HarnessError> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER owner"))?;
        Ok(name)
    }

    /// Where a database is, as a user: `owner`, `ingest`, `compaction`, `query`, `admin`, or `postgres`, who may do everything.
    pub fn url(&self, database: &str, user: &str) -> String {
        self.url_at(self.port, database, user)
    }

    /// Where a database is for those who come through another port, such as a proxy's.
    pub(crate) fn url_at(&self, port: u16, database: &str, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{port}/{database}")
    }

    /// The disk that it lies on, where that is a small one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Runs statements as the superuser and gives what they answer, a row a line.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, HarnessError> {
        let output = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", statements])
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(HarnessError::Failed { what: "a statement", reason })
    }

    /// Ends it as a crash would, and starts it again.
    pub fn restart_at_once(&self) -> Result<(), HarnessError> {
        self.control(&["-m", "immediate", "restart"])
    }

    /// Ends it as a crash would.
    pub fn stop_at_once(&self) -> Result<(), HarnessError> {
        self.control(&["-m", "immediate", "stop"])
    }

    /// Starts it again, as it was started first.
    pub fn start_again(&self) -> Result<(), HarnessError> {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c max_connections=300 {}",
            self.port,
            self.dir.display(),
            self.options
        );
        self.control(&["-o", &options, "start"])
    }

    fn control(&self, arguments: &[&str]) -> Result<(), HarnessError> {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        command.args(["-w", "-s"]).args(arguments).arg("-D").arg(self.dir.join("data"));
        command.arg("-l").arg(self.dir.join("server.log")).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        if let Some(user) = other_user() {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        if command.status()?.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        let reason = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        Err(HarnessError::Failed { what: "ending or starting PostgreSQL", reason })
    }

    /// What it has written into its log.
    pub fn log(&self) -> Result<String, HarnessError> {
        Ok(std::fs::read_to_string(self.dir.join("server.log"))?)
    }

    /// Runs statements that may bring data along, as psql reads them, as the superuser.
    pub fn script(&self, database: &str, statements: &[u8]) -> Result<(), HarnessError> {
        let mut child = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-d", database, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            std::io::Write::write_all(&mut input, statements)?;
        }
        if child.wait()?.success() {
            return Ok(());
        }
        Err(HarnessError::Failed { what: "a script", reason: "psql says why above".to_owned() })
    }

    /// The number of the server's first process.
    pub fn postmaster(&self) -> Result<u32, HarnessError> {
        let file = std::fs::read_to_string(self.dir.join("data/postmaster.pid"))?;
        let number = file.lines().next().and_then(|line| line.trim().parse().ok());
        number.ok_or(HarnessError::Missing { what: "the number of PostgreSQL's process" })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The folder of the newest installed version's programs.
fn programs() -> Result<PathBuf, HarnessError> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|folders| folders.flatten().map(|folder| folder.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    versions.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.extend(std::env::split_paths(&path));
    let whole = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres", "psql"].iter().all(|program| folder.join(program).exists())
    };
    versions.into_iter().find(whole).ok_or(HarnessError::Missing { what: "PostgreSQL" })
}
