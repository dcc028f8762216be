//! Remembers what was sent, for tests: the seed's `InMemoryBrokerPublisher`.
//!
//! Nobody receives it; for a broker in memory take [`MemoryBackend`](crate::backend::MemoryBackend).

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::Publisher;
use crate::backend::{Outgoing, PublishError, Receipt};
use crate::message::Message;

/// A publisher whose messages can be looked at.
///
/// ```
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::{MemoryPublisher, Publisher};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = MemoryPublisher::new();
/// publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// assert_eq!(publisher.messages().len(), 1);
/// assert_eq!(publisher.messages()[0].topic.as_str(), "user.created");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MemoryPublisher {
    sent: Mutex<Vec<Outgoing>>,
}

impl MemoryPublisher {
    /// One that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was sent, in order.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        let sent = self.sent();
        sent.iter()
            .map(|outgoing| outgoing.message.clone())
            .collect()
    }

    /// Takes what was sent, with where it was to go.
    #[must_use]
    pub fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.sent())
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Outgoing>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn send_batch(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let results = batch.iter().map(|_| Ok(Receipt { queues: 1 })).collect();
        self.sent().extend(batch);
        results
    }
}
