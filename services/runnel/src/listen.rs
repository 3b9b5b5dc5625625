//! Where a process listens and whom it lets in, where its services are, and what the edge allows.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use runnel_chassis::{Network, network::PeerTls, serve::ServeOptions, tls::TlsFiles};
use runnel_gateway::{Allowances, EdgeOptions, Origins};
use runnel_storage::Hot;

use crate::mistakes::Mistakes;

/// Where to listen.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListenArgs {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, env = "RUNNEL_LISTEN", default_value = "127.0.0.1:7070")]
    pub(crate) listen: SocketAddr,
    /// A file with the server's certificate and those that signed it, in PEM. With it, only TLS is spoken. Renewed files are taken without a restart.
    #[arg(long, env = "RUNNEL_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A file with the certificate's private key, in PEM.
    #[arg(long, env = "RUNNEL_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Only clients may connect whose certificate was signed by an authority in this file.
    #[arg(long, env = "RUNNEL_TLS_CLIENT_CA_FILE", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Only clients may connect whose certificate has this name, such as the gateway's.
    #[arg(long, env = "RUNNEL_TLS_CLIENT_NAME", value_name = "NAME", requires = "tls_client_ca")]
    tls_client_name: Option<String>,
}

impl ListenArgs {
    /// How a server serves whose callers are clients, with browsers among them or without.
    pub(crate) fn for_clients(&self, browsers: bool) -> ServeOptions {
        ServeOptions { tls: self.tls(), browsers, gateways: false }
    }

    /// How a server serves whose callers are gateways.
    pub(crate) fn for_gateways(&self) -> ServeOptions {
        ServeOptions { tls: self.tls(), browsers: false, gateways: true }
    }

    /// Looks for mistakes.
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        if let Some(files) = self.tls() {
            mistakes.look("--tls-cert", files.check());
        }
    }

    fn tls(&self) -> Option<TlsFiles> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_authorities: self.tls_client_ca.clone(),
                client_name: self.tls_client_name.clone(),
            }),
            _ => None,
        }
    }
}

/// How services in other processes are reached.
#[derive(Debug, Clone, Args)]
pub(crate) struct PeerArgs {
    /// The authorities that may have signed the certificates of services, in PEM; for addresses that begin with https.
    #[arg(long, env = "RUNNEL_PEER_CA_FILE", value_name = "FILE")]
    peer_ca: Option<PathBuf>,
    /// Our own certificate for services, in PEM.
    #[arg(long, env = "RUNNEL_PEER_CERT_FILE", value_name = "FILE", requires_all = ["peer_ca", "peer_key"])]
    peer_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "RUNNEL_PEER_KEY_FILE", value_name = "FILE", requires_all = ["peer_ca", "peer_cert"])]
    peer_key: Option<PathBuf>,
}

impl PeerArgs {
    /// Looks for mistakes, of the addresses of services as well.
    pub(crate) fn check(&self, addresses: [(&str, &str); 3], mistakes: &mut Mistakes) {
        if let Some(files) = self.tls() {
            mistakes.look("--peer-ca", files.check());
        }
        for (at, address) in addresses {
            mistakes.look(at, Network::check(address, self.tls()));
        }
    }

    /// The files, if there are any.
    pub(crate) fn tls(&self) -> Option<PeerTls> {
        let identity = self.peer_cert.clone().zip(self.peer_key.clone());
        self.peer_ca.clone().map(|authorities| PeerTls { authorities, identity })
    }
}

/// What the edge allows.
#[derive(Debug, Clone, Args)]
pub(crate) struct EdgeArgs {
    /// Origins whose pages may call by gRPC-Web, such as https://console.example.com, exactly as browsers send them. None by default.
    #[arg(long, env = "RUNNEL_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    allowed_origins: Vec<String>,
    /// Events that each tenant may send in a second, on average; 0 is any number.
    #[arg(long, env = "RUNNEL_TENANT_EVENTS_PER_SECOND", value_name = "N", default_value = "0")]
    tenant_events_per_second: u64,
    /// Bytes that each tenant may send in a second, on average; 0 is any number.
    #[arg(long, env = "RUNNEL_TENANT_BYTES_PER_SECOND", value_name = "N", default_value = "0")]
    tenant_bytes_per_second: u64,
    /// Questions that each tenant may ask in a second, on average; 0 is any number.
    #[arg(long, env = "RUNNEL_TENANT_QUESTIONS_PER_SECOND", value_name = "N", default_value = "0")]
    tenant_questions_per_second: u64,
    /// Megabytes of messages that may be on their way through at a time.
    #[arg(long, env = "RUNNEL_MESSAGES_MB", value_name = "MB", default_value = "256", value_parser = clap::value_parser!(u32).range(16..=65_536))]
    messages_mb: u32,
    /// Answer gRPC reflection, for exploring with tools.
    #[arg(long, env = "RUNNEL_REFLECTION")]
    pub(crate) reflection: bool,
}

impl EdgeArgs {
    /// Looks for mistakes.
    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        for origin in &self.allowed_origins {
            mistakes.look("--allowed-origins", Origins::parse([origin.as_str()]));
        }
    }

    /// Reads them, for an edge that counts in `hot`.
    pub(crate) fn options(&self, hot: Hot) -> anyhow::Result<EdgeOptions> {
        let origins = Origins::parse(self.allowed_origins.iter().map(String::as_str))?;
        let allowances = Allowances {
            events: self.tenant_events_per_second,
            bytes: self.tenant_bytes_per_second,
            questions: self.tenant_questions_per_second,
        };
        Ok(EdgeOptions { origins, allowances, hot, room_bytes: (self.messages_mb as usize) << 20 })
    }
}
