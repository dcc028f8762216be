//! A message in the hands of whoever received it, until it is acknowledged or comes again.
//!
//! It doesn't know where it came from beyond the backend that settles it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    Backend, Delivery, Effects, Held, Outgoing, QueueName, SettleError, Settlement, Verdict,
};
use crate::clock;
use crate::message::Message;
use crate::store::{FailedAttempt, Reason};
use crate::validator::Checked;
use crate::wire::{self, Form, Malformed};

/// A message that was received. It reads like the [`Message`] that it is.
///
/// Handle it, then [acknowledge](Self::ack) it. Dropping it gives it back, and it comes again at once as the same
/// attempt; so does a future of this that is dropped before it is ready, unless the broker was faster.
///
/// ```
/// use std::time::Duration;
/// use sandbar::message::{Message, Payload};
/// use sandbar::subscriber::{MemorySubscriber, Subscriber};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let messages = [Message::new("user.get".parse()?, Payload::text("7"))];
/// let mut subscriber = MemorySubscriber::new(vec!["user.get".parse()?], messages).await?;
/// let received = subscriber.receive().await?;
/// assert_eq!((received.attempt(), &received.payload.content[..]), (1, &b"7"[..]));
/// received.retry(Duration::ZERO, "not yet").await?; // counts the attempt
/// let received = subscriber.receive().await?;
/// assert_eq!(received.attempt(), 2);
/// // What is published with the acknowledgement is visible together with it, or not at all.
/// let reply = Message::new("user.get.reply".parse()?, Payload::text("Ada"));
/// received.ack_with(vec![reply.into()]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Received {
    message: Arc<Message>,
    delivery: Delivery,
    backend: Arc<dyn Backend>,
    queue: QueueName,
    /// Before the delivery is given back or settled its lease is still kept.
    _held: Option<Held>,
    checked: Vec<Checked>,
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Received {
    /// Reads the message of a delivery that `backend` made from the messages of `queue`. Its lease is not extended.
    ///
    /// # Errors
    /// [`Malformed`] when it is no message of that form, with the delivery, which is still to be settled.
    pub fn from_delivery(
        backend: Arc<dyn Backend>,
        queue: QueueName,
        form: Form,
        delivery: Delivery,
    ) -> Result<Self, (Box<Delivery>, Malformed)> {
        match wire::decode(form, &delivery.packet) {
            Ok(message) => Ok(Self {
                message,
                delivery,
                backend,
                queue,
                _held: None,
                checked: Vec::new(),
            }),
            Err(error) => Err((Box::new(delivery), error)),
        }
    }

    /// The message, to keep beyond the acknowledgement.
    #[must_use]
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// 1 for the first time.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.delivery.attempt
    }

    /// The key whose order it keeps.
    #[must_use]
    pub fn key(&self) -> Option<&Arc<str>> {
        self.delivery.key.as_ref()
    }

    /// It was handled and does not come again.
    ///
    /// # Errors
    /// [`SettleError`]: it comes again all the same.
    pub async fn ack(self) -> Result<(), SettleError> {
        self.ack_with(Vec::new()).await
    }

    /// It was handled, and this is published together with the acknowledgement, or not at all, where the backend is
    /// [transactional](crate::backend::Capabilities::transactional).
    ///
    /// # Errors
    /// [`SettleError`]: it comes again, and nothing was published.
    pub async fn ack_with(self, publishes: Vec<Outgoing>) -> Result<(), SettleError> {
        let mut records = self.checked.iter().filter_map(Checked::record);
        let state = records.next();
        if records.next().is_some() {
            let text = "two validators keep records of one message; use one stored validator for a subscriber";
            return Err(SettleError::Unavailable(text.to_owned()));
        }
        drop(records);
        let effects = Effects { publishes, state };
        let settlement = self.delivery.settle(Verdict::Ack, effects);
        settle(&*self.backend, settlement).await?;
        self.checked.into_iter().for_each(Checked::commit);
        Ok(())
    }

    /// It could not be handled for this reason, and comes again after this time with the attempt counted.
    ///
    /// # Errors
    /// [`SettleError`]: it comes again at once.
    pub async fn retry(self, after: Duration, error: &str) -> Result<(), SettleError> {
        let failed = FailedAttempt::new(self.attempt(), clock::now_ms(), Reason::Retry, error);
        let verdict = Verdict::Retry {
            after,
            failed: Box::new(failed),
        };
        let settlement = self.delivery.settle(verdict, Effects::default());
        settle(&*self.backend, settlement).await
    }

    /// It is kept as a dead letter with this reason and does not come again.
    ///
    /// # Errors
    /// [`SettleError`]: it comes again.
    pub async fn dead_letter(
        self,
        reason: Reason,
        error: impl Into<String>,
    ) -> Result<(), SettleError> {
        let settlement = self.delivery.bury(&self.queue, reason, error.into());
        settle(&*self.backend, settlement).await
    }

    /// Keeps its lease as long as it lives.
    pub(super) fn held(self, held: Held) -> Self {
        Self {
            _held: Some(held),
            ..self
        }
    }

    /// Adds what validators have to learn about its end.
    pub(super) fn checked(mut self, checked: Vec<Checked>) -> Self {
        self.checked.extend(checked);
        self
    }
}

async fn settle(backend: &dyn Backend, settlement: Settlement) -> Result<(), SettleError> {
    let mut results = backend.settle(vec![settlement]).await;
    results.pop().unwrap_or(Err(SettleError::Closed))
}
