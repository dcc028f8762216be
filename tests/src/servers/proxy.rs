//! A way to a server on this machine that can go dead, and lose a client in the middle of what it is told to look for.
//!
//! It understands nothing that passes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// A listener on the loopback address that passes on to another one. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// Connections with a lesser number are dead.
    dead: Arc<watch::Sender<u64>>,
    made: watch::Receiver<u64>,
    closed: Arc<AtomicBool>,
    trap: Arc<watch::Sender<Option<Trap>>>,
    task: JoinHandle<()>,
}

/// A client is lost at the bytes `at`, once it has said `after`. The server keeps its end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Trap {
    /// What it has to say before.
    pub after: &'static str,
    /// Where it is lost.
    pub at: &'static str,
    /// Whether the server still gets these bytes.
    pub passed_on: bool,
}

/// What both directions of a connection know.
#[derive(Debug, Clone)]
struct Way {
    number: u64,
    dead: watch::Receiver<u64>,
    trap: Arc<watch::Sender<Option<Trap>>>,
    /// The client is lost.
    lost: CancellationToken,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let dead = Arc::new(watch::Sender::new(0));
        let (counter, made) = watch::channel(0);
        let closed = Arc::new(AtomicBool::new(false));
        let trap = Arc::new(watch::Sender::new(None));
        let server = Server {
            to,
            dead: dead.clone(),
            made: counter,
            closed: closed.clone(),
            trap: trap.clone(),
        };
        let task = tokio::spawn(server.run(listener));
        Ok(Self {
            address,
            dead,
            made,
            closed,
            trap,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        *self.made.borrow()
    }

    /// Loses the next client that gets there, one only.
    pub fn set(&self, trap: Trap) {
        self.trap.send_replace(Some(trap));
    }

    /// Waits until a client was lost.
    pub async fn lost(&self) {
        // The sender lives as long as this.
        self.trap.subscribe().wait_for(Option::is_none).await.ok();
    }

    /// Whether new connections are refused.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::SeqCst);
    }

    /// Lets nothing more through on the connections that there are. New ones work.
    pub fn blackhole(&self) {
        self.dead.send_replace(self.connections());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Server {
    to: SocketAddr,
    dead: Arc<watch::Sender<u64>>,
    made: watch::Sender<u64>,
    closed: Arc<AtomicBool>,
    trap: Arc<watch::Sender<Option<Trap>>>,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            if self.closed.load(Ordering::SeqCst) {
                continue;
            }
            let number = *self.made.borrow();
            self.made.send_replace(number + 1);
            let Ok(server) = TcpStream::connect(self.to).await else {
                continue;
            };
            let (client, server) = (client.into_split(), server.into_split());
            let way = Way {
                number,
                dead: self.dead.subscribe(),
                trap: self.trap.clone(),
                lost: CancellationToken::new(),
            };
            connections.spawn(pass(client.0, server.1, way.clone(), true));
            connections.spawn(pass(server.0, client.1, way, false));
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: Way, asks: bool) {
    let mut buffer = vec![0; 64 << 10];
    let mut said = false;
    loop {
        let number = way.number;
        let read = tokio::select! {
            biased;
            gone = way.dead.wait_for(|dead| number < *dead) => {
                drop(gone);
                None
            }
            () = way.lost.cancelled() => None,
            read = from.read(&mut buffer) => Some(read),
        };
        let Some(read) = read else {
            // The connection stays open, but for the end of a client that is lost.
            if way.lost.is_cancelled() && !asks {
                drop(to);
            }
            return std::future::pending().await;
        };
        let Ok(count @ 1..) = read else { return };
        let bytes = &buffer[..count];
        if asks
            && way
                .caught(bytes, &mut said)
                .is_some_and(|passed_on| !passed_on)
        {
            continue;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

impl Way {
    /// Whether the client is lost here, and whether its bytes are passed on all the same.
    fn caught(&self, bytes: &[u8], said: &mut bool) -> Option<bool> {
        let trap = (*self.trap.borrow())?;
        *said = *said || holds(bytes, trap.after);
        let mine = *said
            && holds(bytes, trap.at)
            && self.trap.send_if_modified(|trap| trap.take().is_some());
        if !mine {
            return None;
        }
        self.lost.cancel();
        Some(trap.passed_on)
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}
