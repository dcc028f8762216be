//! `embedded`: a durable broker in one SQLite file, for one host without any server.
//!
//! What is confirmed is on disk: publishing returns after the transaction that holds the message, settling after the one
//! that holds the end of the delivery together with everything that it caused. One process owns the data folder;
//! therefore who has which message is only known in memory, and after a crash everything that wasn't settled is ready
//! again. It is no server for other processes, and holds no SQL (that is in `store::sqlite`).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::kinds::Kind;
use super::table::{Attempt, MAX_CONTENT, millis};
use super::waiting::receive;
use super::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, KeyOrder, OpenError,
    Opened, Outgoing, Overview, PollingSource, PublishError, Queue, QueueName, QueueSpec, Reach,
    Receipt, SettleError, Settlement, Source, Token,
};
use crate::store::Retention;
use crate::topic::TopicName;

mod admin;
mod enqueue;
mod feed;
mod group;
mod letters;
mod look;
mod opening;
mod outcome;
#[cfg(feature = "rabbitmq")]
mod record;
mod shared;
mod spill;
mod state;
mod stored;
mod writer;

use admin::{Order, declared};
use enqueue::Prepared;
#[cfg(feature = "rabbitmq")]
pub(in crate::backend) use record::Record;
use shared::{Shared, releaser};

/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(15);

/// A broker in a data folder: the seed's `DatabaseBrokerQueue` is any queue of it.
///
/// ```
/// use std::time::Duration;
/// use sandbar::backend::{Backend, EmbeddedBackend, EmbeddedOptions, Outgoing, QueueSpec};
/// use sandbar::message::{Message, Payload};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let data = folder.path();
/// let broker = EmbeddedBackend::open(data, EmbeddedOptions::default()).await?;
/// let queue = broker.declare_queue(QueueSpec::new("q".parse()?, vec!["t".parse()?])).await?.queue;
/// broker.publish(vec![Outgoing::new(Message::new("t".parse()?, Payload::text("7")))]).await;
/// broker.close().await; // or the end of the process, in whatever way
///
/// let broker = EmbeddedBackend::open(data, EmbeddedOptions::default()).await?;
/// assert_eq!(broker.receive(&queue, 1, Duration::from_secs(1)).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EmbeddedBackend {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    about: String,
}

/// What can be chosen about an embedded broker: `[broker.embedded]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedOptions {
    /// Messages of one queue that are ready in memory; the others are fetched when it is their turn.
    #[schemars(range(min = 1), extend("x-unit" = "messages"))]
    pub window: usize,
    /// Messages that are kept in topics without a queue, all together.
    #[schemars(extend("x-unit" = "messages"))]
    pub kept: u64,
    /// How long they are kept.
    #[serde(with = "crate::value::duration")]
    #[schemars(with = "crate::value::Time")]
    pub kept_for: Duration,
    /// How long dead letters are kept, and how many; `None`: all of them, for ever. A host is told in `[dead_letters]`.
    #[serde(skip)]
    pub letters: Option<Retention>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            window: 8_192,
            kept: 1_000_000,
            kept_for: Duration::from_secs(7 * 24 * 60 * 60),
            letters: None,
        }
    }
}

impl Kind for EmbeddedOptions {
    const REACH: Reach = Reach::Folder;

    async fn open(&self, data: &Path) -> Result<Opened, OpenError> {
        Ok(Opened::of(EmbeddedBackend::open(data, self.clone()).await?))
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        match self.window {
            0 => vec![("window", "`window` is 0; it must be at least 1".to_owned())],
            _ => Vec::new(),
        }
    }
}

impl EmbeddedBackend {
    /// Opens or creates the broker of a data folder. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]: somebody else has the folder, it cannot be written, or it holds something else.
    pub async fn open(folder: &Path, options: EmbeddedOptions) -> Result<Self, OpenError> {
        opening::open(folder, options).await
    }

