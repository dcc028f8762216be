//! A client of HTTP that sends whatever a test wants, also what no client would send.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::PATIENCE;

/// What was answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status; 0 if the connection was closed without a word.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What follows them.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A connection that gives up after [`PATIENCE`].
///
/// # Panics
/// When nobody listens.
#[must_use]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks for a path, with these headers beside those that are needed.
///
/// # Panics
/// When there is no answer.
#[must_use]
pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let more = headers.iter();
    let more: String = more
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    raw(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{more}\r\n"),
    )
}

/// Sends these bytes and reads to the end.
///
/// # Panics
/// When the end does not come.
#[must_use]
pub fn raw(address: SocketAddr, request: &str) -> Response {
    let mut stream = connect(address);
    // It may be closed before everything is written; what was answered is there all the same.
    stream.write_all(request.as_bytes()).ok();
    read(&mut stream)
}

/// Reads an answer to the end of the connection.
///
/// # Panics
/// When the end does not come.
#[must_use]
pub fn read(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let waited = matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        );
        assert!(!waited, "no end within {PATIENCE:?}");
    }
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Response {
        status: status.unwrap_or(0),
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

/// Asks until an answer is as it should be, and returns it.
///
/// # Panics
/// When none is.
#[expect(
    clippy::disallowed_methods,
    reason = "no runtime has this thread, and a host that is asked all the time refuses to answer"
)]
pub fn until(
    address: SocketAddr,
    path: &str,
    what: &str,
    fulfilled: impl Fn(&Response) -> bool,
) -> Response {
    let mut last = None;
    // Far longer than anything takes; each answer is asked for anew.
    for _ in 0..600 {
        let response = get(address, path, &[]);
        if fulfilled(&response) {
            return response;
        }
        last = Some(response);
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("never {what}: {last:?}");
}
