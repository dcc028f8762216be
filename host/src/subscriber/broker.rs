//! Receives from a queue of a broker.
//!
//! It takes only what is asked for and hands everything out; what cannot be read becomes a dead letter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Received, Subscriber};
use crate::backend::{
    Backend, BackendError, Delivery, Heartbeat, Queue, QueueSpec, Source, SourceEvent,
};
use crate::broker::Broker;
use crate::store::Reason;
use crate::topic::Pattern;
use crate::wire::Form;

/// A subscription to a broker.
///
/// The lease of what was handed out is extended as long as it is held, however long handling takes.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::{MemoryBackend, QueueSpec};
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::{BackendPublisher, Publisher};
/// use sandbar::subscriber::{BackendSubscriber, Subscriber};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Arc::new(MemoryBackend::new());
/// let spec = QueueSpec::new("user-service".parse()?, vec!["user.*".parse()?]);
/// let mut subscriber = BackendSubscriber::subscribe(broker.clone(), spec).await?;
/// let publisher = BackendPublisher::new(broker);
/// publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// let received = subscriber.receive().await?;
/// assert_eq!(received.topic.as_str(), "user.created");
/// received.ack().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BackendSubscriber {
    backend: Arc<dyn Backend>,
    spec: QueueSpec,
    form: Form,
    source: Box<dyn Source>,
    heartbeat: Arc<Heartbeat>,
    remove_topics: bool,
    /// Keeps a broker open that was opened for this.
    _broker: Option<Arc<Broker>>,
}

impl BackendSubscriber {
    /// Declares the queue and subscribes to it.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn subscribe(
        backend: Arc<dyn Backend>,
        spec: QueueSpec,
    ) -> Result<Self, BackendError> {
        let queue = backend.declare_queue(spec.clone()).await?.queue;
        Ok(Self {
            source: backend.clone().subscribe(&queue).await?,
            heartbeat: Heartbeat::start(backend.clone(), spec.lease),
            backend,
            spec,
            form: Form::Native,
            remove_topics: false,
            _broker: None,
        })
    }

    /// Reads messages of this form.
    #[must_use]
    pub fn with_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Deletes the queue and its exact topics when the subscription is [closed](Subscriber::close), with what waits in
    /// them.
    #[must_use]
    pub fn with_remove_topics_on_destroy(self, remove_topics: bool) -> Self {
        Self {
            remove_topics,
            ..self
        }
    }

    pub(super) fn keeping_open(self, broker: Option<Arc<Broker>>) -> Self {
        let _broker = broker;
        Self { _broker, ..self }
    }

    /// What is ready within this time, possibly nothing.
    pub(super) async fn ready(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Received>, BackendError> {
        let name = self.spec.name.clone();
        let batch = self
            .backend
            .receive(&Queue { name }, max.max(1), wait)
            .await?;
        Ok(self.read(batch).await)
    }

    async fn read(&mut self, batch: Vec<Delivery>) -> Vec<Received> {
        let mut readable = Vec::with_capacity(batch.len());
        let mut buried = Vec::new();
        for delivery in batch {
            let held = self.heartbeat.hold(delivery.token());
            let (backend, queue) = (self.backend.clone(), self.spec.name.clone());
            match Received::from_delivery(backend, queue, self.form, delivery) {
                Ok(received) => readable.push(received.held(held)),
                Err((delivery, error)) => {
                    let error = error.to_string();
                    buried.push(delivery.bury(&self.spec.name, Reason::Malformed, error));
                }
            }
        }
        if !buried.is_empty() {
            let settled = self.backend.settle(buried).await;
            for error in settled.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "a message that cannot be read comes again");
            }
        }
        readable
    }
}

#[async_trait]
impl Subscriber for BackendSubscriber {
    fn topics(&self) -> &[Pattern] {
        &self.spec.topics
    }

    async fn receive_batch(&mut self, max: usize) -> Result<Vec<Received>, BackendError> {
        loop {
            match self.source.next(max.max(1)).await {
                SourceEvent::Delivered(batch) => {
                    let readable = self.read(batch).await;
                    if !readable.is_empty() {
                        return Ok(readable);
                    }
                }
                SourceEvent::Stalled(error) => {
                    tracing::warn!(queue = %self.spec.name, %error, "nothing can be received; trying again");
                }
                SourceEvent::Reconnected => {
                    tracing::info!(queue = %self.spec.name, "receiving again");
                }
                SourceEvent::Fatal(error) => return Err(error),
            }
        }
    }

    async fn close(&mut self) {
        if !self.remove_topics && !self.spec.ephemeral {
            return;
        }
        let mut removed = self.backend.delete_queue(&self.spec.name).await;
        if self.remove_topics {
            for topic in self.spec.topics.iter().filter_map(Pattern::exact) {
                removed = removed.and(self.backend.delete_topic(&topic).await);
            }
        }
        if let Err(error) = removed {
            tracing::warn!(queue = %self.spec.name, %error, "a queue or topic stays");
        }
    }
}
