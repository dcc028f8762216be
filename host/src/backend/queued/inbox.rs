//! The inbox of a queue: a task moves what the broker delivers into a queue of the host's own store, in its order, and
//! acknowledges it once it is on the disk.
//!
//! A message whose acknowledgement was lost is not moved twice: it is remembered in the transaction that moves it. Nothing
//! is handled here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;

use super::Remote;
use crate::backend::beside::Ledger;
use crate::backend::{
    Backend as _, BackendError, Delivery, Destination, Effects, EmbeddedBackend, Outgoing, Queue,
    QueueName, QueueSpec, Renewing, SettleError, Verdict,
};
use crate::pump::{Pump, Step, Work};
use crate::retry::RetryPolicy;
use crate::store::Reason;
use crate::wire::{self, Form};

/// Messages that are moved at once.
const BATCH: usize = 256;
/// How long an inbox that is given up is waited at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end of a batch is waited for.
const STOP: Duration = Duration::from_secs(5);
/// How soon a full inbox is looked at again.
const FULL: Duration = Duration::from_millis(200);

/// An inbox that is filled.
#[derive(Debug)]
pub(super) struct Inbox {
    /// In the store.
    queue: Queue,
    spec: Arc<Mutex<QueueSpec>>,
    pump: tokio::sync::Mutex<Pump>,
    drain: CancellationToken,
}

/// The name of the inbox of a queue.
pub(super) fn name(queue: &QueueName) -> Result<QueueName, BackendError> {
    format!("inbox:{queue}").parse()
}

/// Whether a queue has an inbox, from now or from before.
pub(super) async fn exists(queue: &QueueName, store: &EmbeddedBackend) -> bool {
    match name(queue) {
        Ok(name) => store.get_queue(&name).await.is_ok(),
        Err(_) => false,
    }
}

impl Inbox {
    /// Declares it, and begins to fill it.
    pub(super) async fn open(
        spec: QueueSpec,
        capacity: u64,
        remote: Arc<dyn Remote>,
        ledger: Arc<Ledger>,
        store: Arc<EmbeddedBackend>,
    ) -> Result<Self, BackendError> {
        let own = QueueSpec {
            lease: spec.lease,
            ..QueueSpec::new(name(&spec.name)?, Vec::new())
        };
        let queue = store.declare_queue(own).await?.queue;
        let title = format!("inbox of {}", spec.name);
        let spec = Arc::new(Mutex::new(spec));
        let drain = CancellationToken::new();
        let filling = Filling {
            source: Renewing::new(remote.clone()),
            drain: drain.clone(),
            remote,
            ledger,
            store,
            spec: spec.clone(),
            inbox: queue.name.clone(),
            capacity: capacity.max(1),
            room: 0,
        };
        let backoff = RetryPolicy {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            ..RetryPolicy::default()
        };
        Ok(Self {
            queue,
            spec,
            pump: tokio::sync::Mutex::new(Pump::start_draining(
                title,
                filling,
                backoff,
                drain.clone(),
            )),
            drain,
        })
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What the queue of the broker should be.
    pub(super) fn spec(&self) -> QueueSpec {
        read(&self.spec)
    }

    /// From now on its queue is declared like this.
    pub(super) fn redeclare(&self, spec: QueueSpec) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = spec;
    }

    /// What is being moved is moved and acknowledged first: a message without an identity would be moved once more.
    pub(super) async fn stop(&self) {
        self.drain.cancel();
        let mut pump = self.pump.lock().await;
        if tokio::time::timeout(STOP, pump.ended()).await.is_err() {
            pump.stop().await;
        }
    }
}

/// From the broker into an inbox.
#[derive(Debug)]
struct Filling {
    remote: Arc<dyn Remote>,
    ledger: Arc<Ledger>,
    store: Arc<EmbeddedBackend>,
    spec: Arc<Mutex<QueueSpec>>,
    inbox: QueueName,
    capacity: u64,
    /// So many messages fit in for certain.
    room: u64,
    source: Renewing,
    /// Ends it between two batches.
    drain: CancellationToken,
}

#[async_trait]
impl Work for Filling {
    async fn step(&mut self) -> Result<Step, String> {
        let max = self.room().await.map_err(|error| error.to_string())?;
        if max == 0 {
            // The broker keeps the rest.
            let full = self.drain.run_until_cancelled(tokio::time::sleep(FULL));
            return Ok(full.await.map_or(Step::End, |()| Step::Again));
        }
        let spec = || read(&self.spec);
        let next = self.source.next(max, spec);
        match self.drain.run_until_cancelled(next).await {
            Some(Ok(Some(batch))) => self.keep(batch).await,
            Some(Ok(None)) | None => Ok(Step::End),
            Some(Err(error)) => Err(error.to_string()),
        }
    }
}

