//! Everything in one process: the store, the services over it and the edge in front of them.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use runnel_chassis::{
    Caller, Clock, ContextSigner, Metrics, Observe, Upstream,
    observe::causes,
    seal::{NoRandomness, Seal, random},
};
use runnel_gateway::{Edge, EdgeOptions, Keys, Routes};
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_model::TenantName;
use runnel_segmentation::{Segmentation, SegmentationOptions};
use runnel_storage::{
    CompactOptions, CreateTenantError, EmbeddedOptions, KeyRecord, OpenError, Store, Unavailable,
};
use tokio::task::JoinHandle;
use tower::Layer;

use crate::parts;

/// How often a start asks a database again that does not answer, and after which pause.
const STARTS: u32 = 20;
const STARTS_APART: Duration = Duration::from_millis(500);

/// What keeps a node from starting.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The pepper's file cannot be read or made.
    #[error("the file {path} cannot be used: {source}")]
    Pepper {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The pepper's file does not hold 32 bytes.
    #[error(
        "the file {0} is damaged: it must hold 32 bytes; without the right one no key of this data folder works"
    )]
    PepperDamaged(String),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// A tenant could not be made.
    #[error(transparent)]
    Tenant(#[from] CreateTenantError),
    /// Something else.
    #[error("{0}")]
    Start(String),
}

/// How a node is built.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// The store's settings.
    pub store: EmbeddedOptions,
    /// The journeys' settings.
    pub journeys: JourneysOptions,
    /// The edge's settings. Where it counts, all hot state is.
    pub edge: EdgeOptions,
    /// When compaction acts.
    pub compaction: CompactOptions,
    /// Answer reflection.
    pub reflection: bool,
    /// What answers health; without it, one that always serves.
    pub health: Option<Upstream>,
    /// What everything is measured with.
    pub metrics: Metrics,
}

/// The services of one process.
#[derive(Debug)]
pub struct Node {
    store: Store,
    keys: Keys,
    journeys: Journeys,
    segmentation: Segmentation,
    edge: Edge,
    clock: Clock,
    metrics: Metrics,
    compaction: JoinHandle<()>,
    retention: JoinHandle<()>,
}

impl Node {
    /// Opens a data folder and wires the services over it.
    pub async fn open(dir: &Path, options: NodeOptions, clock: Clock) -> Result<Node, NodeError> {
        let store = Store::open_embedded(dir, options.store.clone()).await?;
        Node::over(store, pepper(dir)?, options, clock).await
    }

    /// Wires the services over a store. `pepper` is the secret that its keys are hashed with.
    pub async fn over(
        store: Store,
        pepper: Seal,
        options: NodeOptions,
        clock: Clock,
    ) -> Result<Node, NodeError> {
        let signer = ContextSigner::new(Seal::generate()?);
        let keys = Keys::new(store.clone(), pepper);
        let journeys = Journeys::new(store.clone(), options.journeys)
            .map_err(|fault| NodeError::Start(fault.to_string()))?;
        let metrics = options.metrics;
        let hot = options.edge.hot.clone();
        parts::watch_hot(&hot, &metrics);
        parts::watch_journeys(&journeys, &metrics);
        let segmentation = Segmentation::new(
            journeys.clone(),
            hot,
            signer.clone(),
            clock.clone(),
            metrics.clone(),
            SegmentationOptions::default(),
        );
        let ingest = parts::ingest(store.clone(), signer.clone(), clock.clone(), &metrics);
        let visitors = parts::segmentation(&segmentation, &metrics);
        let routes = Routes {
            effects: parts::effects(
                ingest.clone(),
                visitors.clone(),
                signer.clone(),
                clock.clone(),
                &metrics,
            ),
            ingest,
            funnel: parts::funnel(journeys.clone(), signer.clone(), clock.clone(), &metrics),
            segmentation: visitors,
            admin: parts::admin(store.clone(), keys.clone(), signer.clone(), clock.clone()),
            health: match options.health {
                Some(health) => health,
                None => parts::health().await.1,
            },
            reflection: if options.reflection { Some(parts::reflection()?) } else { None },
        };
        let compaction = tokio::spawn(runnel_ingest::compact::run(
            store.clone(),
            clock.clone(),
            options.compaction,
            metrics.clone(),
        ));
        let retention = tokio::spawn(runnel_funnel::retain(journeys.clone(), clock.clone()));
        let edge = Edge::new(routes, keys.clone(), signer, clock.clone(), &metrics, options.edge);
        Ok(Node { store, keys, journeys, segmentation, edge, clock, metrics, compaction, retention })
    }

