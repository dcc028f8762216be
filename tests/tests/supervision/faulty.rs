//! A memory broker with one queue that can be made faulty while it is received from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sandbar::backend::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, MemoryBackend, Outgoing,
    Overview, PollingSource, PublishError, Queue, QueueName, QueueSpec, Receipt, SettleError,
    Settlement, Source, Token,
};
use sandbar::topic::TopicName;
use tokio::sync::watch;

/// What is wrong with the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It cannot be reached.
    Away,
    /// It says what no broker says.
    Nonsense,
    /// Its client panics.
    Defect,
    /// It does not answer.
    Silent,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) sound: Arc<MemoryBackend>,
    queue: QueueName,
    fault: watch::Sender<Fault>,
}

impl Faulty {
    pub(crate) fn new(queue: &str) -> Self {
        Self {
            sound: Arc::new(MemoryBackend::new()),
            queue: queue.parse().unwrap(),
            fault: watch::channel(Fault::None).0,
        }
    }

    /// From now on, also for who waits already.
    pub(crate) fn become_(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

#[async_trait]
impl Backend for Faulty {
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        if queue.name != self.queue {
            return self.sound.receive(queue, max, wait).await;
        }
        let mut faults = self.fault.subscribe();
        let fault = tokio::select! {
            biased;
            fault = faults.wait_for(|fault| *fault != Fault::None) => *fault.unwrap(),
            received = self.sound.receive(queue, max, wait) => return received,
        };
        match fault {
            Fault::None => unreachable!("it was waited for another one"),
            Fault::Away => Err(BackendError::Unavailable("it is away".to_owned())),
            Fault::Nonsense => Err(BackendError::Invalid("it is no broker".to_owned())),
            Fault::Defect => panic!("a defect of the client"),
            Fault::Silent => std::future::pending().await,
        }
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        self.sound.settle(batch)
    }

    fn kind(&self) -> &'static str {
        self.sound.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.sound.capabilities()
    }

    async fn health(&self) -> Result<Health, BackendError> {
        self.sound.health().await
    }

    async fn declare_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.sound.declare_topic(topic).await
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        self.sound.declare_queue(spec).await
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        self.sound.get_queue(name).await
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        self.sound.delete_queue(name).await
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.sound.delete_topic(topic).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        self.sound.publish(batch).await
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        Ok(Box::new(PollingSource::new(self, queue.clone())))
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        self.sound.extend(tokens, lease).await
    }

    async fn overview(&self) -> Result<Overview, BackendError> {
        self.sound.overview().await
    }

    async fn close(&self) {
        self.sound.close().await;
    }
}