fn read(spec: &Mutex<QueueSpec>) -> QueueSpec {
    spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Filling {
    /// How many messages may be taken. The store is asked only when that many have come.
    async fn room(&mut self) -> Result<usize, BackendError> {
        if self.room == 0 {
            let overview = self.store.overview().await?;
            let mut queues = overview.queues.iter();
            let own = queues.find(|status| status.spec.name == self.inbox);
            let depth = own.map_or(0, |status| status.depth());
            self.room = self.capacity.saturating_sub(depth);
        }
        Ok(usize::try_from(self.room).unwrap_or(usize::MAX).min(BATCH))
    }

    /// What cannot be kept goes back to its place in the broker.
    async fn keep(&mut self, batch: Vec<Delivery>) -> Result<Step, String> {
        self.room = self.room.saturating_sub(batch.len() as u64);
        let queue = read(&self.spec).name;
        let mut ended = Vec::with_capacity(batch.len());
        let mut moving: Vec<(Delivery, BoxFuture<'static, Result<(), SettleError>>)> = Vec::new();
        let mut trouble = None;
        for delivery in batch {
            match wire::decode(Form::Native, &delivery.packet) {
                Ok(message) => {
                    let outgoing = Outgoing {
                        to: Destination::Queue(self.inbox.clone()),
                        key: delivery.key.clone(),
                        route: delivery.route,
                        ..Outgoing::new((*message).clone())
                    };
                    match self.ledger.take_over(delivery.identity, outgoing) {
                        Ok(taken) => moving.push((delivery, taken)),
                        Err(SettleError::Refused(error)) => match error.for_good() {
                            Some(reason) => {
                                ended.push(delivery.bury(&queue, reason, error.to_string()));
                            }
                            None => trouble = Some(error.to_string()),
                        },
                        Err(error) => trouble = Some(error.to_string()),
                    }
                }
                Err(error) => {
                    ended.push(delivery.bury(&queue, Reason::Malformed, error.to_string()));
                }
            }
        }
        let (deliveries, taken): (Vec<_>, Vec<_>) = moving.into_iter().unzip();
        for (delivery, taken) in deliveries.into_iter().zip(join_all(taken).await) {
            match taken {
                Ok(()) => ended.push(delivery.settle(Verdict::Ack, Effects::default())),
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        for settled in self.remote.settle(ended).await {
            // It comes again, and is known then.
            if let Err(error) = settled {
                trouble = Some(error.to_string());
            }
        }
        trouble.map_or(Ok(Step::Again), Err)
    }
}

/// Out of an inbox that is given up: through the outbox, back to the queue of the broker. Also what waits for another
/// attempt, when its time has come.
#[derive(Debug)]
struct Emptying {
    ledger: Arc<Ledger>,
    store: Arc<EmbeddedBackend>,
    queue: QueueName,
    inbox: Queue,
}

/// Begins to empty the inbox of a queue, if it has one; it is deleted at the end.
pub(super) async fn empty(
    queue: &QueueName,
    store: &Arc<EmbeddedBackend>,
    ledger: &Arc<Ledger>,
) -> Option<Pump> {
    if !exists(queue, store).await {
        return None;
    }
    let inbox = Queue {
        name: name(queue).ok()?,
    };
    let emptying = Emptying {
        ledger: ledger.clone(),
        store: store.clone(),
        queue: queue.clone(),
        inbox,
    };
    let title = format!("giving up the inbox of {queue}");
    Some(Pump::start(title, emptying, RetryPolicy::default()))
}

#[async_trait]
impl Work for Emptying {
    async fn step(&mut self) -> Result<Step, String> {
        self.give_back().await.map_err(|error| error.to_string())
    }
}

impl Emptying {
    async fn give_back(&self) -> Result<Step, BackendError> {
        let refused = |error: &dyn std::fmt::Display| BackendError::Unavailable(error.to_string());
        let batch = self.store.receive(&self.inbox, BATCH, LOOK).await?;
        if batch.is_empty() {
            let overview = self.store.overview().await?;
            let mut queues = overview.queues.iter();
            let own = queues.find(|status| status.spec.name == self.inbox.name);
            if own.is_some_and(|own| own.depth() > 0) {
                return Ok(Step::Again);
            }
            self.store.delete_queue(&self.inbox.name).await?;
            return Ok(Step::End);
        }
        let mut ended = Vec::with_capacity(batch.len());
        for delivery in batch {
            let message = wire::decode(Form::Native, &delivery.packet);
            let outgoing = Outgoing {
                to: Destination::Queue(self.queue.clone()),
                key: delivery.key.clone(),
                route: delivery.route,
                ..Outgoing::new((*message.map_err(|error| refused(&error))?).clone())
            };
            let kept = self
                .ledger
                .wrap(&outgoing)
                .map_err(|error| refused(&error))?;
            let effects = Effects {
                publishes: vec![kept],
                state: None,
            };
            ended.push(delivery.settle(Verdict::Ack, effects));
        }
        let moved = ended.len();
        for settled in self.store.settle(ended).await {
            settled.map_err(|error| refused(&error))?;
        }
        tracing::info!(queue = %self.queue, messages = moved, "messages of an inbox that is given up go back to the broker");
        Ok(Step::Again)
    }
}
