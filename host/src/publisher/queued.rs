//! Keeps every message in an outbox first, and forwards it from there: the seed's `QueuedBrokerPublisher`.
//!
//! The outbox is a queue of any backend: of a [`MemoryBackend`](crate::backend::MemoryBackend) it bridges a broker that
//! is away for a moment (the seed's `InMemoryBrokerPublisherQueue`), of an
//! [`EmbeddedBackend`](crate::backend::EmbeddedBackend) it also survives the end of the process (the seed's
//! `DatabaseBrokerPublisherQueue`). Who gets a message is up to the publisher behind it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use super::Publisher;
use crate::backend::{
    Backend, BackendError, Outgoing, PublishError, QueueName, QueueSpec, Receipt,
};
use crate::broker::Broker;
use crate::pump::Pump;
use crate::retry::RetryPolicy;

mod envelope;
mod forward;

use forward::Forward;

/// A publisher with an outbox.
///
/// A message counts as sent when it is in the outbox, as safe as that is. From there a task forwards one after the other
/// in their order; while the publisher behind refuses for a reason that passes, everything waits and it is tried again
/// with a growing delay. A message that will never be accepted becomes a dead letter of the outbox, and the others go
/// on. After a crash a message may be forwarded twice, with the same identifier both times; a
/// [`DuplicateValidator`](crate::validator::DuplicateValidator) recognises it.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::{MemoryPublisher, Publisher, QueuedOptions, QueuedPublisher};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let behind = Arc::new(MemoryPublisher::new());
/// let outbox = Arc::new(MemoryBackend::new()); // or an `EmbeddedBackend`, to survive the end of the process
/// let publisher =
///     QueuedPublisher::start(behind.clone(), outbox, "outbox".parse()?, QueuedOptions::default()).await?;
/// publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// publisher.flush().await;
/// assert_eq!(behind.messages().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueuedPublisher {
    outbox: Arc<dyn Backend>,
    queue: QueueName,
    pending: Arc<Pending>,
    pump: tokio::sync::Mutex<Pump>,
    target: Arc<dyn Publisher>,
    /// Keeps a broker open that was opened for its queue.
    _broker: Option<Arc<Broker>>,
}

/// What can be chosen about an outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedOptions {
    /// How many messages may wait; more are refused with [`PublishError::Full`]. What was there before the publisher
    /// started is not counted.
    pub capacity: usize,
    /// How many are forwarded at once. More than 1 is faster, and lets a message pass one before it that was refused
    /// for a reason that passes.
    pub batch: usize,
    /// When forwarding is tried again; it is tried for ever, so of the attempts only the delays count.
    pub backoff: RetryPolicy,
}

impl Default for QueuedOptions {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            batch: 1,
            backoff: RetryPolicy::default(),
        }
    }
}

impl QueuedPublisher {
    /// Declares the outbox and starts to forward what is in it.
    ///
    /// # Errors
    /// When the outbox cannot be declared.
    pub async fn start(
        target: Arc<dyn Publisher>,
        outbox: Arc<dyn Backend>,
        queue: QueueName,
        options: QueuedOptions,
    ) -> Result<Self, BackendError> {
        let spec = QueueSpec::new(queue.clone(), Vec::new());
        outbox.declare_queue(spec.clone()).await?;
        let pending = Arc::new(Pending::new(options.capacity));
        let work = Forward::new(
            outbox.clone(),
            spec,
            target.clone(),
            options.batch.max(1),
            pending.clone(),
        );
        let pump = Pump::start(format!("outbox {queue}"), work, options.backoff);
        Ok(Self {
            outbox,
            queue,
            pending,
            pump: tokio::sync::Mutex::new(pump),
            target,
            _broker: None,
        })
    }

    pub(super) fn keeping_open(self, broker: Option<Arc<Broker>>) -> Self {
        let _broker = broker;
        Self { _broker, ..self }
    }

    /// How many of its messages wait in the outbox.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// How often forwarding has failed; it was tried again each time.
    pub async fn failures(&self) -> u64 {
        self.pump.lock().await.failures()
    }

    /// Waits until everything that was sent before has left the outbox.
    pub async fn flush(&self) {
        self.pending.empty().await;
    }
}

#[async_trait]
impl Publisher for QueuedPublisher {
    async fn send_batch(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let mut places = Vec::with_capacity(batch.len());
        let mut accepted = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let place = self.pending.reserve(outgoing.message.identifier);
            if place.is_some() {
                accepted.push(envelope::wrap(outgoing, &self.queue));
            }
            places.push(place);
        }
        let mut results = self.outbox.publish(accepted).await.into_iter();
        let full = || Err(PublishError::Full(self.queue.clone()));
        let mut result = |place: Option<Place>| {
            let Some(place) = place else { return full() };
            let result = results.next().unwrap_or(Err(PublishError::Closed));
            if result.is_ok() {
                place.keep();
            }
            result
        };
        places.into_iter().map(&mut result).collect()
    }

    /// Stops forwarding. What waits stays in the outbox for the next one that is started on it.
    async fn close(&self) {
        self.pump.lock().await.stop().await;
        self.target.close().await;
    }
}

/// The messages of this publisher that are in the outbox, by identifier. A reply has the identifier of its request, so
/// several may have the same.
#[derive(Debug)]
struct Pending {
    messages: Mutex<Messages>,
    capacity: usize,
    left: Notify,
}

#[derive(Debug, Default)]
struct Messages {
    counts: HashMap<Uuid, usize>,
    total: usize,
}

/// A message on its way into the outbox; it gives its place back unless the message got there.
#[derive(Debug)]
struct Place {
    pending: Arc<Pending>,
    identifier: Uuid,
    kept: bool,
}

impl Place {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.pending.leave(self.identifier);
        }
    }
}

impl Pending {
    fn new(capacity: usize) -> Self {
        Self {
            messages: Mutex::default(),
            capacity,
            left: Notify::new(),
        }
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(self: &Arc<Self>, identifier: Uuid) -> Option<Place> {
        let mut messages = self.messages();
        if messages.total >= self.capacity {
            return None;
        }
        messages.total += 1;
        *messages.counts.entry(identifier).or_default() += 1;
        Some(Place {
            pending: self.clone(),
            identifier,
            kept: false,
        })
    }

    /// One of them has left. Others, from before this publisher was started, are not counted.
    fn leave(&self, identifier: Uuid) {
        let mut messages = self.messages();
        let Some(count) = messages.counts.get_mut(&identifier) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            messages.counts.remove(&identifier);
        }
        messages.total -= 1;
        if messages.total == 0 {
            self.left.notify_waiters();
        }
    }

    fn len(&self) -> usize {
        self.messages().total
    }

    async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.len() == 0 {
                return;
            }
            left.await;
        }
    }
}
