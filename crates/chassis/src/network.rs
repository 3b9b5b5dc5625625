//! A service in other processes: their addresses by DNS, one process for a tenant as long as it answers.
//!
//! Every call goes to the connected process whose number, drawn from the tenant and the process's address, is the highest (rendezvous hashing): a tenant's
//! journeys are then in one process's memory, and when processes come and go only the tenants of those move. A process that cannot be reached has no
//! connection and is passed over. A call that was not sent because its connection was gone goes to another process; one that was sent is never sent again here,
//! because it may have been carried out.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use runnel_contracts::refusal::{Reason, Refusal};
use tonic::{
    Status,
    body::Body,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tower::{Service, ServiceExt};
use tracing::{Instrument, Span, field::Empty};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Upstream,
    context::tenant_of,
    observe::{causes, inject},
};

/// How often names are looked up again.
const LOOK_UP: Duration = Duration::from_secs(2);
/// How long one waits for a connection, and rests before trying again.
const CONNECT: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_millis(250);
/// How long a call waits for a first connection, right after start or while all processes are gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// The address of a service cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is written in another way.
    #[error("{0} is no address of a service; it is written http://HOST:PORT or https://HOST:PORT")]
    Malformed(String),
    /// Nothing says whom to believe.
    #[error("{0} is reached by TLS: say by which authorities its certificate may be signed (--peer-ca)")]
    NoAuthorities(String),
}

/// The files of a client's TLS, in PEM. They are read at every connection.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// The authorities that may have signed the certificates of services.
    pub authorities: PathBuf,
    /// Our own certificate and key, for services that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl PeerTls {
    fn read(&self, host: &str) -> std::io::Result<ClientTlsConfig> {
        let mut config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(std::fs::read(&self.authorities)?))
            .domain_name(host);
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(std::fs::read(certificate)?, std::fs::read(key)?));
        }
        Ok(config)
    }
}

/// A service in other processes.
#[derive(Clone, Debug)]
pub struct Network {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    /// What the service is called in refusals.
    name: &'static str,
    host: String,
    port: u16,
    tls: Option<PeerTls>,
    /// The processes, and a channel to each that is connected.
    peers: Mutex<BTreeMap<SocketAddr, Option<Channel>>>,
    changed: tokio::sync::Notify,
}

impl Network {
    /// Looks for the processes behind `http://HOST:PORT` or `https://HOST:PORT`, now and whenever the name's addresses change.
    pub fn new(name: &'static str, address: &str, tls: Option<PeerTls>) -> Result<Network, AddressError> {
        let wrong = || AddressError::Malformed(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(host), Some(port)) = (uri.scheme_str(), uri.host(), uri.port_u16()) else {
            return Err(wrong());
        };
        let tls = match scheme {
            "http" => None,
            "https" => Some(tls.ok_or_else(|| AddressError::NoAuthorities(address.to_owned()))?),
            _ => return Err(wrong()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (peers, changed) = (Mutex::default(), tokio::sync::Notify::new());
        let pool = Arc::new(Pool { name, host, port, tls, peers, changed });
        tokio::spawn(follow(Arc::downgrade(&pool)));
        Ok(Network { pool })
    }

    /// The service as one that calls go to.
    #[must_use]
    pub fn upstream(self) -> Upstream {
        Upstream::new(self)
    }

    /// Whether a process is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.pool.peers().values().any(Option::is_some)
    }
}

impl Pool {
    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Option<Channel>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connected process for a tenant.
    fn choose(&self, tenant: &str) -> Option<(SocketAddr, Channel)> {
        let peers = self.peers();
        let connected = peers.iter().filter_map(|(address, channel)| Some((address, channel.as_ref()?)));
        let chosen = connected.max_by_key(|(address, _)| xxh3_64(format!("{address} {tenant}").as_bytes()));
        chosen.map(|(address, channel)| (*address, channel.clone()))
    }

