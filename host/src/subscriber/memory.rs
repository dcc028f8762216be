//! Gives the messages that a test made: the seed's `InMemoryBrokerSubscriber`.
//!
//! It ends when there are no more; for messages that are published later subscribe to a
//! [`MemoryBackend`](crate::backend::MemoryBackend).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BackendSubscriber, Received, Subscriber};
use crate::backend::{Backend as _, BackendError, MemoryBackend, Outgoing, QueueName, QueueSpec};
use crate::message::Message;
use crate::store::{DeadLetter, Store as _};
use crate::topic::Pattern;

/// A subscription to a list of messages, with everything that is true of others too: what is dropped comes again.
///
/// ```
/// use sandbar::message::{Message, Payload};
/// use sandbar::subscriber::{MemorySubscriber, Subscriber};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let messages = ["user.created", "order.created"].map(|topic| Message::new(topic.parse().unwrap(), Payload::default()));
/// let mut subscriber = MemorySubscriber::new(vec!["user.*".parse()?], messages).await?;
/// let message = subscriber.next().await.expect("one of the two has a topic of ours");
/// message.ack().await?;
/// assert!(subscriber.next().await.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemorySubscriber {
    inner: BackendSubscriber,
    backend: Arc<MemoryBackend>,
}

impl MemorySubscriber {
    /// Subscribed to these topics, with those of the messages that fit.
    ///
    /// # Errors
    /// When there are more than a queue in memory holds.
    pub async fn new(
        topics: Vec<Pattern>,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<Self, BackendError> {
        let backend = Arc::new(MemoryBackend::new());
        let name: QueueName = "messages".parse()?;
        let spec = QueueSpec::new(name, topics.clone());
        let inner = BackendSubscriber::subscribe(backend.clone(), spec).await?;
        let fits = |message: &Message| topics.iter().any(|topic| topic.matches(&message.topic));
        let messages = messages.into_iter().filter(fits).map(Outgoing::new);
        for result in backend.publish(messages.collect()).await {
            result.map_err(|error| BackendError::Invalid(error.to_string()))?;
        }
        Ok(Self { inner, backend })
    }

    /// What became a dead letter, the newest first.
    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        // Memory can always be read.
        let letters = self.backend.dead_letters(usize::MAX).await;
        letters.unwrap_or_default()
    }
}

#[async_trait]
impl Subscriber for MemorySubscriber {
    fn topics(&self) -> &[Pattern] {
        self.inner.topics()
    }

    /// [`BackendError::Closed`] when none is ready.
    async fn receive_batch(&mut self, max: usize) -> Result<Vec<Received>, BackendError> {
        match self.inner.ready(max, Duration::ZERO).await? {
            none if none.is_empty() => Err(BackendError::Closed),
            received => Ok(received),
        }
    }
}
