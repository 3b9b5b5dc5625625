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
    serve::{GATEWAY_AHEAD, GATEWAY_ALL_AHEAD},
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
    /// Whether the files can be read as they are now.
    pub fn check(&self) -> std::io::Result<()> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        for file in identity.chain([&self.authorities]) {
            let named = |fault: std::io::Error| {
                std::io::Error::new(
                    fault.kind(),
                    format!("the file {} cannot be read: {fault}", file.display()),
                )
            };
            std::fs::read(file).map_err(named)?;
        }
        Ok(())
    }

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
        let (host, port, tls) = Network::read(address, tls)?;
        let (peers, changed) = (Mutex::default(), tokio::sync::Notify::new());
        let pool = Arc::new(Pool { name, host, port, tls, peers, changed });
        tokio::spawn(follow(Arc::downgrade(&pool)));
        Ok(Network { pool })
    }

    /// Whether an address is one that can be used.
    pub fn check(address: &str, tls: Option<PeerTls>) -> Result<(), AddressError> {
        Network::read(address, tls).map(drop)
    }

    /// Host, port and TLS of an address.
    fn read(address: &str, tls: Option<PeerTls>) -> Result<(String, u16, Option<PeerTls>), AddressError> {
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
        Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port, tls))
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
        .initial_stream_window_size(GATEWAY_AHEAD)
        .initial_connection_window_size(GATEWAY_ALL_AHEAD))
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
                Err(error) => Ok(match What::of(&error) {
                    What::TimeOver => {
                        let text = "The call's time was over before it was done; whether it was carried out is unknown.";
                        Status::from(Refusal::new(Reason::DeadlinePassed, text)).into_http()
                    }
                    What::Call => {
                        tracing::debug!(error = causes(&error), %address, "a call was cut off");
                        gone(pool.name, "The call was cut off; whether it was carried out is unknown.")
                    }
                    What::Connection => {
                        pool.reconnect(address, &error);
                        gone(
                            pool.name,
                            "The connection was lost; whether the call was carried out is unknown.",
                        )
                    }
                }),
            }
        };
        Box::pin(sent.instrument(span))
    }
}

/// What a failed call tells of. Only a lost connection concerns the other calls on it.
enum What {
    TimeOver,
    Call,
    Connection,
}

impl What {
    fn of(error: &tonic::transport::Error) -> What {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        for cause in causes {
            if cause.is::<tonic::TimeoutExpired>() {
                return What::TimeOver;
            }
            if cause.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset) {
                return What::Call;
            }
        }
        What::Connection
    }
}

