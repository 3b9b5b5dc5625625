//! Hot state: what is true at this moment, and may be lost at any moment.
//!
//! It never decides what is stored, never says that something was seen already, and is never summed into an exact answer: whoever reads it knows from its
//! markers what it covers, and goes back to journal and blocks where that is not enough. It lies in this process or on Redis, one server or a cluster.
//!
//! Keys are made from a tenant ([`key`]), so that no answer can be another tenant's; every key expires. Commands go over one connection a node, each with a
//! deadline, behind a circuit that opens when a node does not answer ([`node`], [`breaker`]). Nothing here waits long, whatever state Redis is in.

mod address;
mod breaker;
mod bucket;
mod budgets;
mod cluster;
mod error;
mod key;
mod node;
mod process;
mod script;
mod servers;
mod sessions;

use std::{fmt, sync::Arc, time::Duration};

use runnel_model::TenantName;
use tokio::time::Instant;

pub use address::HotAddressError;
pub use budgets::{Budgets, Charge, OverBudget};
pub use error::{HotError, Unsuitable};
pub use sessions::{Claim, Holder, Seen, Sessions, ShardCount, Step, VisitorKey};

use self::{address::Address, process::Process, servers::Servers};

/// Hot state. Clones share it.
#[derive(Clone)]
pub struct Hot {
    backend: Arc<Backend>,
}

/// Where hot state lies.
#[derive(Debug)]
enum Backend {
    /// In this process.
    Process(Process),
    /// On Redis.
    Servers(Servers),
}

/// How hot state on Redis is used.
#[derive(Clone)]
pub struct HotOptions {
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS, `redis+cluster://HOST:PORT,HOST:PORT` or `rediss+cluster://` for a cluster, of
    /// which some nodes are enough. TLS trusts the certificates that the system trusts, or those in the file that `SSL_CERT_FILE` names.
    pub url: String,
    /// How long a command may take.
    pub deadline: Duration,
    /// Work with servers that throw away what they hold when their memory is full. Answers stay exact; more of them are slow.
    pub allow_eviction: bool,
}

impl HotOptions {
    /// An address, with everything else as usual.
    #[must_use]
    pub fn new(url: String) -> HotOptions {
        HotOptions { url, deadline: DEADLINE, allow_eviction: false }
    }

    /// Whether the address is one.
    pub fn check(&self) -> Result<(), HotAddressError> {
        Address::parse(&self.url).map(drop)
    }
}

impl fmt::Debug for HotOptions {
    /// Addresses hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotOptions")
            .field("deadline", &self.deadline)
            .field("allow_eviction", &self.allow_eviction)
            .finish_non_exhaustive()
    }
}

/// Why hot state on Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HotOpenError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] HotAddressError),
    /// A server is not set up for this.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
    /// A server does not let this program in.
    #[error("the hot store at {at} does not let this program in")]
    Refused {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: redis::RedisError,
    },
    /// The connection could not be prepared.
    #[error("a connection to the hot store could not be prepared")]
    Client(#[source] redis::RedisError),
}

/// A rate limit: a bucket that holds up to `burst` tokens and gets `rate` of them a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    rate: u64,
    burst: u64,
}

impl Limit {
    /// The most of either.
    pub(crate) const MOST: u64 = 1_000_000_000_000;

    /// A limit; either number is at least 1 and at most a million million.
    #[must_use]
    pub fn new(rate: u64, burst: u64) -> Limit {
        Limit { rate: rate.clamp(1, Limit::MOST), burst: burst.clamp(1, Limit::MOST) }
    }

    /// Tokens a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Most tokens at once.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }
}

/// Tokens taken from a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// How many, at most as many as were wanted.
    pub granted: u64,
    /// In how many milliseconds the rest will be there if nobody else takes it; of more than a full bucket holds, a full bucket.
    pub wait_ms: u64,
    /// How many processes leased from the bucket within the last minute, with this one.
    pub sharers: u64,
}

/// How long a command may take if nothing else is said.
const DEADLINE: Duration = Duration::from_millis(50);
/// How long opening waits for servers. They may come later.
const OPENING: Duration = Duration::from_secs(2);

impl Hot {
    /// Hot state in this process.
    #[must_use]
    pub fn process() -> Hot {
        Hot { backend: Arc::new(Backend::Process(Process::default())) }
    }

    /// Hot state on Redis. Servers that evict, are too old, or refuse the password are refused. Servers that do not answer are not: hot state may be lost at
    /// any moment, also at this one. They are used as soon as they answer.
    pub async fn open(options: &HotOptions) -> Result<Hot, HotOpenError> {
        let address = Address::parse(&options.url)?;
        let shown = format!("{:?}", address.nodes);
        let servers = Servers::new(address, options.deadline, options.allow_eviction);
        let servers = servers.map_err(HotOpenError::Client)?;
        match servers.connect(Instant::now() + OPENING).await {
            Ok(()) => {}
            Err(HotError::Unsuitable(why)) => return Err(why.into()),
            Err(HotError::Refused { at, source }) if keeps_out(&source) => {
                return Err(HotOpenError::Refused { at, source });
            }
            Err(error) => {
                tracing::warn!(at = shown, %error, "the hot store does not answer; starting without it");
            }
        }
        Ok(Hot { backend: Arc::new(Backend::Servers(servers)) })
    }

    /// Whether it lies in this process.
    #[must_use]
    pub fn is_process(&self) -> bool {
        matches!(&*self.backend, Backend::Process(_))
    }

    /// Whether calls are turned away at the moment because it, or a part of it, does not answer.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match &*self.backend {
            Backend::Process(_) => false,
            Backend::Servers(servers) => servers.is_away(),
        }
    }

    /// How often it failed since it was opened.
    #[must_use]
    pub fn failures(&self) -> u64 {
        match &*self.backend {
            Backend::Process(_) => 0,
            Backend::Servers(servers) => servers.failures(),
        }
    }

    /// Takes up to `want` tokens from a tenant's bucket. A bucket that is not known is full. Time that goes back counts as standing still.
    pub async fn lease(
        &self,
        tenant: &TenantName,
        kind: &'static str,
        want: u64,
        limit: Limit,
        now_ms: i64,
    ) -> Result<Lease, HotError> {
        match &*self.backend {
            Backend::Process(process) => Ok(process.lease(tenant, kind, want, limit, now_ms)),
            Backend::Servers(servers) => servers.lease(tenant, kind, want, limit, now_ms).await,
        }
    }

    /// The open sessions of a tenant, which is told from others of its name by when it was created, and from what it was before somebody was erased by the version
    /// of its erasures.
    #[must_use]
    pub fn sessions(&self, tenant: &TenantName, created_ms: i64, erasure: u64) -> Sessions {
        Sessions::new(self.clone(), tenant, created_ms, erasure)
    }
}

/// Whether a server said that this program may not come in, which does not change by itself.
fn keeps_out(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

impl fmt::Debug for Hot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.backend {
            Backend::Process(_) => f.write_str("Hot(process)"),
            Backend::Servers(servers) => f.debug_tuple("Hot").field(servers).finish(),
        }
    }
}