    /// A delivery whose settlement was refused elsewhere is ready again a little later.
    #[cfg(feature = "rabbitmq")]
    pub(in crate::backend) fn take_back(&self, token: Token, error: &SettleError) {
        let mut inner = self.shared.lock();
        let now = self.shared.clock.now_ms();
        if let Ok((slot, entry)) = inner.table.of(token)
            && entry.take_back(token, error, now)
        {
            inner.table.touch(slot);
        }
        self.shared.leave(inner);
    }

    /// The key of a delivery.
    #[cfg(feature = "rabbitmq")]
    pub(in crate::backend) fn key_of(&self, token: Token) -> Option<Arc<str>> {
        let mut inner = self.shared.lock();
        let (_, entry) = inner.table.of(token).ok()?;
        entry.fifo.get(token).ok()?.key.clone()
    }

    fn look(&self, queue: &Queue, max: usize) -> Result<Attempt, BackendError> {
        let mut inner = self.shared.open()?;
        let now = self.shared.clock.now_ms();
        let (slot, entry) = inner.table.named(&queue.name)?;
        let attempt = entry.take(max, now, &releaser(&self.shared));
        inner.check_hunger(slot);
        self.shared.leave(inner);
        Ok(attempt)
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transactional: true,
            durable: true,
            delay: true,
            wildcards: true,
            key_order: KeyOrder::Everywhere,
            counts_queues: true,
            max_content: MAX_CONTENT,
            max_batch: 1024,
        }
    }

    async fn health(&self) -> Result<Health, BackendError> {
        self.shared.check().await?;
        Ok(Health {
            detail: self.about.clone(),
        })
    }

    async fn declare_topic(&self, _: &TopicName) -> Result<(), BackendError> {
        drop(self.shared.open()?);
        Ok(())
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        self.shared.order(Order::Declare(spec.clone())).await?;
        Ok(declared(&self.shared.open()?.table, &spec))
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        self.shared.open()?.table.named(name)?;
        Ok(Queue { name: name.clone() })
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        let deleted = self.shared.order(Order::Delete(name.clone())).await;
        deleted.map(drop)
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        let deleted = self.shared.order(Order::DeleteTopic(topic.clone())).await;
        deleted.map(drop)
    }

    async fn overview(&self) -> Result<Overview, BackendError> {
        self.shared.overview().await
    }

    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        self.get_queue(name).await?;
        self.shared.order(Order::Purge(name.clone())).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let count = batch.len();
        let mut waiting: Vec<Prepared> = batch.into_iter().map(Prepared::new).collect();
        loop {
            let room = self.shared.room.notified();
            match self.shared.publish(waiting) {
                Ok(Ok(results)) => return results,
                Ok(Err(committed)) => {
                    let ended = || vec![Err(PublishError::Closed); count];
                    return committed.await.unwrap_or_else(|_| ended());
                }
                Err(back) => waiting = back,
            }
            room.await;
        }
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
        receive(wait, || self.look(queue, max)).await
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        let queue = self.get_queue(&queue.name).await?;
        Ok(Box::new(PollingSource::new(self, queue)))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        let count = batch.len();
        let prepare = |mut settlement: Settlement| {
            let publishes = std::mem::take(&mut settlement.effects.publishes);
            (
                settlement,
                publishes.into_iter().map(Prepared::new).collect(),
            )
        };
        match self.shared.settle(batch.into_iter().map(prepare).collect()) {
            Ok(results) => std::future::ready(results).boxed(),
            Err(committed) => {
                let ended = move || vec![Err(SettleError::Closed); count];
                async move { committed.await.unwrap_or_else(|_| ended()) }.boxed()
            }
        }
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

    async fn close(&self) {
        self.shared.shut();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut writer) = writer else { return };
        let reader = self.shared.reader.lock().await.take();
        if let Some(reader) = reader {
            reader.close().await;
        }
        if tokio::time::timeout(CLOSE, &mut writer).await.is_err() {
            tracing::warn!("closing the broker took too long; what was not confirmed may be lost");
            writer.abort();
        }
    }
}

/// Without [`Backend::close`] it ends as in a crash: what was confirmed is on disk, nothing else is promised.
impl Drop for EmbeddedBackend {
    fn drop(&mut self) {
        self.shared.shut();
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            writer.abort();
        }
    }
}
