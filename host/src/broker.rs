//! The broker that a configuration names, opened once for everything in this process that asks for it.
//!
//! Its own, or that of the process that has it. What is done with it is up to [`crate::client`], [`crate::publisher`] and
//! [`crate::subscriber`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use tokio::sync::Mutex;

use crate::backend::local::{Server, serve};
use crate::backend::{
    Backend, BackendError, BrokerOptions, OpenDataError, OpenError, Opened, OpenedData, find,
};
use crate::config::Config;
use crate::store::{Store, StoreError};

/// A broker in use. Its folder is free when the last one who has it drops or [closes](Self::close) it.
///
/// Everything that is made `from_config` shares it, so a publisher and a subscriber of one configuration meet. The
/// owner of a data folder also serves it to other processes, such as `sandbar send`.
///
/// ```
/// use sandbar::broker::Broker;
/// use sandbar::config::{Config, Flags, Options};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let flags = Flags { data: Some(folder.path().join("data")), ..Flags::default() };
/// let config = Config::load(Options { flags, ..Options::default() })?;
/// let broker = Broker::open(&config).await?;
/// let same = Broker::open(&config).await?;
/// assert!(std::sync::Arc::ptr_eq(&broker, &same));
/// drop(same);
/// broker.close().await; // dropping it frees the folder as well; what was confirmed is on disk either way
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Broker {
    // First, so that nobody gets in any more when the rest goes.
    server: Option<Server>,
    opened: Opened,
}

/// Brokers in use.
static OPEN: LazyLock<Mutex<Vec<InUse>>> = LazyLock::new(Mutex::default);

/// A broker in use, and what it was opened with.
#[derive(Debug)]
struct InUse {
    data: PathBuf,
    options: BrokerOptions,
    broker: Weak<Broker>,
}

impl Broker {
    /// Opens the broker that a configuration names, or returns the one that is open already. One that lives in the
    /// process of its host is that of a running host, or else this process is its host.
    ///
    /// # Errors
    /// [`BuildError`], with what to do about it.
    pub async fn open(config: &Config) -> Result<Arc<Self>, BuildError> {
        let (data, options) = (&config.data.value, &config.broker);
        let data = std::path::absolute(data).unwrap_or_else(|_| data.clone());
        let mut open = OPEN.lock().await;
        open.retain(|known| known.broker.strong_count() > 0);
        let same = |known: &&InUse| known.data == data && known.options == *options;
        if let Some(broker) = open
            .iter()
            .find(same)
            .and_then(|known| known.broker.upgrade())
            && broker.usable().await
        {
            return Ok(broker);
        }
        let broker = Arc::new(Self::connect(options, &data).await?);
        open.retain(|known| !same(&known));
        open.push(InUse {
            data,
            options: options.clone(),
            broker: Arc::downgrade(&broker),
        });
        Ok(broker)
    }

    async fn connect(options: &BrokerOptions, data: &Path) -> Result<Self, BuildError> {
        let (opened, owner) = match find(options, data).await {
            Ok(OpenedData {
                backend,
                store,
                owner,
            }) => (Opened { backend, store }, owner),
            Err(OpenDataError::Nobody { .. }) => {
                std::fs::create_dir_all(data).map_err(|error| OpenError::Other {
                    path: data.to_owned(),
                    reason: error.to_string(),
                })?;
                (options.open(data).await?, true)
            }
            Err(error) => return Err(error.into()),
        };
        let server = match owner {
            true => Some(serve(data, opened.backend.clone(), opened.store.clone())?),
            false => None,
        };
        Ok(Self { server, opened })
    }

    /// The broker itself.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.opened.backend
    }

    /// The store that commits with it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.opened.store
    }

    /// Both, as a [`Handler`](crate::handler::Handler) takes them.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Ends everything that waits, and returns when all that was accepted is written. While others still have the
    /// broker it stays open, and the last one of them ends it.
    pub async fn close(self: Arc<Self>) {
        match Arc::into_inner(self) {
            Some(Self { server, opened }) => {
                if let Some(server) = server {
                    server.close().await;
                }
                opened.backend.close().await;
            }
            None => tracing::debug!("the broker stays open, for it is in use elsewhere"),
        }
    }

    /// A broker of our own or of the network recovers from everything but its end; that of another process may have gone
    /// with it.
    async fn usable(&self) -> bool {
        match self.opened.backend.health().await {
            Ok(_) => true,
            Err(BackendError::Closed) => false,
            Err(_) => self.opened.backend.kind() != "local",
        }
    }
}

/// Why a client, a publisher or a subscriber could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Nobody said which broker.
    #[error(
        "no broker was named; give a configuration (`with_config`) or a backend (`with_backend`)"
    )]
    NoBroker,
    /// Messages were to wait in a queue, and nobody said in which.
    #[error(
        "no queue was named for the messages that wait; give one (`with_queue`) or a configuration (`with_config`)"
    )]
    NoQueue,
    /// The broker of the configuration cannot be used.
    #[error(transparent)]
    Open(#[from] OpenDataError),
    /// A broker of our own cannot be opened.
    #[error(transparent)]
    Own(#[from] OpenError),
    /// A subscriber without topics.
    #[error("no topic was named; a subscriber needs at least one (`with_topics`)")]
    NoTopics,
    /// The broker refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