    /// What listens on a socket.
    #[must_use]
    pub fn edge(&self) -> Upstream {
        Upstream::new(Observe::new("gateway", &self.metrics).layer(self.edge.service()))
    }

    /// A way in for a command that opened the data folder itself: who can read the folder needs no key.
    #[must_use]
    pub fn trusted(&self, tenant: &TenantName) -> Upstream {
        let caller = Caller { tenant: tenant.clone(), key_id: "local".to_owned() };
        Upstream::new(Observe::new("gateway", &self.metrics).layer(self.edge.trusting(caller)))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The journeys in memory.
    #[must_use]
    pub fn journeys(&self) -> &Journeys {
        &self.journeys
    }

    /// What everything is measured with.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes a tenant unless it is there.
    pub async fn ensure_tenant(&self, tenant: &TenantName) -> Result<(), NodeError> {
        match self.store.create_tenant(tenant, self.clock.now_ms()).await {
            Ok(_) | Err(CreateTenantError::AlreadyExists(_)) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The operator's first admin key, if it was made just now.
    pub async fn first_operator_key(&self) -> Result<Option<String>, NodeError> {
        first_operator_key(&self.store, &self.keys, &self.clock).await
    }

    /// Compacts a tenant to the end, so that a command that ends now leaves blocks behind rather than a journal.
    pub async fn settle(&self, tenant: &TenantName) {
        let options = CompactOptions { force: true, ..CompactOptions::default() };
        if let Err(fault) = self.store.compact(tenant, options, self.clock.now_ms()).await {
            tracing::warn!(fault = causes(&fault), "the journal was left as it is");
        }
    }

    /// Ends the streams of what is watched once the process is asked to stop; for whoever serves this node until then.
    pub(crate) fn end_watching_when_stopping(&self) -> JoinHandle<()> {
        tokio::spawn(parts::end_watching_when_stopping(self.segmentation.clone()))
    }

    /// Stops what goes on in the background and closes the store.
    pub async fn close(self) {
        for task in [self.compaction, self.retention] {
            task.abort();
            drop(task.await);
        }
        self.segmentation.close().await;
        self.store.close().await;
    }
}

/// The operator's first admin key, if it was made just now, and here: others may start at the same time.
pub(crate) async fn first_operator_key(
    store: &Store,
    keys: &Keys,
    clock: &Clock,
) -> Result<Option<String>, NodeError> {
    let operator = TenantName::operator();
    if !keys_at_start(store, &operator).await?.is_empty() {
        return Ok(None);
    }
    let made = keys.create_first(clock.now_ms()).await;
    made.map(|key| key.map(|key| key.reveal().to_owned()))
        .map_err(|refusal| NodeError::Start(refusal.to_string()))
}

/// Keys, as the first question of a start: whoever starts while many others do waits for a database that has too much to do.
async fn keys_at_start(store: &Store, tenant: &TenantName) -> Result<Vec<KeyRecord>, Unavailable> {
    for _ in 0..STARTS {
        match store.list_keys(tenant).await {
            Err(Unavailable::Database(fault)) => {
                tracing::warn!(%fault, "the database does not answer yet; asking again");
                tokio::time::sleep(STARTS_APART).await;
            }
            keys => return keys,
        }
    }
    store.list_keys(tenant).await
}

/// The secret that keys are hashed with. It lies beside the store, readable by its owner only, and is not part of a copy of the database.
fn pepper(dir: &Path) -> Result<Seal, NodeError> {
    let path = dir.join("pepper");
    let shown = path.display().to_string();
    let fault = |source| NodeError::Pepper { path: shown.clone(), source };
    if path.exists() {
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(64).read_to_end(&mut bytes)).map_err(fault)?;
        return Ok(Seal::new(bytes.try_into().map_err(|_| NodeError::PepperDamaged(shown.clone()))?));
    }
    let secret = random::<32>()?;
    let fresh = dir.join("pepper.new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&fresh)
        .and_then(|mut file| file.write_all(&secret).and_then(|()| file.sync_all()))
        .map_err(fault)?;
    fs::rename(&fresh, &path).map_err(fault)?;
    Ok(Seal::new(secret))
}
