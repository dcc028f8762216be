//! Sends messages: the seed's `BrokerPublisher`, its queue and its builder.
//!
//! [`BackendPublisher`] sends through a broker, [`QueuedPublisher`] keeps every message in an outbox first, and
//! [`MemoryPublisher`] only remembers. [`PublisherBuilder`] puts them together. A publisher waits for no reply (that is
//! [`crate::client`]), and what a handler publishes goes another way, together with the acknowledgement of its message
//! ([`crate::call`]).

use std::fmt;

use async_trait::async_trait;

use crate::backend::{Outgoing, PublishError, Receipt};

mod broker;
mod builder;
mod memory;
mod queued;

pub use broker::BackendPublisher;
pub use builder::PublisherBuilder;
pub use memory::MemoryPublisher;
pub use queued::{QueuedOptions, QueuedPublisher};

/// Something that takes messages and sees to it that they get where they should.
///
/// An implementation says one thing for each message: it was taken, as safely as this publisher promises, or why not.
/// It must be cheap to share behind an [`Arc`](std::sync::Arc) and safe to call from many tasks.
///
/// ```
/// use async_trait::async_trait;
/// use sandbar::backend::{Outgoing, PublishError, Receipt};
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::{MemoryPublisher, Publisher};
///
/// /// Stamps every message before it passes it on.
/// #[derive(Debug)]
/// struct Stamped(MemoryPublisher);
///
/// #[async_trait]
/// impl Publisher for Stamped {
///     async fn send_batch(&self, mut batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
///         for outgoing in &mut batch {
///             // The header is legal, so it cannot be refused.
///             outgoing.message.payload.headers.insert("stamp", "1").ok();
///         }
///         self.0.send_batch(batch).await
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = Stamped(MemoryPublisher::new());
/// publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// assert_eq!(publisher.0.messages()[0].payload.headers.get("stamp"), Some("1"));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Publisher: Send + Sync + fmt::Debug {
    /// Sends messages, with one result for each in the order given. A message that is refused does not fail the others.
    async fn send_batch(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>>;

    /// Sends one message. A [`Message`](crate::message::Message) turns into what is asked for here by `.into()`.
    ///
    /// # Errors
    /// Why it was not taken; [`PublishError::Full`] and [`PublishError::Unavailable`] pass.
    async fn send(&self, outgoing: Outgoing) -> Result<Receipt, PublishError> {
        let mut results = self.send_batch(vec![outgoing]).await;
        results.pop().unwrap_or(Err(PublishError::Closed))
    }

    /// Ends what it started itself. What was taken and not sent yet stays where it is safe.
    async fn close(&self) {}
}
