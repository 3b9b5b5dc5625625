//! The ways in which Runnel is placed: in one process over a folder, in one process over a shared database, and in a process for each service.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use runnel_client::{
    Client,
    proto::admin::v1::{CreateKeyRequest, CreateTenantRequest, KeyKind},
};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{HarnessError, Postgres, Redis};

/// Where things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// One process, a data folder.
    Folder,
    /// One process, PostgreSQL.
    Shared,
    /// A process for each service, PostgreSQL with a user for each purpose.
    Split,
}

/// What processes get beside what their placement needs.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Further options.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub variables: Vec<(String, String)>,
    /// Where their standard error goes, one behind the other. Default: where the test's own goes.
    pub log: Option<PathBuf>,
}

/// A process of ours that listens. Ended when it is dropped.
#[derive(Debug)]
pub struct Process {
    binary: PathBuf,
    arguments: Vec<String>,
    extra: Extra,
    child: Child,
    /// Where it listens.
    pub endpoint: String,
    /// Where those who run it are answered, if it was asked to.
    pub ops: Option<String>,
    /// What it said first.
    said: serde_json::Value,
}

impl Process {
    /// Starts `runnel` with these arguments on a free port and waits until it listens.
    pub fn start(binary: &Path, arguments: &[&str]) -> Result<Process, HarnessError> {
        Process::start_with(binary, arguments, &Extra::default())
    }

