//! Brokers with one defect each, built around a real one: what the model is there to notice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sandbar::backend::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, Outgoing, PublishError,
    Queue, QueueName, QueueSpec, Receipt, SettleError, Settlement, Source, Token, Verdict,
};
use sandbar::topic::TopicName;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A token of an earlier delivery ends the present one: no fencing.
    NoFence,
    /// Now and then an acknowledgement is confirmed and forgotten.
    LostAck,
    /// A failed attempt is acknowledged: the message is lost, as in the seed.
    AcknowledgedFailure,
    /// What is given back unsettled counts as an attempt.
    CountedRelease,
}

impl Defect {
    pub(crate) const ALL: [Self; 4] = [
        Self::NoFence,
        Self::LostAck,
        Self::AcknowledgedFailure,
        Self::CountedRelease,
    ];
}

/// A real broker with a defect.
#[derive(Debug)]
pub(crate) struct Broken {
    sound: Arc<dyn Backend>,
    defect: Defect,
    /// The fence of the latest delivery of each message, and how often it was delivered.
    latest: Mutex<HashMap<u64, (u64, u32)>>,
    settled: AtomicU64,
}

impl Broken {
    pub(crate) fn new(sound: Arc<dyn Backend>, defect: Defect) -> Self {
        Self {
            sound,
            defect,
            latest: Mutex::default(),
            settled: AtomicU64::new(0),
        }
    }
}

#[async_trait]
impl Backend for Broken {
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        let mut batch = self.sound.receive(queue, max, wait).await?;
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in &mut batch {
            let Token { id, fence } = delivery.token();
            let (last, times) = latest.entry(id).or_default();
            (*last, *times) = (fence, *times + 1);
            if self.defect == Defect::CountedRelease {
                delivery.attempt = *times;
            }
        }
        Ok(batch)
    }

    fn settle(
        &self,
        mut batch: Vec<Settlement>,
    ) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        for settlement in &mut batch {
            match self.defect {
                Defect::NoFence => {
                    let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some((fence, _)) = latest.get(&settlement.token.id) {
                        settlement.token.fence = *fence;
                    }
                }
                Defect::AcknowledgedFailure
                    if matches!(settlement.verdict, Verdict::Retry { .. }) =>
                {
                    settlement.verdict = Verdict::Ack;
                }
                Defect::LostAck | Defect::AcknowledgedFailure | Defect::CountedRelease => {}
            }
        }
        let forget = self.defect == Defect::LostAck
            && self.settled.fetch_add(1, Ordering::Relaxed) % 5 == 4
            && batch
                .iter()
                .all(|settlement| settlement.verdict == Verdict::Ack);
        if !forget {
            return self.sound.settle(batch);
        }
        let sound = self.sound.clone();
        async move {
            let tokens: Vec<Token> = batch.iter().map(|settlement| settlement.token).collect();
            let held = sound.extend(&tokens, Duration::from_millis(1)).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
            held
        }
        .boxed()
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
        self.sound.clone().subscribe(queue).await
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        self.sound.extend(tokens, lease).await
    }

    async fn close(&self) {
        self.sound.close().await;
    }
}
