//! A connection to where a request goes: the name is resolved once, its addresses are checked, and one of them is
//! connected to, with TLS where the scheme says so.
//!
//! Knows nothing of HTTP itself. No connection is kept: each request has one of its own, so nothing of one plugin, or of one
//! message, can reach another through it.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::address::may_reach;
use super::target::{Host, Scheme, Target};
use crate::store::{FetchFailure, FetchFailureKind};

/// Opens connections for the requests of plugins.
pub struct Connector {
    /// A file of certificates that are trusted beside those of the system.
    ca: Option<PathBuf>,
    /// Made when it is first needed: reading what the system trusts takes some milliseconds.
    tls: OnceCell<Arc<ClientConfig>>,
    /// Names that are looked up at the moment; the system does that on threads, and does not stop when nobody waits any more.
    lookups: Arc<Semaphore>,
}

/// How many names are looked up at once; more wait.
const LOOKUPS: usize = 32;
/// When an address does not answer for so long, the next one is tried beside it.
const PATIENCE: Duration = Duration::from_millis(250);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("ca", &self.ca).finish()
    }
}

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A name that leads to nothing but what it may not lead to.
#[derive(Debug)]
pub(super) struct Inside(pub(super) SocketAddr);

impl Connector {
    /// One that trusts whom the system trusts and, if there is a file of certificates (PEM), those in it.
    #[must_use]
    pub fn new(ca: Option<PathBuf>) -> Self {
        Self {
            ca,
            tls: OnceCell::new(),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    /// Connects.
    pub(super) async fn connect(
        &self,
        target: &Target,
        private: bool,
    ) -> Result<Result<Box<dyn Stream>, Inside>, FetchFailure> {
        let addresses = match self.resolve(target, private).await? {
            Ok(addresses) => addresses,
            Err(inside) => return Ok(Err(inside)),
        };
        let stream = dial(target, &addresses).await?;
        // A request is a few small writes.
        stream.set_nodelay(true).ok();
        Ok(Ok(match target.scheme {
            Scheme::Http => Box::new(stream),
            Scheme::Https => self.shake_hands(target, stream).await?,
        }))
    }

    /// The addresses of a host that may be connected to.
    async fn resolve(
        &self,
        target: &Target,
        private: bool,
    ) -> Result<Result<Vec<SocketAddr>, Inside>, FetchFailure> {
        let port = target.port;
        let Host::Name(name) = &target.host else {
            let address = target.host.address();
            let address = address.map(|address| SocketAddr::new(address, port));
            return Ok(Ok(address.into_iter().collect()));
        };
        let unknown =
            |why: String| FetchFailure::new(FetchFailureKind::Name, format!("{name}: {why}"));
        let permit = self.lookups.clone().acquire_owned().await;
        let permit = permit.map_err(|error| unknown(error.to_string()))?;
        let asked = name.clone();
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let found = (asked.as_str(), port).to_socket_addrs();
            found.map(Iterator::collect::<Vec<SocketAddr>>)
        });
        let found = found.await.map_err(|error| unknown(error.to_string()))?;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        let may = |found: &SocketAddr| may_reach(&target.host, found.ip(), private);
        let (may, may_not): (Vec<_>, Vec<_>) = found.into_iter().partition(may);
        match may_not.first() {
            Some(inside) if may.is_empty() => Ok(Err(Inside(*inside))),
            None if may.is_empty() => Err(unknown("it has no address".to_owned())),
            _ => Ok(Ok(may)),
        }
    }

    async fn shake_hands(
        &self,
        target: &Target,
        stream: TcpStream,
    ) -> Result<Box<dyn Stream>, FetchFailure> {
        let failed = |error: String| FetchFailure::new(FetchFailureKind::Tls, error);
        let ca = self.ca.clone();
        let made = self.tls.get_or_try_init(|| async {
            let made = tokio::task::spawn_blocking(move || trusting(ca.as_deref()));
            made.await.map_err(|error| error.to_string())?.map(Arc::new)
        });
        let tls = made.await.map_err(failed)?.clone();
        let name = match &target.host {
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|e| failed(e.to_string()))?
            }
            Host::V4(address) => ServerName::IpAddress((*address).into()),
            Host::V6(address) => ServerName::IpAddress((*address).into()),
        };
        let stream = TlsConnector::from(tls).connect(name, stream).await;
        let stream = stream.map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            let kind = match inner {
                Some(rustls::Error::InvalidCertificate(_)) => FetchFailureKind::Certificate,
                _ => FetchFailureKind::Tls,
            };
            FetchFailure::new(kind, format!("no TLS with {}: {error}", target.host))
        })?;
        Ok(Box::new(stream))
    }
}

/// The first address that somebody answers at.
async fn dial(target: &Target, addresses: &[SocketAddr]) -> Result<TcpStream, FetchFailure> {
    let mut dialled = FuturesUnordered::new();
    let mut left = addresses.iter();
    let mut failure = None;
    loop {
        if let Some(address) = left.next() {
            dialled.push(async move { (address, TcpStream::connect(address).await) });
        }
        tokio::select! {
            next = dialled.next() => match next {
                Some((_, Ok(stream))) => return Ok(stream),
                Some((address, Err(error))) => {
                    failure = Some(format!("nobody answers at {address}: {error}"));
                }
                None if left.len() == 0 => break,
                None => {}
            },
            () = sleep(PATIENCE), if left.len() > 0 => {}
        }
    }
    let text = failure.unwrap_or_else(|| format!("{} has no address", target.host));
    Err(FetchFailure::new(FetchFailureKind::Unreachable, text))
}

/// What the system trusts, and what is in the file.
fn trusting(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is one less; without any, nobody is trusted, which is said when it matters.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        roots.add_parsable_certificates(certificates(ca)?);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in a file.
///
/// # Errors
/// When it cannot be read, or has none.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = file.display();
    let found =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(format!(
            "file `{name}` has no certificate; name one with certificates in PEM"
        )),
        Ok(found) => Ok(found),
        Err(error) => Err(format!(
            "file `{name}`: {error}; name one with certificates in PEM"
        )),
    }
}