    /// Waits a while for a connected process.
    async fn channel(&self, tenant: &str) -> Option<(SocketAddr, Channel)> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let changed = self.changed.notified();
            if let Some(chosen) = self.choose(tenant) {
                return Some(chosen);
            }
            tokio::time::timeout_at(deadline, changed).await.ok()?;
        }
    }

    /// Takes the processes that the name has now. Answers those that are new.
    fn replace(&self, found: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut peers = self.peers();
        peers.retain(|address, _| found.contains(address));
        let new: Vec<SocketAddr> =
            found.iter().copied().filter(|address| !peers.contains_key(address)).collect();
        peers.extend(new.iter().map(|address| (*address, None)));
        new
    }

    /// Notes that a process is connected, if the name still has it.
    fn connected(&self, address: SocketAddr, channel: Channel) {
        if let Some(peer) = self.peers().get_mut(&address) {
            *peer = Some(channel);
        }
        self.changed.notify_waiters();
    }

    /// Notes that a connection is lost; the first who does so has it made anew.
    fn reconnect(self: &Arc<Pool>, address: SocketAddr, error: &tonic::transport::Error) {
        if self.peers().get_mut(&address).is_some_and(|peer| peer.take().is_some()) {
            tracing::warn!(error = causes(error), %address, "the connection to a process was lost");
            tokio::spawn(connect(Arc::downgrade(self), address));
        }
    }
}

/// Looks the name up again and again, for as long as somebody calls.
async fn follow(pool: Weak<Pool>) {
    loop {
        let Some((host, port)) = pool.upgrade().map(|pool| (pool.host.clone(), pool.port)) else { return };
        match tokio::net::lookup_host((host.as_str(), port)).await {
            Ok(found) => {
                let found: Vec<SocketAddr> = found.collect();
                let Some(held) = pool.upgrade() else { return };
                for address in held.replace(&found) {
                    tokio::spawn(connect(pool.clone(), address));
                }
            }
            // Those that are known stay.
            Err(error) => tracing::warn!(%error, host, "the name of a service was not found"),
        }
        tokio::time::sleep(LOOK_UP).await;
    }
}

/// How a process is connected to.
fn endpoint(pool: &Pool, address: SocketAddr) -> Result<Endpoint, Box<dyn Error + Send + Sync>> {
    let scheme = if pool.tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?;
    let endpoint = match &pool.tls {
        Some(tls) => endpoint.tls_config(tls.read(&pool.host)?)?,
        None => endpoint,
    };
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20))
}

/// Connects to a process until that works or the name does not have it any more.
async fn connect(pool: Weak<Pool>, address: SocketAddr) {
    loop {
        let Some(endpoint) = pool.upgrade().map(|pool| endpoint(&pool, address)) else { return };
        let connected = match endpoint {
            Ok(endpoint) => endpoint.connect().await.map_err(Into::into),
            Err(error) => Err(error),
        };
        let Some(pool) = pool.upgrade() else { return };
        match connected {
            Ok(channel) => {
                pool.connected(address, channel);
                return;
            }
            Err(error) => {
                tracing::debug!(error = causes(&*error), %address, "a process of a service does not answer");
                if !pool.peers().contains_key(&address) {
                    return;
                }
            }
        }
        drop(pool);
        tokio::time::sleep(REST).await;
    }
}

impl Service<Request<Body>> for Network {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let pool = self.pool.clone();
        let span = tracing::info_span!(
            "send",
            otel.kind = "client",
            rpc.system = "grpc",
            peer.service = pool.name,
            server.address = Empty,
            server.port = Empty
        );
        inject(&span, request.headers_mut());
        let sent = async move {
            let tenant = tenant_of(request.headers()).unwrap_or_default().to_owned();
            // Each round loses a connection, so there is an end to it.
            let (address, mut channel) = loop {
                let Some((address, mut channel)) = pool.channel(&tenant).await else {
                    return Ok(gone(pool.name, "No process of it can be reached."));
                };
                match channel.ready().await {
                    Ok(_) => break (address, channel),
                    Err(error) => pool.reconnect(address, &error),
                }
            };
            let span = Span::current();
            span.record("server.address", address.ip().to_string()).record("server.port", address.port());
            match channel.call(request).await {
                Ok(response) => Ok(response),
                Err(error) => {
                    pool.reconnect(address, &error);
                    Ok(gone(
                        pool.name,
                        "The connection was lost; whether the call was carried out is unknown.",
                    ))
                }
            }
        };
        Box::pin(sent.instrument(span))
    }
}

fn gone(name: &str, what: &str) -> Response<Body> {
    let refusal =
        Refusal::new(Reason::ServiceUnavailable, format!("The {name} service does not answer. {what}"));
    Status::from(refusal.retry_after(Duration::from_secs(1))).into_http()
}
