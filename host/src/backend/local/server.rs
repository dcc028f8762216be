//! The owner's side of the socket: accepts connections as long as its guard lives.
//!
//! What happens on a connection is in [`super::session`].

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::socket::{self, NAME, SocketFile};
use super::{GRACE, MAX_CONNECTIONS, session};
use crate::backend::{Backend, BackendError};
use crate::store::Store;

/// How long to wait when no connection can be accepted, for lack of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the processes that connect. When it is dropped, the socket is removed, connections end in the background,
/// and what they held goes back to its queues.
#[derive(Debug)]
pub struct Server {
    stop: DropGuard,
    file: SocketFile,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Ends all connections and waits until their requests have ended, for a bounded time.
    pub async fn close(self) {
        let Self {
            stop,
            file,
            mut accepting,
        } = self;
        drop((stop, file));
        // Requests, queues to delete and answers on their way have that long each.
        if tokio::time::timeout(4 * GRACE, &mut accepting)
            .await
            .is_err()
        {
            tracing::warn!("local connections didn't end in time; they are cut off");
            accepting.abort();
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) store: Arc<dyn Store>,
    pub(super) steward: Option<Arc<dyn Steward>>,
}

/// Answers what is asked of the host and not of its broker. What is said is not known here.
#[async_trait]
pub trait Steward: Send + Sync + fmt::Debug {
    /// The answer to a question, both as text.
    async fn ask(&self, question: &str) -> String;
}

/// Lets other processes use a backend and its store through the socket of a data folder. Only the owner of the folder
/// may call this, once; a socket that is there already is taken for that of an owner that was killed.
///
/// # Errors
/// [`BackendError::Unavailable`] when the socket cannot be made.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn serve(
    dir: &Path,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
) -> Result<Server, BackendError> {
    serve_host(dir, backend, store, None)
}

/// The same for a host, with somebody who answers for it.
///
/// # Errors
/// As [`serve`].
///
/// # Panics
/// As [`serve`].
pub fn serve_host(
    dir: &Path,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    steward: Option<Arc<dyn Steward>>,
) -> Result<Server, BackendError> {
    let (listener, file) = socket::listen(dir).map_err(|error| {
        let path = dir.join(NAME);
        BackendError::Unavailable(format!(
            "the local socket `{}` cannot be made: {error}; use a data folder on a local file system that you may write",
            path.display()
        ))
    })?;
    let stop = CancellationToken::new();
    let owner = Arc::new(Owner {
        backend,
        store,
        steward,
    });
    let accepting = tokio::spawn(accept(listener, owner, stop.clone()));
    Ok(Server {
        stop: stop.drop_guard(),
        file,
        accepting,
    })
}

/// Accepts until it is stopped, then waits for the connections to end.
async fn accept(listener: UnixListener, owner: Arc<Owner>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = next(&listener, &slots) => match accepted {
                Ok((stream, slot)) => {
                    let (owner, stop) = (owner.clone(), stop.child_token());
                    connections.spawn(async move {
                        session::run(stream, owner, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a local connection cannot be accepted; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// The slot is taken before the connection, so that more of them wait in the kernel.
async fn next(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a local connection ended by a defect; the others go on");
    }
}
