//! A way to a server on this machine that can go dead: connections stay open, and nothing comes through any more.
//!
//! It looks at nothing that passes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A listener on the loopback address that passes on to another one. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// Connections with a lesser number are dead.
    dead: Arc<watch::Sender<u64>>,
    made: watch::Receiver<u64>,
    task: JoinHandle<()>,
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
        let task = tokio::spawn(serve(listener, to, dead.clone(), counter));
        Ok(Self {
            address,
            dead,
            made,
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

async fn serve(
    listener: TcpListener,
    to: SocketAddr,
    dead: Arc<watch::Sender<u64>>,
    made: watch::Sender<u64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = *made.borrow();
        made.send_replace(number + 1);
        let Ok(server) = TcpStream::connect(to).await else {
            continue;
        };
        let (client, server) = (client.into_split(), server.into_split());
        connections.spawn(pass(client.0, server.1, number, dead.subscribe()));
        connections.spawn(pass(server.0, client.1, number, dead.subscribe()));
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut dead: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            biased;
            gone = dead.wait_for(|dead| number < *dead) => {
                drop(gone);
                None
            }
            read = from.read(&mut buffer) => Some(read),
        };
        match read {
            // Its connections stay open.
            None => return std::future::pending().await,
            Some(Ok(count)) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
    }
}
