//! Clients that are shared one after the other: the seed's `BrokerClientPool`.
//!
//! It knows nothing of what a client does; it only sees to it that no client is used by two at once, and that nobody
//! gets one with the replies of somebody else.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::Client;
use crate::backend::{Backend, BackendError};
use crate::broker::{Broker, BuildError};
use crate::config::Config;
use crate::topic::TopicName;

/// Up to so many clients of one broker, each with a topic of its own.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::client::{ClientPool, PoolOptions};
/// use sandbar::message::{Message, Payload};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ClientPool::new(Arc::new(MemoryBackend::new()), PoolOptions { maxsize: 1 });
/// {
///     let client = pool.acquire().await?;
///     client.send(Message::new("user.get".parse()?, Payload::text("7")).into()).await?;
/// } // given back
/// let again = pool.acquire().await?;
/// assert_eq!(pool.in_use(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ClientPool {
    shared: Arc<Shared>,
    /// Keeps a broker open that was opened for this.
    _broker: Option<Arc<Broker>>,
}

/// What can be chosen about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// How many clients there are at most; more callers wait. At least 1.
    pub maxsize: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { maxsize: 5 }
    }
}

#[derive(Debug)]
struct Shared {
    backend: Arc<dyn Backend>,
    /// Fair: who waits longest is next.
    places: Arc<Semaphore>,
    maxsize: usize,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    idle: Vec<Arc<Client>>,
    /// Not to be used again, and to be closed by the next one who comes by.
    retired: Vec<Arc<Client>>,
}

/// A client of a pool. Dropping it gives it back.
#[derive(Debug)]
pub struct PooledClient {
    client: Arc<Client>,
    shared: Arc<Shared>,
    /// Given back after the client, so that the next one finds it.
    _place: OwnedSemaphorePermit,
}

impl ClientPool {
    /// A pool without clients yet; they are made when they are needed.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, options: PoolOptions) -> Self {
        let maxsize = options.maxsize.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                backend,
                places: Arc::new(Semaphore::new(maxsize)),
                maxsize,
                clients: Mutex::default(),
            }),
            _broker: None,
        }
    }

    /// A pool of clients of the broker that a configuration names, as large as its `[client]` says.
    ///
    /// # Errors
    /// [`BuildError`], with what to do about it.
    pub async fn from_config(config: &Config) -> Result<Self, BuildError> {
        let broker = Broker::open(config).await?;
        let pool = Self::new(broker.backend().clone(), config.client_pool);
        Ok(Self {
            _broker: Some(broker),
            ..pool
        })
    }

    /// Waits for a client that nobody else uses. Who came first is served first.
    ///
    /// # Errors
    /// [`BackendError::Closed`] when the pool is closed; what the broker says when a client cannot be made.
    pub async fn acquire(&self) -> Result<PooledClient, BackendError> {
        let place = self.shared.places.clone().acquire_owned().await;
        let place = place.map_err(|_| BackendError::Closed)?;
        self.shared.tidy().await;
        let idle = self.shared.clients().idle.pop();
        let client = match idle {
            Some(client) if client.is_closed() => {
                self.shared.clients().retired.push(client);
                self.shared.make().await?
            }
            Some(client) => client,
            None => self.shared.make().await?,
        };
        Ok(PooledClient {
            client,
            shared: self.shared.clone(),
            _place: place,
        })
    }

    /// How many clients are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let free = self.shared.places.available_permits();
        self.shared.maxsize.saturating_sub(free)
    }

    /// Refuses everybody who waits or comes later, and closes the clients that nobody uses. The others end when they are
    /// dropped.
    pub async fn close(&self) {
        self.shared.places.close();
        {
            let mut clients = self.shared.clients();
            let idle = std::mem::take(&mut clients.idle);
            clients.retired.extend(idle);
        }
        self.shared.tidy().await;
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self) -> Result<Arc<Client>, BackendError> {
        // Of a reply that comes when its client has gone nothing is kept.
        let topic = format!("_reply.{}", Uuid::now_v7().simple());
        let topic: TopicName = topic
            .parse()
            .map_err(|error| BackendError::Invalid(format!("{error}")))?;
        let client = Client::connect_as(self.backend.clone(), topic).await?;
        Ok(Arc::new(client))
    }

    async fn tidy(&self) {
        let retired = std::mem::take(&mut self.clients().retired);
        for client in retired {
            client.close().await;
        }
    }

    fn take_back(&self, client: Arc<Client>) {
        let usable = !client.is_closed() && !client.owes_replies() && !self.places.is_closed();
        let mut clients = self.clients();
        if usable {
            clients.idle.push(client);
        } else {
            clients.retired.push(client);
        }
    }
}

impl Deref for PooledClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for PooledClient {
    fn drop(&mut self) {
        self.shared.take_back(self.client.clone());
    }
}
