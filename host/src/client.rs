//! Sends messages and asks for replies: the seed's `BrokerClient`.
//!
//! A client owns one ephemeral reply queue; replies are correlated by identifier, so many requests can be in flight, and
//! a reply that comes too late is dropped and counted, never handed to a later request. It does not handle messages.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::backend::{
    Backend, BackendError, Delivery, Destination, Effects, Outgoing, PublishError, Queue,
    QueueName, QueueSpec, Receipt, SourceEvent, Verdict,
};
use crate::message::Message;
use crate::topic::TopicName;
use crate::wire::{self, Form};

/// Publishes, and waits for replies.
#[derive(Debug)]
pub struct Client {
    backend: Arc<dyn Backend>,
    queue: Queue,
    reply_topic: TopicName,
    waiting: Arc<Waiting>,
    _pump: AbortOnDropHandle<()>,
}

/// Requests in flight, by identifier.
#[derive(Debug, Default)]
struct Waiting {
    requests: Mutex<HashMap<Uuid, oneshot::Sender<Arc<Message>>>>,
    late: AtomicU64,
}

impl Waiting {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Uuid, oneshot::Sender<Arc<Message>>>) -> T) -> T {
        f(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes the request out of the table when its caller stops waiting.
struct Registration<'a> {
    waiting: &'a Waiting,
    identifier: Uuid,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.waiting
            .with(|requests| requests.remove(&self.identifier));
    }
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody answered in time; the message may still be handled.
    #[error("no reply from `{topic}` within {timeout:?}; the message may still be handled")]
    Timeout {
        /// Who was asked.
        topic: TopicName,
        /// How long.
        timeout: Duration,
    },
    /// A request with this identifier is already waiting.
    #[error("a request with identifier {0} is already waiting; use another identifier")]
    InFlight(Uuid),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The broker failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Client {
    /// A client with a reply queue of its own, gone when the client is closed or its process ends.
    ///
    /// # Errors
    /// When the reply queue cannot be declared.
    pub async fn connect(backend: Arc<dyn Backend>) -> Result<Self, BackendError> {
        let name = format!("_reply.{}", Uuid::now_v7().simple());
        let reply_topic: TopicName = name
            .parse()
            .map_err(|error| BackendError::Invalid(format!("{error}")))?;
        let mut spec = QueueSpec::new(name.parse::<QueueName>()?, vec![reply_topic.clone().into()]);
        spec.ephemeral = true;
        let queue = backend.declare_queue(spec).await?.queue;
        let waiting = Arc::new(Waiting::default());
        let mut source = backend.clone().subscribe(&queue).await?;
        let pump = {
            let (backend, waiting) = (backend.clone(), waiting.clone());
            tokio::spawn(async move {
                loop {
                    match source.next(256).await {
                        SourceEvent::Delivered(batch) => hand_out(&*backend, &waiting, batch).await,
                        SourceEvent::Stalled(error) => {
                            tracing::warn!(%error, "replies cannot be received; trying again");
                        }
                        SourceEvent::Reconnected => {}
                        SourceEvent::Fatal(_) => return,
                    }
                }
            })
        };
        Ok(Self {
            backend,
            queue,
            reply_topic,
            waiting,
            _pump: AbortOnDropHandle::new(pump),
        })
    }

    /// Where replies to this client go.
    #[must_use]
    pub fn reply_topic(&self) -> &TopicName {
        &self.reply_topic
    }

    /// Replies that came when nobody waited for them any more.
    #[must_use]
    pub fn late_replies(&self) -> u64 {
        self.waiting.late.load(Ordering::Relaxed)
    }

    /// Publishes one message.
    ///
    /// # Errors
    /// What the broker says of it.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Receipt, PublishError> {
        publish_one(&*self.backend, outgoing).await
    }

    /// Publishes a message and waits for its reply, which may have any status.
    ///
    /// # Errors
    /// [`RequestError::Timeout`] when there is no reply in time; [`PublishError::Unroutable`] at once when no queue is
    /// bound to the topic, so that nobody waits for an answer that cannot come.
    pub async fn request(
        &self,
        message: Message,
        timeout: Duration,
    ) -> Result<Arc<Message>, RequestError> {
        let identifier = message.identifier;
        let topic = message.topic.clone();
        let (sender, receiver) = oneshot::channel();
        let known = self
            .waiting
            .with(|requests| match requests.entry(identifier) {
                std::collections::hash_map::Entry::Occupied(_) => true,
                std::collections::hash_map::Entry::Vacant(slot) => {
                    slot.insert(sender);
                    false
                }
            });
        if known {
            return Err(RequestError::InFlight(identifier));
        }
        let _registration = Registration {
            waiting: &self.waiting,
            identifier,
        };
        let mut outgoing = Outgoing::new(message.with_reply_topic(self.reply_topic.clone()));
        outgoing.mandatory = true;
        outgoing.to = Destination::Topic;
        let exchange = async {
            publish_one(&*self.backend, outgoing).await?;
            receiver
                .await
                .map_err(|_| RequestError::Backend(BackendError::Closed))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(RequestError::Timeout { topic, timeout }),
        }
    }

    /// Deletes the reply queue.
    pub async fn close(&self) {
        if let Err(error) = self.backend.delete_queue(&self.queue.name).await {
            tracing::debug!(%error, "the reply queue stays until the broker drops it");
        }
    }
}

async fn publish_one(backend: &dyn Backend, outgoing: Outgoing) -> Result<Receipt, PublishError> {
    let mut results = backend.publish(vec![outgoing]).await;
    results.pop().unwrap_or(Err(PublishError::Closed))
}

async fn hand_out(backend: &dyn Backend, waiting: &Waiting, batch: Vec<Delivery>) {
    let mut settlements = Vec::with_capacity(batch.len());
    for delivery in batch {
        match wire::decode(Form::Native, &delivery.packet) {
            Ok(message) => {
                let request = waiting.with(|requests| requests.remove(&message.identifier));
                if request.is_none_or(|request| request.send(message).is_err()) {
                    waiting.late.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!("a reply came after its request had ended; dropped");
                }
            }
            Err(error) => tracing::warn!(%error, "a reply cannot be read; dropped"),
        }
        settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
    }
    for error in backend
        .settle(settlements)
        .await
        .into_iter()
        .filter_map(Result::err)
    {
        tracing::debug!(%error, "a reply was not settled");
    }
}
