//! Keeps every message in an inbox first, and hands it out from there: the seed's `QueuedBrokerSubscriber`.
//!
//! The inbox is a queue of any backend: of an [`EmbeddedBackend`](crate::backend::EmbeddedBackend) it survives the end of
//! the process (the seed's `DatabaseBrokerSubscriberQueue`), of a [`MemoryBackend`](crate::backend::MemoryBackend) it
//! only takes the load off a broker (`InMemoryBrokerSubscriberQueue`). Retries and dead letters are then the inbox's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{BackendSubscriber, Received, Refused, Subscriber};
use crate::backend::{
    Backend, BackendError, Destination, Outgoing, PublishError, QueueName, QueueSpec,
};
use crate::broker::Broker;
use crate::pump::{Pump, Step, Work};
use crate::retry::RetryPolicy;
use crate::store::Reason;
use crate::topic::Pattern;

/// How many messages are moved at once.
const BATCH: usize = 256;
/// How long an empty inbox is looked at once the source has ended. What becomes ready later stays there.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A subscription with an inbox.
///
/// A task moves what the subscription behind receives into the inbox, in order, and acknowledges it there once it is
/// safe here. It survives failures of both sides: what could not be kept stays where it was. After a crash between the
/// two a message is in the inbox twice; put a [`DuplicateValidator`](crate::validator::DuplicateValidator) on top, as
/// [`SubscriberBuilder`](super::SubscriberBuilder) does with its validators.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::message::{Message, Payload};
/// use sandbar::retry::RetryPolicy;
/// use sandbar::subscriber::{MemorySubscriber, QueuedSubscriber, Subscriber};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let messages = [Message::new("t".parse()?, Payload::text("7"))];
/// let source = MemorySubscriber::new(vec!["t".parse()?], messages).await?;
/// let inbox = Arc::new(MemoryBackend::new()); // or an `EmbeddedBackend`, to survive the end of the process
/// let mut subscriber =
///     QueuedSubscriber::start(Box::new(source), inbox, "inbox".parse()?, RetryPolicy::default()).await?;
/// subscriber.receive().await?.ack().await?;
/// assert!(subscriber.next().await.is_none()); // the source has ended and the inbox is empty
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueuedSubscriber {
    inbox: BackendSubscriber,
    topics: Vec<Pattern>,
    refused: Refused,
    ended: Arc<Ended>,
    pump: Pump,
}

/// Why the source has ended, once it has.
#[derive(Debug, Default)]
struct Ended {
    reason: Mutex<Option<BackendError>>,
    now: CancellationToken,
}

impl Ended {
    fn with(&self, reason: BackendError) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.now.cancel();
    }

    fn reason(&self) -> BackendError {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone().unwrap_or(BackendError::Closed)
    }
}

impl QueuedSubscriber {
    /// Declares the inbox and starts to move messages into it. Of the policy only the delays count.
    ///
    /// # Errors
    /// When the inbox cannot be declared.
    pub async fn start(
        source: Box<dyn Subscriber>,
        backend: Arc<dyn Backend>,
        queue: QueueName,
        backoff: RetryPolicy,
    ) -> Result<Self, BackendError> {
        let spec = QueueSpec::new(queue.clone(), Vec::new());
        let inbox = BackendSubscriber::subscribe(backend.clone(), spec).await?;
        let (topics, refused) = (source.topics().to_vec(), source.refused());
        let ended = Arc::new(Ended::default());
        let name = format!("inbox {queue}");
        let work = Keep {
            source,
            backend,
            queue,
            ended: ended.clone(),
        };
        Ok(Self {
            inbox,
            topics,
            refused,
            ended,
            pump: Pump::start(name, work, backoff),
        })
    }

    pub(super) fn keeping_open(self, broker: Option<Arc<Broker>>) -> Self {
        Self {
            inbox: self.inbox.keeping_open(broker),
            ..self
        }
    }

    /// How often moving messages has failed; it was tried again each time.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.pump.failures()
    }
}

#[async_trait]
impl Subscriber for QueuedSubscriber {
    fn topics(&self) -> &[Pattern] {
        &self.topics
    }

    async fn receive_batch(&mut self, max: usize) -> Result<Vec<Received>, BackendError> {
        tokio::select! {
            biased;
            batch = self.inbox.receive_batch(max) => return batch,
            () = self.ended.now.cancelled() => {}
        }
        match self.inbox.ready(max, LAST_LOOK).await? {
            none if none.is_empty() => Err(self.ended.reason()),
            received => Ok(received),
        }
    }

    fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// Closes the subscription behind. What is in the inbox stays there for the next one that is started on it.
    async fn close(&mut self) {
        self.pump.stop().await;
    }
}

/// From a subscription to an inbox.
struct Keep {
    source: Box<dyn Subscriber>,
    backend: Arc<dyn Backend>,
    queue: QueueName,
    ended: Arc<Ended>,
}

#[async_trait]
impl Work for Keep {
    async fn step(&mut self) -> Result<Step, String> {
        let batch = match self.source.receive_batch(BATCH).await {
            Ok(batch) => batch,
            Err(BackendError::Unavailable(error)) => return Err(error),
            Err(ended) => {
                self.ended.with(ended);
                return Ok(Step::End);
            }
        };
        let kept = batch.iter().map(|received| Outgoing {
            to: Destination::Queue(self.queue.clone()),
            key: received.key().cloned(),
            ..Outgoing::new(received.message().as_ref().clone())
        });
        let results = self.backend.publish(kept.collect()).await;
        // The inbox is one queue: what it refuses for a while it refuses all behind it as well, so the order is kept.
        let mut trouble = None;
        let mut ends = Vec::with_capacity(batch.len());
        for (received, result) in batch.into_iter().zip(results) {
            match result {
                Ok(_) => ends.push((received, None)),
                Err(error @ PublishError::TooLarge { .. }) => ends.push((received, Some(error))),
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        let ends = ends.into_iter().map(|(received, refused)| async move {
            match refused {
                None => received.ack().await,
                Some(error) => {
                    received
                        .dead_letter(Reason::TooLarge, error.to_string())
                        .await
                }
            }
        });
        for error in join_all(ends).await.into_iter().filter_map(Result::err) {
            trouble = Some(error.to_string());
        }
        trouble.map_or(Ok(Step::Again), Err)
    }

    async fn end(&mut self) {
        self.source.close().await;
        self.ended.with(BackendError::Closed);
    }
}
