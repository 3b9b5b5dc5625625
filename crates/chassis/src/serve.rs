//! Listens and serves until told to stop, then drains.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{either::Either, sync::CancellationToken};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tower::Layer;

use crate::{
    Upstream,
    connection::{Connection, Connections, TAKEN, watched},
    seal::random,
    tls::{Tls, TlsError, TlsFiles},
    upstream::around,
};

/// How long open calls may take to finish once the server is stopping.
const DRAIN: Duration = Duration::from_secs(20);
/// Most connections at a time. Further ones wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// Most calls of a client's connection at a time.
const STREAMS: u32 = 256;
/// Most calls of a gateway's connection at a time, which carries the calls of all tenants. A gateway has no more under way.
pub const GATEWAY_STREAMS: u32 = 6_144;
/// Streams of a connection that may be reset for the peer's faults before it is closed.
const FAULTS: usize = 16_384;
/// Largest headers of a call, in bytes.
const HEADERS: u32 = 16 * 1024;
/// Largest piece of a message that a peer may send, in bytes: larger pieces are less work, smaller ones less memory.
const PIECE: u32 = 64 * 1024;
/// Bytes that a client may send ahead for a call before they are read, and for all calls of a connection. They lie in memory and are in nobody's budget, so that this,
/// times the calls that may be under way, is what they take at most. A message of up to half of it, as of 1,000 events, comes without a word about windows, which costs
/// the gateway least.
const AHEAD: u32 = 512 << 10;
const ALL_AHEAD: u32 = 4 << 20;
/// The same between a gateway and a service, in both directions. Calls that nobody reads from take no room from any other.
pub(crate) const GATEWAY_AHEAD: u32 = 128 << 10;
pub(crate) const GATEWAY_ALL_AHEAD: u32 = GATEWAY_AHEAD * GATEWAY_STREAMS;
/// How old a client's connection gets, so that clients find new processes, and how long the calls that it then has may take. Gateways look for new processes by
/// themselves, and what they carry goes on for as long as it likes.
const AGE: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(60);

/// How a server serves.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Its TLS, if it has any.
    pub tls: Option<TlsFiles>,
    /// Browsers connect: HTTP/1.1 is spoken as well.
    pub browsers: bool,
    /// Only gateways connect: a connection carries the calls of many clients.
    pub gateways: bool,
}

/// What keeps a server from serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another --listen address, or port 0 for a free one"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection layer failed.
    #[error("the server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Opens the listening socket.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// A connection, with or without TLS.
type Stream = Connection<Either<TcpStream, TlsStream<TcpStream>>>;

/// Accepts connections as long as somebody takes them. A peer that is slow to greet keeps nobody waiting.
fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    connections: Connections,
) -> ReceiverStream<io::Result<Stream>> {
    let (sender, receiver) = mpsc::channel(64);
    let (slots, tls) = (Arc::new(Semaphore::new(CONNECTIONS)), tls.map(Arc::new));
    // Without the first every small answer waits for the peer's delayed acknowledgement, some 40 ms.
    let mut incoming =
        TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(60)));
    tokio::spawn(async move {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let stream = tokio::select! {
                stream = incoming.next() => stream,
                () = sender.closed() => None,
            };
            let stream = match stream {
                None => return,
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    // Such as no file descriptor left. The next connection may fare better, a little later.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (sender, connections) = (sender.clone(), connections.clone());
            match &tls {
                None => drop(sender.send(Ok(connections.open(Either::Left(stream), slot))).await),
                Some(tls) => {
                    let tls = Arc::clone(tls);
                    tokio::spawn(async move {
                        match tls.accept(stream).await {
                            Ok(stream) => {
                                drop(sender.send(Ok(connections.open(Either::Right(stream), slot))).await)
                            }
                            Err(error) => tracing::debug!(%error, "a peer was not let in"),
                        }
                    });
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// An age between four and six fifths of [`AGE`], so that the clients of many processes do not all connect anew at once.
fn age() -> Duration {
    let spread = random::<2>().map_or(0, u16::from_le_bytes);
    AGE * 4 / 5 + AGE * 2 / 5 * u32::from(spread) / u32::from(u16::MAX)
}

/// Serves on a socket until `stop` is done, then lets open calls finish for a while.
pub async fn serve(
    listener: TcpListener,
    service: Upstream,
    options: ServeOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let tls = options.tls.map(|files| Tls::open(files, options.browsers)).transpose()?;
    let connections = Connections::default();
    let service = around((), watched).layer(service);
    let fallback = tower::service_fn(move |request: http::Request<_>| {
        let answering = service.answer(request.map(tonic::body::Body::new));
        async move { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    let routes = Routes::from(axum::Router::new().fallback_service(fallback));
    let (stopping, mut stopped) = tokio::sync::watch::channel(false);
    let (streams, ahead, all_ahead) = match options.gateways {
        true => (GATEWAY_STREAMS, GATEWAY_AHEAD, GATEWAY_ALL_AHEAD),
        false => (STREAMS, AHEAD, ALL_AHEAD),
    };
    let age = (!options.gateways).then(age);
    let server = Server::builder()
        .accept_http1(options.browsers)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_max_header_list_size(Some(HEADERS))
        .max_frame_size(Some(PIECE))
        .initial_stream_window_size(Some(ahead))
        .initial_connection_window_size(Some(all_ahead))
        .max_concurrent_streams(Some(streams))
        .http2_max_local_error_reset_streams(Some(FAULTS));
    // With a grace of its own the server would not announce the end and cut every call. The longest age is kept by who watches connections.
    let mut server = match age {
        Some(age) => server.max_connection_age(age),
        None => server,
    };
    let server = server.add_routes(routes).serve_with_incoming_shutdown(
        accept(listener, tls, connections.clone()),
        async move {
            drop(stopped.wait_for(|stopping| *stopping).await);
        },
    );
    let watching = connections.watch(age.map(|age| age + GRACE), (!options.gateways).then_some(TAKEN));
    tokio::pin!(server);
    tokio::pin!(watching);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = &mut watching => {}
        () = stop => drop(stopping.send(true)),
    }
    match tokio::time::timeout(DRAIN, server).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            tracing::warn!("open calls did not finish in time and were cut");
            Ok(())
        }
    }
}

/// Done when the process is asked to stop: Ctrl-C or SIGTERM. Both are listened for from the first call on, and what was asked once is known to whoever calls later:
/// between two steps of a start nothing is missed.
pub fn asked_to_stop() -> impl Future<Output = ()> {
    static ASKED: LazyLock<CancellationToken> = LazyLock::new(|| {
        let (asked, signals) = (CancellationToken::new(), signals());
        tokio::spawn({
            let asked = asked.clone();
            async move {
                signals.await;
                asked.cancel();
            }
        });
        asked
    });
    ASKED.clone().cancelled_owned()
}

/// Done at the next signal. Listens from the call on, not only from the first poll.
fn signals() -> impl Future<Output = ()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        async move {
            match (interrupt, terminate) {
                (Ok(mut interrupt), Ok(mut terminate)) => {
                    tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
                }
                _ => drop(tokio::signal::ctrl_c().await),
            }
        }
    }
    #[cfg(not(unix))]
    async {
        drop(tokio::signal::ctrl_c().await);
    }
}