fn gone(name: &str, what: &str) -> Response<Body> {
    let refusal =
        Refusal::new(Reason::ServiceUnavailable, format!("The {name} service does not answer. {what}"));
    Status::from(refusal.retry_after(Duration::from_secs(1))).into_http()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use runnel_model::TenantName;
    use tokio::{sync::oneshot, task::JoinHandle};
    use tonic::Code;

    use super::*;
    use crate::{
        Caller, ContextSigner,
        seal::Seal,
        serve::{self, ServeOptions, listen},
    };

    /// A process: it answers with its number, keeps what it was told of the time that is left, and rests when it is asked to.
    struct Process {
        address: SocketAddr,
        told: Arc<Mutex<Vec<HeaderMap>>>,
        stop: oneshot::Sender<()>,
        serving: JoinHandle<()>,
    }

    impl Process {
        async fn start(number: &'static str) -> Process {
            let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let address = listener.local_addr().unwrap();
            let told = Arc::new(Mutex::new(Vec::new()));
            let keep = told.clone();
            let service = Upstream::from_fn(move |request: Request<Body>| {
                let keep = keep.clone();
                async move {
                    keep.lock().unwrap().push(request.headers().clone());
                    if request.uri().path() == "/rest" {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                    let mut response = Status::ok("").into_http();
                    response.headers_mut().insert("process", number.parse().unwrap());
                    response
                }
            });
            let options = ServeOptions { gateways: true, ..ServeOptions::default() };
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(async move {
                serve::serve(listener, service, options, async { drop(stopped.await) }).await.unwrap();
            });
            Process { address, told, stop, serving }
        }
    }

    /// The service whose name has these addresses.
    fn network(addresses: &[SocketAddr]) -> Network {
        let (peers, changed) = (Mutex::default(), tokio::sync::Notify::new());
        let pool = Pool { name: "test", host: "none".to_owned(), port: 1, tls: None, peers, changed };
        let network = Network { pool: Arc::new(pool) };
        found(&network, addresses);
        network
    }

    fn found(network: &Network, addresses: &[SocketAddr]) {
        for address in network.pool.replace(addresses) {
            tokio::spawn(connect(Arc::downgrade(&network.pool), address));
        }
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    }

    fn connected(network: &Network) -> usize {
        network.pool.peers().values().flatten().count()
    }

    async fn call(network: &Network, path: &str, timeout: &str, tenant: &str, body: Body) -> Response<Body> {
        let mut request = Request::post(path).version(http::Version::HTTP_2).body(body).unwrap();
        let signer = ContextSigner::new(Seal::new([7; 32]));
        let caller = Caller { tenant: TenantName::parse(tenant).unwrap(), key_id: "k".to_owned() };
        signer.sign(&caller, 1, request.headers_mut());
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        network.clone().upstream().answer(request).await
    }

    async fn answered_by(network: &Network, tenant: &str) -> String {
        let response = call(network, "/answer", "10S", tenant, Body::empty()).await;
        response.headers().get("process").map_or_else(String::new, |at| at.to_str().unwrap().to_owned())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_tenant_stays_with_its_process_until_that_is_gone() {
        let (first, second) = (Process::start("1").await, Process::start("2").await);
        let network = network(&[first.address, second.address]);
        until(|| connected(&network) == 2).await;
        let tenants: Vec<String> = (0..40).map(|number| format!("tenant-{number}")).collect();
        let mut homes = Vec::new();
        for tenant in &tenants {
            homes.push(answered_by(&network, tenant).await);
            assert_eq!(answered_by(&network, tenant).await, homes[homes.len() - 1]);
        }
        let of_the_first = homes.iter().filter(|home| *home == "1").count();
        assert!((5..=35).contains(&of_the_first), "{of_the_first} of 40");

        first.stop.send(()).unwrap();
        first.serving.await.unwrap();
        // A call that was sent when the process went is not sent again; the next one goes to the other process. Those of the other never notice.
        for (tenant, home) in tenants.iter().zip(&homes) {
            let mut by = answered_by(&network, tenant).await;
            while home == "1" && by.is_empty() {
                by = answered_by(&network, tenant).await;
            }
            assert_eq!(by, "2");
        }

        // A name that has a third process and the second no more.
        let third = Process::start("3").await;
        found(&network, &[third.address]);
        until(|| connected(&network) == 1).await;
        for tenant in &tenants {
            assert_eq!(answered_by(&network, tenant).await, "3");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_fails_takes_the_connection_from_no_other() {
        let process = Process::start("1").await;
        let network = network(&[process.address]);
        until(|| connected(&network) == 1).await;
        let late = call(&network, "/rest", "50m", "shop", Body::empty()).await;
        // Whichever of the two notices first.
        let code = Status::from_header_map(late.headers()).unwrap().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
        assert_eq!(
            process.told.lock().unwrap()[0]["grpc-timeout"],
            "50m",
            "the time that is left goes along"
        );
        for _ in 0..3 {
            let broken: Result<Frame<Bytes>, Status> = Err(Status::internal("the client sent nonsense"));
            let body = Body::new(StreamBody::new(tokio_stream::iter([broken])));
            let cut = call(&network, "/rest", "10S", "shop", body).await;
            assert_eq!(Status::from_header_map(cut.headers()).unwrap().code(), Code::Unavailable);
            assert_eq!(connected(&network), 1);
        }
        assert_eq!(answered_by(&network, "shop").await, "1");
    }
}
