//! A network broker whose messages pass through the host's own store: the seed's `QueuedBrokerSubscriber` and
//! `QueuedBrokerPublisher`, for whole hosts.
//!
//! A queue that is received [`Mode::Queued`] has an inbox: a queue in the store into which a task moves what the broker
//! delivers (`inbox`). From there it is handled as on a broker of our own, so that what it causes, its state and its end are
//! one transaction; what it publishes goes through the outbox. All other queues are the broker's, untouched.
//! It is no broker of its own, and it knows none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::beside::Ledger;
use super::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Destination, EmbeddedBackend,
    Health, Mode, Outgoing, Overview, PublishError, Queue, QueueName, QueueSpec, Receipt,
    SettleError, Settlement, Source, Token,
};
use crate::pump::Pump;
use crate::topic::TopicName;

mod inbox;
mod marked;
mod settle;

use inbox::Inbox;
use marked::MarkedSource;

/// What can be chosen about the way of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Modes {
    /// Of queues that say nothing.
    pub(super) receiving: Mode,
    pub(super) publishing: Mode,
    /// Messages that may wait in an inbox.
    pub(super) inbox: u64,
}

/// A broker that keeps its messages elsewhere.
pub(super) trait Remote: Backend {
    /// What waits in it is not shown here; where it can be seen.
    fn beyond(&self) -> String;
}

/// See the module.
#[derive(Debug)]
pub(super) struct QueuedBackend {
    remote: Arc<dyn Remote>,
    ledger: Arc<Ledger>,
    store: Arc<EmbeddedBackend>,
    modes: Modes,
    inboxes: Mutex<HashMap<QueueName, Arc<Inbox>>>,
    /// Inboxes of before, which are emptied.
    leaving: tokio::sync::Mutex<HashMap<QueueName, Pump>>,
    /// One declaration at a time.
    declaring: tokio::sync::Mutex<()>,
}

impl QueuedBackend {
    /// `store` is that of the ledger.
    pub(super) fn new(
        remote: Arc<dyn Remote>,
        ledger: Arc<Ledger>,
        store: Arc<EmbeddedBackend>,
        modes: Modes,
    ) -> Self {
        Self {
            remote,
            ledger,
            store,
            modes,
            inboxes: Mutex::default(),
            leaving: tokio::sync::Mutex::default(),
            declaring: tokio::sync::Mutex::default(),
        }
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<QueueName, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self, name: &QueueName) -> Option<Arc<Inbox>> {
        self.inboxes().get(name).cloned()
    }

    /// A queue that ends with the process is not worth a transaction.
    fn is_queued(&self, spec: &QueueSpec) -> bool {
        !spec.ephemeral && spec.receiving.unwrap_or(self.modes.receiving) == Mode::Queued
    }

    /// Makes sure that there is an inbox, and that it is the inbox of such a queue.
    async fn declare_inbox(&self, spec: &QueueSpec) -> Result<(), BackendError> {
        if let Some(inbox) = self.inbox(&spec.name) {
            inbox.redeclare(spec.clone());
            return Ok(());
        }
        self.stop_leaving(&spec.name).await;
        let (remote, ledger) = (self.remote.clone(), self.ledger.clone());
        let store = self.store.clone();
        let inbox = Inbox::open(spec.clone(), self.modes.inbox, remote, ledger, store).await?;
        self.inboxes().insert(spec.name.clone(), Arc::new(inbox));
        Ok(())
    }

    /// What an earlier start of the host left in the inbox of a queue that has none any more goes back to the broker.
    async fn give_up(&self, name: &QueueName) {
        if let Some(inbox) = self.take(name) {
            inbox.stop().await;
        }
        let mut leaving = self.leaving.lock().await;
        if !leaving.contains_key(name)
            && let Some(pump) = inbox::empty(name, &self.store, &self.ledger).await
        {
            leaving.insert(name.clone(), pump);
        }
    }

    async fn stop_leaving(&self, name: &QueueName) {
        let leaving = self.leaving.lock().await.remove(name);
        if let Some(mut leaving) = leaving {
            leaving.stop().await;
        }
    }

    fn take(&self, name: &QueueName) -> Option<Arc<Inbox>> {
        self.inboxes().remove(name)
    }
}

