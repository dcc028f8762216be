//! Puts a publisher together: the seed's `BrokerPublisherBuilder`.
//!
//! It sends nothing itself.

use std::sync::Arc;

use super::{BackendPublisher, Publisher, QueuedOptions, QueuedPublisher};
use crate::backend::{Backend, QueueName};
use crate::broker::{Broker, BuildError};
use crate::config::Config;

/// What a publisher should be.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::PublisherBuilder;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Arc::new(MemoryBackend::new());
/// let publisher = PublisherBuilder::new()
///     .with_backend(broker)
///     .with_queue(Arc::new(MemoryBackend::new()), "outbox".parse()?)
///     .build()
///     .await?;
/// publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct PublisherBuilder {
    config: Option<Config>,
    backend: Option<Arc<dyn Backend>>,
    queue: Option<(Arc<dyn Backend>, QueueName)>,
    queued: Option<QueuedOptions>,
}

impl PublisherBuilder {
    /// Without a broker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same as `new().with_config(config)`.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self::new().with_config(config)
    }

    /// Sends to the broker that the configuration names, unless a backend is given.
    #[must_use]
    pub fn with_config(mut self, config: &Config) -> Self {
        self.config = Some(config.clone());
        self
    }

    /// Sends to this broker.
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Keeps messages in this queue until they are forwarded.
    #[must_use]
    pub fn with_queue(mut self, backend: Arc<dyn Backend>, name: QueueName) -> Self {
        self.queue = Some((backend, name));
        self
    }

    /// Keeps messages in an outbox until they are forwarded: in the one of [`with_queue`](Self::with_queue), or else in
    /// the queue `GROUP.outbox` of the configuration's own broker.
    #[must_use]
    pub fn queued(mut self, options: QueuedOptions) -> Self {
        self.queued = Some(options);
        self
    }

    /// Opens what must be opened.
    ///
    /// # Errors
    /// [`BuildError`], with what to do about it.
    pub async fn build(mut self) -> Result<Arc<dyn Publisher>, BuildError> {
        let target = match self.backend.take() {
            Some(backend) => BackendPublisher::new(backend),
            None => BackendPublisher::of(open(self.config.as_ref()).await?),
        };
        let mut kept_open = None;
        let (backend, name) = match (self.queue, &self.queued) {
            (Some(queue), _) => queue,
            (None, None) => return Ok(Arc::new(target)),
            (None, Some(_)) => {
                let config = self.config.as_ref().ok_or(BuildError::NoQueue)?;
                let broker = Broker::open(config).await?;
                let name = format!("{}.outbox", config.group.value).parse()?;
                (kept_open.insert(broker).backend().clone(), name)
            }
        };
        let options = self.queued.unwrap_or_default();
        let queued = QueuedPublisher::start(Arc::new(target), backend, name, options).await?;
        Ok(Arc::new(queued.keeping_open(kept_open)))
    }
}

async fn open(config: Option<&Config>) -> Result<Arc<Broker>, BuildError> {
    Broker::open(config.ok_or(BuildError::NoBroker)?).await
}
