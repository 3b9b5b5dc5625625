//! Listens and serves until told to stop, then drains.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tower::Service;

use crate::Upstream;

/// How long open calls may take to finish once the server is stopping.
const DRAIN: Duration = Duration::from_secs(20);

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
    /// The connection layer failed.
    #[error("the server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Opens the listening socket.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Serves on a socket until `stop` is done, then lets open calls finish for a while.
pub async fn serve(
    listener: TcpListener,
    service: Upstream,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let fallback = tower::service_fn(move |request: http::Request<_>| {
        let mut service = service.clone();
        async move { service.call(request.map(tonic::body::Body::new)).await }
    });
    let routes = Routes::from(axum::Router::new().fallback_service(fallback));
    let (stopping, mut stopped) = tokio::sync::watch::channel(false);
    // Without this every small answer waits for the peer's delayed acknowledgement, some 40 ms.
    let incoming =
        TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(60)));
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_adaptive_window(Some(true))
        .max_concurrent_streams(Some(256))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            drop(stopped.wait_for(|stopping| *stopping).await);
        });
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
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

/// Done when the process is asked to stop: Ctrl-C or SIGTERM. Both are listened for from the call on, not only from the first poll: who says that it is ready may
/// be asked to stop at once.
pub fn asked_to_stop() -> impl Future<Output = ()> {
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