    /// As [`start`](Process::start), with more.
    pub fn start_with(binary: &Path, arguments: &[&str], extra: &Extra) -> Result<Process, HarnessError> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (child, said) = spawn(binary, &arguments, extra, "127.0.0.1:0")?;
        let endpoint = format!("http://{}", said["listening"].as_str().unwrap_or_default());
        let ops = said["ops"].as_str().map(str::to_owned);
        Ok(Process { binary: binary.to_owned(), arguments, extra: extra.clone(), child, endpoint, ops, said })
    }

    /// Starts another process as this one was started, on another port.
    pub fn another(&self) -> Result<Process, HarnessError> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Process::start_with(&self.binary, &arguments, &self.extra)
    }

    /// The operator's first key, when this process made it.
    pub fn operator_key(&self) -> Option<&str> {
        self.said["operatorKey"].as_str()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Further environment variables from its next start on.
    pub fn set_variables(&mut self, variables: &[(String, String)]) {
        self.extra.variables = variables.to_vec();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool, HarnessError> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, where it listened before.
    pub fn restart(&mut self) -> Result<(), HarnessError> {
        let address = self.endpoint.trim_start_matches("http://");
        (self.child, self.said) = spawn(&self.binary, &self.arguments, &self.extra, address)?;
        Ok(())
    }

    /// Sends it a signal: STOP and CONT let it stand still for a while, TERM asks it to end.
    pub fn signal(&self, name: &str) -> Result<(), HarnessError> {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Waits until it has ended; whether it ended well.
    pub fn wait(&mut self) -> Result<bool, HarnessError> {
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(
    binary: &Path,
    arguments: &[String],
    extra: &Extra,
    listen: &str,
) -> Result<(Child, serde_json::Value), HarnessError> {
    let mut command = Command::new(binary);
    command.args(arguments).args(&extra.arguments).args(["--listen", listen, "--output", "json"]);
    command.envs(extra.variables.iter().map(|(name, value)| (name, value))).stdout(Stdio::piped());
    if let Some(log) = &extra.log {
        command.stderr(File::options().create(true).append(true).open(log)?);
    }
    let mut child = command.spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    match serde_json::from_str(&line) {
        Ok(said) => Ok((child, said)),
        Err(_) => {
            drop(child.kill());
            drop(child.wait());
            let reason = format!("{arguments:?} said {line:?}");
            Err(HarnessError::Failed { what: "starting runnel", reason })
        }
    }
}

/// What processes share. Stores that are not named are those that a process has for itself.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    /// Where the shared database is.
    pub postgres: Option<Arc<Postgres>>,
    /// The port through which the shared database is reached, when it is not its own.
    pub postgres_port: Option<u16>,
    /// Where hot state is.
    pub redis: Option<Arc<Redis>>,
}

impl From<Option<Arc<Postgres>>> for Stores {
    fn from(postgres: Option<Arc<Postgres>>) -> Stores {
        Stores { postgres, ..Stores::default() }
    }
}

/// The secret by which the services of a deployment know calls of its gateway.
pub const CONTEXT_SECRET: [u8; 32] = [0x5a; 32];

/// Something that calls go to.
#[derive(Debug)]
pub struct Deployment {
    /// Where the edge listens.
    pub endpoint: String,
    operator: String,
    /// The processes by service; `serve` where one does everything.
    pub processes: BTreeMap<&'static str, Process>,
    database: Option<String>,
    stores: Stores,
    folder: TempDir,
}

impl Deployment {
    /// The shared database's name, where there is one.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// What the processes share.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Where the processes keep files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts everything over stores, with an empty database.
    pub fn start(
        binary: &Path,
        placement: Placement,
        stores: impl Into<Stores>,
    ) -> Result<Deployment, HarnessError> {
        Deployment::start_with(binary, placement, stores, &Extra::default())
    }

    /// As [`start`](Deployment::start), with more for every process.
    pub fn start_with(
        binary: &Path,
        placement: Placement,
        stores: impl Into<Stores>,
        extra: &Extra,
    ) -> Result<Deployment, HarnessError> {
        let stores = stores.into();
        let folder = tempfile::tempdir()?;
        let mut processes = BTreeMap::new();
        let server = stores.postgres.as_deref();
        let port = stores.postgres_port.or(server.map(Postgres::port)).unwrap_or_default();
        let redis = stores.redis.as_deref().map(Redis::url);
        let hot: Vec<&str> = redis.iter().flat_map(|url| ["--redis", url]).collect();
        let database =
            server.filter(|_| placement != Placement::Folder).map(Postgres::database).transpose()?;
        match (placement, server.zip(database.as_deref())) {
            (Placement::Folder, _) => {
                let data = folder.path().join("data").to_string_lossy().into_owned();
                let arguments = [&["serve", "--data-dir", &data][..], &hot].concat();
                processes.insert("serve", Process::start_with(binary, &arguments, extra)?);
            }
            (Placement::Shared, Some((server, database))) => {
                let url = server.url_at(port, database, "owner");
                let pepper = secret(folder.path(), "pepper")?;
                let arguments = [&["serve", "--postgres", &url, "--pepper-file", &pepper][..], &hot].concat();
                processes.insert("serve", Process::start_with(binary, &arguments, extra)?);
            }
            (Placement::Split, Some((server, database))) => {
                split(binary, folder.path(), (server, port, database), &hot, extra, &mut processes)?;
            }
            (_, None) => return Err(HarnessError::Missing { what: "PostgreSQL" }),
        }
        let edge = processes.get("gateway").or_else(|| processes.get("serve"));
        let said = edge.map(|edge| (edge.endpoint.clone(), edge.operator_key().map(str::to_owned)));
        let Some((endpoint, Some(operator))) = said else {
            let reason = "no operator's key was made".to_owned();
            return Err(HarnessError::Failed { what: "starting runnel", reason });
        };
        Ok(Deployment { endpoint, operator, processes, database, stores, folder })
    }

    /// The operator.
    pub async fn operator(&self) -> Result<Client<Channel>, HarnessError> {
        Client::connect(&self.endpoint, &self.operator).await.map_err(failed)
    }

    /// A new tenant with a write key and a read key.
    pub async fn tenant(&self, name: &str) -> Result<(String, String), HarnessError> {
        let operator = self.operator().await?;
        operator.admin().create_tenant(CreateTenantRequest { name: name.into() }).await.map_err(failed)?;
        Ok((self.key(name, KeyKind::Write).await?, self.key(name, KeyKind::Read).await?))
    }

    /// A new key of a tenant.
    pub async fn key(&self, tenant: &str, kind: KeyKind) -> Result<String, HarnessError> {
        let operator = self.operator().await?;
        let asked =
            CreateKeyRequest { tenant: tenant.into(), kind: kind as i32, ..CreateKeyRequest::default() };
        operator.admin().create_key(asked).await.map(|made| made.into_inner().secret).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> HarnessError {
    HarnessError::Failed { what: "making a tenant", reason: error.to_string() }
}

/// A file with a secret.
fn secret(folder: &Path, name: &str) -> Result<String, HarnessError> {
    let path = folder.join(name);
    std::fs::write(&path, "5a".repeat(32))?;
    Ok(path.to_string_lossy().into_owned())
}

/// A process for each service. Each has the rights that it needs and no others.
fn split(
    binary: &Path,
    folder: &Path,
    (server, port, database): (&Postgres, u16, &str),
    hot: &[&str],
    extra: &Extra,
    processes: &mut BTreeMap<&'static str, Process>,
) -> Result<(), HarnessError> {
    let [owner, ingest, compaction, query, admin] =
        ["owner", "ingest", "compaction", "query", "admin"].map(|user| server.url_at(port, database, user));
    let migrated = Command::new(binary)
        .args(["migrate", "--postgres", &owner, "--postgres-ingest", &ingest])
        .args(["--postgres-compaction", &compaction, "--postgres-query", &query, "--postgres-admin", &admin])
        .output()?;
    if !migrated.status.success() {
        let reason = String::from_utf8_lossy(&migrated.stderr).into_owned();
        return Err(HarnessError::Failed { what: "runnel migrate", reason });
    }
    let (pepper, context) = (secret(folder, "pepper")?, secret(folder, "context")?);
    let start = |service: &'static str, rest: &[&str]| {
        let arguments = [&[service, "--context-key-file", &context][..], rest].concat();
        Process::start_with(binary, &arguments, extra)
    };
    let store = |rest: &[&'static str]| [&["--postgres-no-migration"][..], rest].concat();
    let of_ingest = ["--postgres", &ingest, "--postgres-compaction", &compaction, "--postgres-query", &query];
    let ingest = start("ingest", &[&store(&[])[..], &of_ingest[..]].concat())?;
    let of_funnel = ["--postgres", &query, "--postgres-admin", &admin];
    let funnel = start("funnel", &[&store(&[])[..], &of_funnel[..]].concat())?;
    let segmentation = start("segmentation", &[&store(&[])[..], &of_funnel[..], hot].concat())?;
    let of_gateway = [
        "--postgres",
        &admin,
        "--pepper-file",
        &pepper,
        "--ingest",
        &ingest.endpoint,
        "--funnel",
        &funnel.endpoint,
        "--segmentation",
        &segmentation.endpoint,
    ];
    let gateway = start("gateway", &[&store(&[])[..], &of_gateway[..], hot].concat())?;
    processes.extend([
        ("ingest", ingest),
        ("funnel", funnel),
        ("segmentation", segmentation),
        ("gateway", gateway),
    ]);
    Ok(())
}
