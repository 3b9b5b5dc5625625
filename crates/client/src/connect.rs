//! Connections over the network.

use std::time::Duration;

use tonic::transport::Endpoint;

use crate::KeyError;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not an address.
    #[error("an endpoint looks like http://host:port; {0:?} does not")]
    Endpoint(String),
    /// TLS is asked for.
    #[error(
        "this client speaks plain HTTP/2 only: write http:// instead of https:// in {0:?}, or connect through a proxy that ends TLS"
    )]
    Tls(String),
    /// The key cannot be sent.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nobody answers.
    #[error("no server answers at {endpoint}: is it running, and is the port right?")]
    Unreachable {
        /// The address that was tried.
        endpoint: String,
        /// What the network said.
        source: tonic::transport::Error,
    },
}

/// The settings of a connection: `http://host:port`, or only `host:port`.
///
/// Keep-alives are on, also while idle: without them a connection over a network that silently went away would stay stuck.
pub fn endpoint(text: &str) -> Result<Endpoint, ConnectError> {
    let text = text.trim();
    if text.starts_with("https://") {
        return Err(ConnectError::Tls(text.to_owned()));
    }
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = || ConnectError::Endpoint(text.to_owned());
    let uri: http::Uri = full.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    let endpoint = Endpoint::from_shared(full).map_err(|_| wrong())?;
    Ok(endpoint
        .user_agent(concat!("runnel-rust/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| wrong())?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_or_without_scheme() {
        for good in ["http://127.0.0.1:7070", "127.0.0.1:7070", "localhost:1", "http://[::1]:7070"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "http://", "ftp://host:1", "a b"] {
            assert!(matches!(endpoint(bad), Err(ConnectError::Endpoint(_))), "{bad}");
        }
        assert!(matches!(endpoint("https://host"), Err(ConnectError::Tls(_))));
    }
}
