//! Where a command works: on a running server, or on a data folder that it opens itself.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use runnel_chassis::{Clock, Upstream};
use runnel_client::{Client, endpoint};
use runnel_model::TenantName;
use tonic::body::Body;
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::node::{Node, NodeOptions};

/// Where a command works.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// A running server, for example http://127.0.0.1:7070.
    #[arg(long, env = "RUNNEL_ENDPOINT", conflicts_with = "data_dir")]
    pub endpoint: Option<String>,
    /// The key for the server.
    #[arg(long, env = "RUNNEL_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// A data folder to open in this process instead. Not while a server has it open.
    #[arg(long, env = "RUNNEL_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The tenant, with --data-dir; a server knows it from the key.
    #[arg(long, env = "RUNNEL_TENANT")]
    pub tenant: Option<String>,
}

/// What calls travel over.
pub type Wire =
    BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Box<dyn std::error::Error + Send + Sync>>;

/// A client and, where the command opened a data folder, what it opened.
#[derive(Debug)]
pub struct Target {
    /// The client.
    pub client: Client<Wire>,
    /// The node and the tenant.
    pub local: Option<(Node, TenantName)>,
}

/// A client over services of this process.
pub fn over(service: Upstream) -> anyhow::Result<Client<Wire>> {
    Ok(Client::over(BoxCloneSyncService::new(service.map_err(|never| match never {})), "local")?)
}

impl TargetArgs {
    /// Connects to the server or opens the data folder. `create` makes a tenant that is not there.
    pub async fn open(&self, create: bool) -> anyhow::Result<Target> {
        match (&self.endpoint, &self.data_dir) {
            (Some(server), None) => {
                let Some(key) = &self.key else {
                    bail!("a server needs a key: add --key or set RUNNEL_KEY; runnel keys create makes one")
                };
                let channel = endpoint(server)?.connect().await;
                let channel = channel.with_context(|| {
                    format!("no server answers at {server}: is it running, and is the port right?")
                })?;
                let wire = BoxCloneSyncService::new(channel.map_err(Into::into));
                Ok(Target { client: Client::over(wire, key)?, local: None })
            }
            (None, Some(dir)) => {
                let Some(tenant) = &self.tenant else {
                    bail!("a data folder holds many tenants: say which with --tenant")
                };
                let tenant = TenantName::parse(tenant)?;
                if !create && !dir.join("runnel.db").exists() {
                    bail!(
                        "there is no data in {}; runnel import or runnel serve makes a data folder",
                        dir.display()
                    )
                }
                let node = Node::open(dir, NodeOptions::default(), Clock::default()).await?;
                if create {
                    node.ensure_tenant(&tenant).await?;
                } else if node.store().get_tenant(&tenant).await?.is_none() {
                    node.close().await;
                    bail!("there is no tenant {tenant} in {}", dir.display())
                }
                Ok(Target { client: over(node.trusted(&tenant))?, local: Some((node, tenant)) })
            }
            (Some(_), Some(_)) => bail!("say either --endpoint or --data-dir, not both"),
            (None, None) => bail!(
                "say where to work: --endpoint URL --key KEY for a server, or --data-dir DIR --tenant NAME for a folder"
            ),
        }
    }
}

impl Target {
    /// Closes what was opened.
    pub async fn close(self) {
        drop(self.client);
        if let Some((node, _)) = self.local {
            node.close().await;
        }
    }
}
