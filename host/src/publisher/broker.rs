//! Sends straight to a broker.
//!
//! It keeps nothing: when the broker cannot be reached, the caller is told.

use std::sync::Arc;

use async_trait::async_trait;

use super::Publisher;
use crate::backend::{Backend, Outgoing, PublishError, Receipt};
use crate::broker::{Broker, BuildError};
use crate::config::Config;

/// A publisher to a broker. A message counts as sent when it is as durable as that broker makes it.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::{BackendPublisher, Publisher};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = BackendPublisher::new(Arc::new(MemoryBackend::new()));
/// let receipt = publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// assert_eq!(receipt.queues, 0); // it waits in its topic until a queue is bound to it
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BackendPublisher {
    backend: Arc<dyn Backend>,
    /// Keeps a broker open that was opened for this.
    _broker: Option<Arc<Broker>>,
}

impl BackendPublisher {
    /// A publisher to this broker, which stays open when the publisher ends.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            _broker: None,
        }
    }

    /// A publisher to the broker that a configuration names.
    ///
    /// # Errors
    /// When that broker cannot be opened.
    pub async fn from_config(config: &Config) -> Result<Self, BuildError> {
        Ok(Self::of(Broker::open(config).await?))
    }

    pub(super) fn of(broker: Arc<Broker>) -> Self {
        Self {
            backend: broker.backend().clone(),
            _broker: Some(broker),
        }
    }
}

#[async_trait]
impl Publisher for BackendPublisher {
    async fn send_batch(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        self.backend.publish(batch).await
    }
}