#[async_trait]
impl Backend for QueuedBackend {
    fn kind(&self) -> &'static str {
        self.remote.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.remote.capabilities()
    }

    async fn health(&self) -> Result<Health, BackendError> {
        self.store.health().await?;
        self.remote.health().await
    }

    async fn declare_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.remote.declare_topic(topic).await
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        let _one = self.declaring.lock().await;
        if !self.is_queued(&spec) {
            let declared = self.remote.declare_queue(spec.clone()).await?;
            if !spec.ephemeral {
                self.give_up(&spec.name).await;
            }
            return Ok(declared);
        }
        match self.remote.declare_queue(spec.clone()).await {
            Ok(declared) => {
                self.declare_inbox(&spec).await?;
                Ok(declared)
            }
            // What is in the inbox can be handled all the same; the queue is declared as soon as that is possible.
            Err(BackendError::Unavailable(reason))
                if inbox::exists(&spec.name, &self.store).await =>
            {
                tracing::warn!(queue = %spec.name, %reason, "the broker is away; what is in the inbox is handled meanwhile");
                self.declare_inbox(&spec).await?;
                Ok(DeclaredQueue {
                    queue: Queue { name: spec.name },
                    dead_letter: spec.dead_letter.map(|name| Queue { name }),
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        if self.inbox(name).is_some() {
            return Ok(Queue { name: name.clone() });
        }
        self.remote.get_queue(name).await
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        let _one = self.declaring.lock().await;
        // Before, or it would declare the queue again.
        let inbox = self.take(name);
        if let Some(inbox) = &inbox {
            inbox.stop().await;
        }
        if let Err(error) = self.remote.delete_queue(name).await {
            if let Some(inbox) = inbox {
                self.declare_inbox(&inbox.spec()).await?;
            }
            return Err(error);
        }
        self.stop_leaving(name).await;
        self.store.delete_queue(&inbox::name(name)?).await
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.remote.delete_topic(topic).await
    }

    fn check(&self, outgoing: &[Outgoing]) -> Result<(), PublishError> {
        self.remote.check(outgoing)
    }

    /// Through the outbox, unless the sender wants to know at once whether somebody gets it, or names a queue.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        if self.modes.publishing == Mode::Direct {
            return self.remote.publish(batch).await;
        }
        let mut ways = Vec::with_capacity(batch.len());
        let (mut straight, mut kept) = (Vec::new(), Vec::new());
        for outgoing in batch {
            if outgoing.mandatory || outgoing.to != Destination::Topic {
                straight.push(outgoing);
                ways.push(Ok(Mode::Direct));
                continue;
            }
            let checked = self.remote.check(std::slice::from_ref(&outgoing));
            match checked.and_then(|()| self.ledger.wrap(&outgoing)) {
                Ok(wrapped) => {
                    kept.push(wrapped);
                    ways.push(Ok(Mode::Queued));
                }
                Err(error) => ways.push(Err(error)),
            }
        }
        let (straight, kept) = tokio::join!(
            async {
                match straight.is_empty() {
                    true => Vec::new(),
                    false => self.remote.publish(straight).await,
                }
            },
            self.store.publish(kept)
        );
        let (mut straight, mut kept) = (straight.into_iter(), kept.into_iter());
        let results = ways.into_iter().map(|way| match way? {
            Mode::Direct => straight.next().unwrap_or(Err(PublishError::Closed)),
            Mode::Queued => kept.next().unwrap_or(Err(PublishError::Closed)),
        });
        results.collect()
    }

    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        let Some(inbox) = self.inbox(&queue.name) else {
            return self.remote.receive(queue, max, wait).await;
        };
        let received = self.store.receive(inbox.queue(), max, wait).await;
        let received = received.map_err(|error| marked::of(&queue.name, error))?;
        Ok(received.into_iter().map(marked::mark).collect())
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        let Some(inbox) = self.inbox(&queue.name) else {
            return self.remote.clone().subscribe(queue).await;
        };
        let source = self.store.clone().subscribe(inbox.queue()).await?;
        Ok(Box::new(MarkedSource {
            source,
            queue: queue.name.clone(),
        }))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        self.settle_each(batch)
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        let (ours, theirs): (Vec<Token>, Vec<Token>) =
            tokens.iter().partition(|token| marked::is_marked(**token));
        let ours: Vec<Token> = ours.into_iter().map(marked::unmark).collect();
        let (ours, theirs) = tokio::join!(
            self.store.extend(&ours, lease),
            self.remote.extend(&theirs, lease)
        );
        let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
        let results = tokens.iter().map(|token| {
            let result = match marked::is_marked(*token) {
                true => ours.next(),
                false => theirs.next(),
            };
            result.unwrap_or(Err(SettleError::Closed))
        });
        results.collect()
    }

    /// What waits here, and in the broker as far as that tells; it says where the rest can be seen.
    async fn overview(&self) -> Result<Overview, BackendError> {
        let mut overview = self.store.overview().await?;
        match self.remote.overview().await {
            Ok(remote) => {
                overview.queues.extend(remote.queues);
                overview
                    .queues
                    .sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
            }
            // What is here can be told all the same.
            Err(BackendError::Unavailable(reason)) => {
                overview.beyond = Some(format!("{reason}, so what waits there is not among these"));
                return Ok(overview);
            }
            Err(error) => return Err(error),
        }
        overview.beyond = Some(self.remote.beyond());
        Ok(overview)
    }

    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        match self.store.get_queue(name).await {
            Ok(_) => self.store.purge_queue(name).await,
            Err(_) => self.remote.purge_queue(name).await,
        }
    }

    async fn close(&self) {
        let inboxes: Vec<Arc<Inbox>> = self.inboxes().drain().map(|(_, inbox)| inbox).collect();
        for inbox in inboxes {
            inbox.stop().await;
        }
        for (_, mut leaving) in self.leaving.lock().await.drain() {
            leaving.stop().await;
        }
        // It closes the store as well.
        self.remote.close().await;
    }
}

impl QueuedBackend {
    /// Both sides take their orders here, before it returns.
    fn settle_each(
        &self,
        batch: Vec<Settlement>,
    ) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        let mut ways: Vec<Result<bool, SettleError>> = Vec::with_capacity(batch.len());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for settlement in batch {
            if !marked::is_marked(settlement.token) {
                ways.push(Ok(false));
                theirs.push(settlement);
                continue;
            }
            match self.through_the_store(settlement) {
                Ok(settlement) => {
                    ways.push(Ok(true));
                    ours.push(settlement);
                }
                Err(error) => ways.push(Err(error)),
            }
        }
        if ours.is_empty() && ways.iter().all(Result::is_ok) {
            return self.remote.settle(theirs);
        }
        let (ours, theirs) = (self.store.settle(ours), self.remote.settle(theirs));
        async move {
            let (ours, theirs) = tokio::join!(ours, theirs);
            let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
            let results = ways.into_iter().map(|way| {
                let result = match way? {
                    true => ours.next(),
                    false => theirs.next(),
                };
                result.unwrap_or(Err(SettleError::Closed))
            });
            results.collect()
        }
        .boxed()
    }
}
