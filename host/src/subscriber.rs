//! Receives messages one by one: the seed's `BrokerSubscriber`, its queue, its filters and its builder.
//!
//! [`BackendSubscriber`] receives from a broker, [`FilteredSubscriber`] passes over what filters and validators refuse,
//! [`QueuedSubscriber`] keeps every message in an inbox first, and [`MemorySubscriber`] gives those that a test made.
//! [`SubscriberBuilder`] puts them together. Nothing here finds a handler; a host's own messages go through
//! [`crate::pipeline`], which needs none of this.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::backend::BackendError;
use crate::topic::Pattern;

mod broker;
mod builder;
mod filtered;
mod memory;
mod queued;
mod received;

pub use broker::BackendSubscriber;
pub use builder::SubscriberBuilder;
pub use filtered::FilteredSubscriber;
pub use memory::MemorySubscriber;
pub use queued::QueuedSubscriber;
pub use received::Received;

/// A subscription to topics.
///
/// A message is done when it was [acknowledged](Received::ack), after it was handled; one that is dropped comes again.
///
/// ```
/// use futures_util::StreamExt;
/// use sandbar::message::{Message, Payload};
/// use sandbar::subscriber::{MemorySubscriber, Subscriber};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let messages = ["7", "8"].map(|id| Message::new("user.created".parse().unwrap(), Payload::text(id)));
/// let mut subscriber = MemorySubscriber::new(vec!["user.*".parse()?], messages).await?;
/// drop(subscriber.receive().await?); // it could not be handled
/// while let Some(message) = subscriber.next().await {
///     println!("{} says {:?}", message.topic, message.payload.content);
///     message.ack().await?;
/// }
///
/// // The same as a stream:
/// let messages = [Message::new("user.created".parse()?, Payload::text("9"))];
/// let subscriber = MemorySubscriber::new(vec!["user.*".parse()?], messages).await?;
/// let mut stream = Box::new(subscriber).into_stream();
/// while let Some(message) = stream.next().await {
///     message.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Subscriber: Send + fmt::Debug {
    /// What it subscribes to.
    fn topics(&self) -> &[Pattern];

    /// Waits for messages and takes 1 to `max` of those that are ready, never waiting for a second one. Failures that
    /// pass are survived, not returned. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Why there will be no more: it was closed, or its queue was deleted.
    async fn receive_batch(&mut self, max: usize) -> Result<Vec<Received>, BackendError>;

    /// Waits for the next message. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Why there will be no more.
    async fn receive(&mut self) -> Result<Received, BackendError> {
        loop {
            if let Some(received) = self.receive_batch(1).await?.pop() {
                return Ok(received);
            }
        }
    }

    /// The next message; `None` when there will be no more.
    async fn next(&mut self) -> Option<Received> {
        match self.receive().await {
            Ok(received) => Some(received),
            Err(BackendError::Closed) => None,
            Err(error) => {
                tracing::error!(%error, "the subscription has ended");
                None
            }
        }
    }

    /// What it acknowledged without handing it out, because a filter or a validator refused it.
    fn refused(&self) -> Refused {
        Refused::default()
    }

    /// Ends the subscription and removes what is to be removed with it. What was handed out can still be acknowledged
    /// unless its queue was removed.
    async fn close(&mut self) {}

    /// Its messages as a stream, which ends with the subscription.
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Received>
    where
        Self: 'static,
    {
        let next = |mut subscriber: Box<Self>| async move {
            let received = subscriber.next().await?;
            Some((received, subscriber))
        };
        stream::unfold(self, next).boxed()
    }
}

/// How many messages were refused so far; every clone is the same counter.
#[derive(Debug, Clone, Default)]
pub struct Refused(Arc<AtomicU64>);

impl Refused {
    /// The number.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
