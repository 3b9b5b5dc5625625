//! TLS for a server: its certificate, and the certificates that clients must have where only certain peers may connect. Files are read again when they change, so
//! that certificates can be renewed without a restart.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long a peer may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The files of a server's TLS, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate and those that it was signed with.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Only clients with a certificate that one of these signed may connect.
    pub client_authorities: Option<PathBuf>,
    /// The name that the clients' certificate must have.
    pub client_name: Option<String>,
}

impl TlsFiles {
    /// Whether a server could use them as they are now.
    pub fn check(&self) -> Result<(), TlsError> {
        Tls::open(self.clone(), false).map(drop)
    }
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the expected kind.
    #[error("the file {path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key are not accepted.
    #[error("certificate {certificate} and key {key} cannot be used together: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("the authorities in {path} cannot be used: {reason}")]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The name is no DNS name.
    #[error("{0} is no name that a certificate can have")]
    Name(String),
    /// The library has not what is asked of it.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// TLS of a server.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    client_name: Option<ServerName<'static>>,
    browsers: bool,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    changed: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Tls {
    /// Reads the files. `browsers`: peers may speak HTTP/1.1.
    pub(crate) fn open(files: TlsFiles, browsers: bool) -> Result<Tls, TlsError> {
        let name =
            |name: &String| ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name.clone()));
        let client_name = files.client_name.as_ref().map(name).transpose()?;
        let current = Current {
            changed: changed(&files),
            config: Arc::new(config(&files, browsers)?),
            looked: Instant::now(),
        };
        Ok(Tls { files, client_name, browsers, current: Mutex::new(current) })
    }

    /// The configuration for the next connection.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() > LOOK {
            current.looked = Instant::now();
            let changed = changed(&self.files);
            if changed != current.changed {
                match config(&self.files, self.browsers) {
                    Ok(config) => {
                        current.config = Arc::new(config);
                        current.changed = changed;
                    }
                    // Perhaps not all files are there yet.
                    Err(error) => tracing::warn!(%error, "the renewed certificate is not used"),
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Greets a peer and finds out whether it may connect.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let greeted = TlsAcceptor::from(self.config()).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE, greeted).await.map_err(io::Error::from)??;
        if let Some(name) = &self.client_name {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let named = certificate.is_some_and(|certificate| {
                webpki::EndEntityCert::try_from(certificate)
                    .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
            });
            if !named {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the peer's certificate has another name",
                ));
            }
        }
        Ok(stream)
    }
}

/// When the files were changed last.
fn changed(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let files = [Some(&files.certificate), Some(&files.key), files.client_authorities.as_ref()];
    let changed = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    files.into_iter().flatten().map(changed).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |source| TlsError::File { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)
}

fn config(files: &TlsFiles, browsers: bool) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = match &files.client_authorities {
        // Services among themselves speak the newest version only.
        Some(path) => {
            let fault = |reason: String| TlsError::Authorities { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| fault(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| fault(error.to_string()))?;
            let builder =
                builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(TlsError::Setup)?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::File { path: files.key.clone(), source })?;
    let mut config = builder.with_single_cert(certificates(&files.certificate)?, key).map_err(|source| {
        TlsError::Pair { certificate: files.certificate.clone(), key: files.key.clone(), source }
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if browsers {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    Ok(config)
}
