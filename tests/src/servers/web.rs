//! A server of HTTP/1.1 on this machine, which answers well and badly, and remembers what it was asked.
//!
//! By path: `/ok`, `/echo`, `/status/N`, `/big/N` (bytes), `/endless`, `/drip`, `/headers/N`, `/redirect`, `/held` (answered
//! when it is released), `/silent`, `/broken`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const CERTIFICATE: &str = include_str!("rabbitmq/certificate.pem");
const KEY: &str = include_str!("rabbitmq/key.pem");

/// A server; it ends when it is dropped.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// What it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The first line, less the version.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

#[derive(Debug)]
struct Shared {
    asked: Mutex<Vec<Asked>>,
    /// What is held is answered when there is one of these for it.
    released: Semaphore,
    open: AtomicUsize,
}

impl Asked {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found == name)?;
        Some(&found.1)
    }
}

impl Web {
    /// Without TLS.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        Self::with("http", None).await
    }

    /// With TLS, and a certificate for 127.0.0.1 that it has signed itself.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start_tls() -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("its key");
        Self::with("https", Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn with(scheme: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            released: Semaphore::new(0),
            open: AtomicUsize::new(0),
        });
        let serving = tokio::spawn(serve(listener, tls, shared.clone()));
        Self {
            address,
            scheme,
            shared,
            serving,
        }
    }

    /// The file of the certificate, in PEM.
    #[must_use]
    pub fn certificate() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/servers/rabbitmq/certificate.pem")
    }

    /// The port that it listens at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// What it was asked so far.
    ///
    /// # Panics
    /// When a test has panicked meanwhile.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic").clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Answers so many of those that are held, or will be.
    pub fn release(&self, count: usize) {
        self.shared.released.add_permits(count);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            // A client that goes away is one of the cases.
            drop(match tls {
                None => one(stream, &shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => one(stream, &shared).await,
                    Err(error) => Err(error),
                },
            });
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// One request of one connection.
async fn one<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) -> io::Result<()> {
    let asked = read(&mut stream).await?;
    shared.asked.lock().expect("no panic").push(asked.clone());
    let path = asked.line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let number = || path.rsplit('/').next()?.parse::<usize>().ok();
    let number = number().unwrap_or_default();
    match path.split('/').nth(1).unwrap_or_default() {
        "echo" => answer(&mut stream, 200, "", &asked.body).await,
        "status" => answer(&mut stream, number, "", b"as you wish").await,
        "big" => answer(&mut stream, 200, "", &vec![b'x'; number]).await,
        "redirect" => answer(&mut stream, 302, "Location: /ok\r\n", b"").await,
        "headers" => {
            let many: String = (0..number).map(|it| format!("X-{it}: y\r\n")).collect();
            answer(&mut stream, 200, &many, b"").await
        }
        "held" => {
            let released = shared.released.acquire();
            let mut end = [0];
            tokio::select! {
                released = released => released.map_err(io::Error::other)?.forget(),
                // Whoever waits has gone.
                gone = stream.read(&mut end) => return gone.map(drop),
            }
            answer(&mut stream, 200, "", b"at last").await
        }
        "silent" => stream.read(&mut [0]).await.map(drop),
        "broken" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
            stream.write_all(head.as_bytes()).await
        }
        "endless" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let chunk = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        "drip" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(b"1\r\nx\r\n").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        _ => answer(&mut stream, 200, "", b"hello").await,
    }
}

async fn answer<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: usize,
    headers: &str,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await?;
    stream.shutdown().await
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap_or_default();
    let line = line.strip_suffix(" HTTP/1.1").unwrap_or(line).to_owned();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let mut asked = Asked {
        line,
        headers: headers.collect(),
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .and_then(|it| it.parse().ok());
    if let Some(length) = length {
        while body.len() < length {
            if stream.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    } else if asked.header("transfer-encoding") == Some("chunked") {
        body = chunks(stream, body).await?;
    }
    asked.body = body;
    Ok(asked)
}

async fn chunks<S: AsyncRead + Unpin>(stream: &mut S, mut rest: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = rest.windows(2).position(|part| part == b"\r\n");
        let size = size.map(|at| (at, String::from_utf8_lossy(&rest[..at]).into_owned()));
        if let Some((at, size)) = size {
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            if rest.len() >= at + 2 + size + 2 {
                body.extend_from_slice(&rest[at + 2..at + 2 + size]);
                rest.drain(..at + 2 + size + 2);
                if size == 0 {
                    return Ok(body);
                }
                continue;
            }
        }
        if stream.read_buf(&mut rest).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
