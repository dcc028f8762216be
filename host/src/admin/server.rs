//! Connections: so many at once, each for so long, and no longer for a request than a request takes.
//!
//! What is answered is not decided here.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;

/// Connections at once.
const MOST: usize = 64;
/// How long a client may take to send a request, and may say nothing before the next one.
const SEND: Duration = Duration::from_secs(5);
/// How long a connection is used at most; a request that was begun by then has [`SEND`] for its end.
const LIFE: Duration = Duration::from_secs(60);
/// Headers of a request.
const HEADERS: usize = 64;
/// What is read of a request at most; more is refused without a word of ours.
const BUFFER: usize = 16 * 1024;
/// How long nobody is let in when the system has no more room for connections.
const BREATH: Duration = Duration::from_millis(200);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 103\r\n\r\n{\"error\": \"64 connections are open already\", \"remedy\": \"ask again in a moment, and close connections\"}\n";

/// Answers whoever connects.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(MOST));
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for /livez, /readyz or /metrics cannot be taken");
                sleep(BREATH).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        match room.clone().try_acquire_owned() {
            Ok(permit) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(permit);
                });
            }
            // It has room for that much, or is gone.
            Err(_) => drop(stream.try_write(FULL)),
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move {
            let answer = shared.answer(&request, local).await;
            Ok::<_, Infallible>(answer.into_response())
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(SEND)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // However it ends, the one who asked knows better than anybody here.
    let ended = timeout(LIFE, connection.as_mut()).await;
    if ended.is_err() {
        connection.as_mut().graceful_shutdown();
        drop(timeout(SEND, connection).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_finds_no_room_is_told_so_in_one_piece() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert!(body.contains(&MOST.to_string()));
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
