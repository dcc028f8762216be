//! Requests that wait for their replies, correlated by identifier.
//!
//! One ephemeral queue takes the replies of one client. What nobody waits for is dropped and counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::RequestError;
use crate::backend::{
    Backend, BackendError, Delivery, Effects, Outgoing, PublishError, Queue, QueueName, QueueSpec,
    Source, SourceEvent, Verdict,
};
use crate::message::Message;
use crate::topic::TopicName;
use crate::wire::{self, Form};

/// Asks and waits.
#[derive(Debug)]
pub(super) struct Requests {
    backend: Arc<dyn Backend>,
    queue: Queue,
    topic: TopicName,
    waiting: Arc<Waiting>,
    pump: AbortOnDropHandle<()>,
}

/// Requests in flight, by identifier.
#[derive(Debug, Default)]
struct Waiting {
    requests: Mutex<HashMap<Uuid, Caller>>,
    late: AtomicU64,
}

/// Who waits for a reply.
type Caller = oneshot::Sender<Arc<Message>>;

impl Waiting {
    fn requests(&self) -> MutexGuard<'_, HashMap<Uuid, Caller>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the request out of the table when its caller stops waiting.
struct Registration<'a> {
    waiting: &'a Waiting,
    identifier: Uuid,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.waiting.requests().remove(&self.identifier);
    }
}

impl Requests {
    pub(super) async fn start(backend: Arc<dyn Backend>) -> Result<Self, BackendError> {
        let name = format!("_reply.{}", Uuid::now_v7().simple());
        let topic: TopicName = name
            .parse()
            .map_err(|error| BackendError::Invalid(format!("{error}")))?;
        let mut spec = QueueSpec::new(name.parse::<QueueName>()?, vec![topic.clone().into()]);
        spec.ephemeral = true;
        let queue = backend.declare_queue(spec).await?.queue;
        let waiting = Arc::new(Waiting::default());
        let source = backend.clone().subscribe(&queue).await?;
        let pump = tokio::spawn(pump(source, backend.clone(), waiting.clone()));
        Ok(Self {
            backend,
            queue,
            topic,
            waiting,
            pump: AbortOnDropHandle::new(pump),
        })
    }

    /// Where replies go.
    pub(super) fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub(super) fn late(&self) -> u64 {
        self.waiting.late.load(Ordering::Relaxed)
    }

    /// Whether no reply can come any more.
    pub(super) fn ended(&self) -> bool {
        self.pump.is_finished()
    }

    /// Publishes a request, whose reply topic is [`topic`](Self::topic), and waits for its reply.
    pub(super) async fn request(
        &self,
        outgoing: Outgoing,
        timeout: Duration,
    ) -> Result<Arc<Message>, RequestError> {
        if self.ended() {
            return Err(BackendError::Closed.into());
        }
        let (identifier, topic) = (outgoing.message.identifier, outgoing.message.topic.clone());
        let (caller, reply) = oneshot::channel();
        match self.waiting.requests().entry(identifier) {
            Entry::Occupied(_) => return Err(RequestError::InFlight(identifier)),
            Entry::Vacant(free) => {
                free.insert(caller);
            }
        }
        let _registration = Registration {
            waiting: &self.waiting,
            identifier,
        };
        let exchange = async {
            let mut results = self.backend.publish(vec![outgoing]).await;
            results.pop().unwrap_or(Err(PublishError::Closed))?;
            let ended = |_| RequestError::Backend(BackendError::Closed);
            reply.await.map_err(ended)
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(RequestError::Timeout { topic, timeout }),
        }
    }

    /// Deletes the reply queue; with it ends everybody who waits.
    pub(super) async fn close(&self) {
        if let Err(error) = self.backend.delete_queue(&self.queue.name).await {
            tracing::debug!(%error, "the reply queue stays until the broker drops it");
        }
    }
}

async fn pump(mut source: Box<dyn Source>, backend: Arc<dyn Backend>, waiting: Arc<Waiting>) {
    loop {
        match source.next(256).await {
            SourceEvent::Delivered(batch) => hand_out(&*backend, &waiting, batch).await,
            SourceEvent::Stalled(error) => {
                tracing::warn!(%error, "replies cannot be received; trying again");
            }
            SourceEvent::Reconnected => {}
            SourceEvent::Fatal(_) => {
                waiting.requests().clear();
                return;
            }
        }
    }
}

async fn hand_out(backend: &dyn Backend, waiting: &Waiting, batch: Vec<Delivery>) {
    let mut settlements = Vec::with_capacity(batch.len());
    for delivery in batch {
        match wire::decode(Form::Native, &delivery.packet) {
            Ok(message) => {
                let request = waiting.requests().remove(&message.identifier);
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
