//! `memory`: the reference of the contract, for tests and demonstrations.
//!
//! Every promise of [`Backend`] but one is kept here in its simplest form: nothing outlives the process. One lock guards
//! everything, so what a settlement does is atomic because nobody can look in between. Every queue is bounded.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kinds::Kind;
use super::table::{Attempt, MAX_CONTENT, Table, Wakeups, millis};
use super::waiting::{Clock, receive};
use super::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, KeyOrder, OpenError,
    Opened, Outgoing, Overview, PollingSource, PublishError, Queue, QueueName, QueueSpec, Reach,
    Receipt, Release, SettleError, Settlement, Source, Token,
};
use crate::topic::TopicName;

mod apply;
mod kept;
mod letters;
mod look;
mod state;
mod stored;

use apply::Added;
use kept::Kept;
use letters::Letters;
use state::State;

/// What can be chosen about a broker in memory: `[broker.memory]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryOptions {
    /// How many messages a queue holds before it refuses more.
    #[schemars(range(min = 1), extend("x-unit" = "messages"))]
    pub capacity: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            capacity: MemoryBackend::CAPACITY,
        }
    }
}

impl Kind for MemoryOptions {
    const REACH: Reach = Reach::Process;

    async fn open(&self, _: &Path) -> Result<Opened, OpenError> {
        Ok(Opened::of(MemoryBackend::with_capacity(self.capacity)))
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        match self.capacity {
            0 => vec![(
                "capacity",
                "`capacity` is 0; it must be at least 1".to_owned(),
            )],
            _ => Vec::new(),
        }
    }
}

/// A broker in the memory of this process: the seed's `InMemoryBrokerQueue` is any queue of it.
///
/// ```
/// use std::time::Duration;
/// use sandbar::backend::{Backend, Effects, MemoryBackend, Outgoing, QueueSpec, Verdict};
/// use sandbar::message::{Message, Payload};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = MemoryBackend::new();
/// let queue = broker.declare_queue(QueueSpec::new("q".parse()?, vec!["t".parse()?])).await?.queue;
/// broker.publish(vec![Outgoing::new(Message::new("t".parse()?, Payload::text("7")))]).await;
/// let delivery = broker.receive(&queue, 1, Duration::from_secs(1)).await?.remove(0);
/// broker.settle(vec![delivery.settle(Verdict::Ack, Effects::default())]).await.remove(0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    clock: Clock,
}

#[derive(Debug)]
struct Inner {
    table: Table<()>,
    kept: Kept,
    state: State,
    letters: Letters,
    next_id: u64,
    /// Empty between two calls; kept for its allocation.
    added: Added,
    /// Messages per queue.
    capacity: usize,
    closed: bool,
}

impl MemoryBackend {
    /// How many messages a queue holds unless told otherwise.
    pub const CAPACITY: usize = 100_000;

    /// An empty broker.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty broker whose queues hold so many messages each.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let inner = Inner {
            table: Table::new(),
            kept: Kept::default(),
            state: State::default(),
            letters: Letters::default(),
            next_id: 1,
            added: Added::new(),
            capacity,
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                inner: Mutex::new(inner),
                clock: Clock::start(),
            }),
        }
    }

    /// Deletes the queues that end with their process; everything else is gone with the broker.
    fn close_now(&self) {
        let mut inner = self.shared.lock();
        inner.closed = true;
        inner.table.wake_all();
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// No code that runs under the lock panics halfway through a change.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Inner>, BackendError> {
        let inner = self.lock();
        if inner.closed {
            Err(BackendError::Closed)
        } else {
            Ok(inner)
        }
    }

    fn wake(wakeups: Wakeups, inner: MutexGuard<'_, Inner>) {
        drop(inner);
        wakeups.wake();
    }
}

impl Release for Shared {
    fn release(&self, token: Token) {
        let mut inner = self.lock();
        let Ok((slot, entry)) = inner.table.of(token) else {
            return;
        };
        if entry.fifo.release(token).is_ok() {
            inner.table.touch(slot);
            let wakeups = inner.table.wakeups();
            Self::wake(wakeups, inner);
        }
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transactional: true,
            durable: false,
            delay: true,
            wildcards: true,
            key_order: KeyOrder::Everywhere,
            counts_queues: true,
            max_content: MAX_CONTENT,
            max_batch: 1024,
        }
    }

    async fn health(&self) -> Result<Health, BackendError> {
        drop(self.shared.open()?);
        Ok(Health {
            detail: "memory of this process; nothing survives its end".to_owned(),
        })
    }

    async fn declare_topic(&self, _: &TopicName) -> Result<(), BackendError> {
        drop(self.shared.open()?);
        Ok(())
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        let mut inner = self.shared.open()?;
        let declared = inner.declare(spec);
        let wakeups = inner.table.wakeups();
        Shared::wake(wakeups, inner);
        Ok(declared)
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        self.shared.open()?.table.named(name)?;
        Ok(Queue { name: name.clone() })
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        let table = &mut self.shared.open()?.table;
        if let Some((slot, _)) = table.hide(name) {
            table.remove(slot);
        }
        Ok(())
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.shared.open()?.kept.remove(topic);
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let mut inner = self.shared.lock();
        if inner.closed {
            return batch.iter().map(|_| Err(PublishError::Closed)).collect();
        }
        let now = self.shared.clock.now_ms();
        let results = batch
            .into_iter()
            .map(|outgoing| inner.publish(outgoing, now))
            .collect();
        let wakeups = inner.table.wakeups();
        Shared::wake(wakeups, inner);
        results
    }

    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let release: Arc<dyn Release> = self.shared.clone();
        let look = || -> Result<Attempt, BackendError> {
            let mut inner = self.shared.open()?;
            let now = self.shared.clock.now_ms();
            Ok(inner.table.named(&queue.name)?.1.take(max, now, &release))
        };
        receive(wait, look).await
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        let queue = self.get_queue(&queue.name).await?;
        Ok(Box::new(PollingSource::new(self, queue)))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        let mut inner = self.shared.lock();
        let results = if inner.closed {
            batch.iter().map(|_| Err(SettleError::Closed)).collect()
        } else {
            let now = self.shared.clock.now_ms();
            let results = batch
                .into_iter()
                .map(|settlement| inner.settle(settlement, now))
                .collect();
            let wakeups = inner.table.wakeups();
            Shared::wake(wakeups, inner);
            results
        };
        std::future::ready(results).boxed()
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        let mut inner = self.shared.lock();
        let now = self.shared.clock.now_ms();
        let end = now.saturating_add(millis(lease).max(1));
        let closed = inner.closed;
        tokens
            .iter()
            .map(|token| {
                if closed {
                    return Err(SettleError::Closed);
                }
                let (_, entry) = inner.table.of(*token).map_err(|_| SettleError::Stale)?;
                entry.extend(*token, now, end)
            })
            .collect()
    }

    async fn overview(&self) -> Result<Overview, BackendError> {
        Ok(self.shared.open()?.overview(self.shared.clock.now_ms()))
    }

    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        self.shared.open()?.purge(name)
    }

    async fn close(&self) {
        self.close_now();
    }
}
