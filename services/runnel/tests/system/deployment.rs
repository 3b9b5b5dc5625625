//! The ways in which Runnel is placed: in one process over a folder, in one process over a shared database, and in a process for each service.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use runnel_client::{
    Client,
    proto::admin::v1::{CreateKeyRequest, CreateTenantRequest, KeyKind},
};
use runnel_harness::Postgres;
use tempfile::TempDir;
use tonic::transport::Channel;

/// Where things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// One process, a data folder.
    Folder,
    /// One process, PostgreSQL.
    Shared,
    /// A process for each service, PostgreSQL with a user for each purpose.
    Split,
}

/// A process of ours that listens. Ended when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) endpoint: String,
    /// What it said first.
    said: serde_json::Value,
}

impl Process {
    /// Starts `runnel` with these arguments and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_runnel"))
            .args(arguments)
            .args(["--output", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{arguments:?} said {line:?}"));
        let endpoint = format!("http://{}", said["listening"].as_str().unwrap());
        Process { child, endpoint, said }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Something that calls go to.
pub(crate) struct Deployment {
    /// Where the edge listens.
    pub(crate) endpoint: String,
    operator: String,
    _processes: Vec<Process>,
    _folder: TempDir,
}

impl Deployment {
    /// Starts everything, on empty stores.
    pub(crate) fn start(placement: Placement) -> Deployment {
        let folder = tempfile::tempdir().unwrap();
        let processes = match placement {
            Placement::Folder => {
                let data = folder.path().join("data");
                vec![Process::start(&[
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--data-dir",
                    data.to_str().unwrap(),
                ])]
            }
            Placement::Shared => {
                let database = Postgres::shared().unwrap().database().unwrap();
                let url = Postgres::shared().unwrap().url(&database, "owner");
                let pepper = secret(folder.path(), "pepper");
                let arguments =
                    ["serve", "--listen", "127.0.0.1:0", "--postgres", &url, "--pepper-file", &pepper];
                vec![Process::start(&arguments)]
            }
            Placement::Split => split(folder.path()),
        };
        // The edge is the last.
        let edge = processes.last().unwrap();
        let operator = edge.said["operatorKey"].as_str().unwrap().to_owned();
        Deployment { endpoint: edge.endpoint.clone(), operator, _processes: processes, _folder: folder }
    }

    /// The operator.
    pub(crate) async fn operator(&self) -> Client<Channel> {
        Client::connect(&self.endpoint, &self.operator).await.unwrap()
    }

    /// A new tenant with a write key and a read key.
    pub(crate) async fn tenant(&self, name: &str) -> (String, String) {
        let operator = self.operator().await;
        operator.admin().create_tenant(CreateTenantRequest { name: name.into() }).await.unwrap();
        let key = async |kind: KeyKind| {
            let asked =
                CreateKeyRequest { tenant: name.into(), kind: kind as i32, ..CreateKeyRequest::default() };
            operator.admin().create_key(asked).await.unwrap().into_inner().secret
        };
        (key(KeyKind::Write).await, key(KeyKind::Read).await)
    }
}

/// A file with a secret.
fn secret(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, "5a".repeat(32)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A process for each service. Each has the rights that it needs and no others.
fn split(folder: &Path) -> Vec<Process> {
    let server = Postgres::shared().unwrap();
    let database = server.database().unwrap();
    let [owner, ingest, compaction, query, admin] =
        ["owner", "ingest", "compaction", "query", "admin"].map(|user| server.url(&database, user));
    let migrated = Command::new(env!("CARGO_BIN_EXE_runnel"))
        .args(["migrate", "--postgres", &owner, "--postgres-ingest", &ingest])
        .args(["--postgres-compaction", &compaction, "--postgres-query", &query, "--postgres-admin", &admin])
        .status();
    assert!(migrated.unwrap().success());
    let (pepper, context) = (secret(folder, "pepper"), secret(folder, "context"));
    let common = ["--listen", "127.0.0.1:0", "--context-key-file", &context];
    let store = ["--postgres-no-migration", "--postgres"];
    let start = |service: &str, rest: &[&str]| {
        Process::start(&[&[service][..], &common[..], &store[..], rest].concat())
    };
    let ingest =
        start("ingest", &[&ingest, "--postgres-compaction", &compaction, "--postgres-query", &query]);
    let funnel = start("funnel", &[&query, "--postgres-admin", &admin]);
    let segmentation = Process::start(&[&["segmentation"][..], &common[..]].concat());
    let gateway = start(
        "gateway",
        &[&admin, "--pepper-file", &pepper, "--ingest", &ingest.endpoint, "--funnel", &funnel.endpoint],
    );
    vec![ingest, funnel, segmentation, gateway]
}
