//! `rabbitmq`: a RabbitMQ server, or a cluster, for several hosts.
//!
//! The server keeps the messages: topics are routing keys, groups are a chain of exchanges (`topology`), delays are queues
//! (`delay`). A consumer for each queue (`feed`) holds what was prefetched, in the same structure as the brokers of our
//! own, so that leases, keys and tokens mean the same. Connections are supervised (`link`), and everything that runs over
//! one is rebuilt with it. It isn't transactional: what a message causes is confirmed before it is acknowledged
//! (`settle`); state and dead letters are in the host's own store (`beside`). docs/brokers/rabbitmq.md has the whole
//! mapping.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::beside::{Ledger, Target, forward};
use super::kinds::Kind as _;
use super::queued::{Modes, QueuedBackend, Remote};
use super::table::{Attempt, Entry, MAX_CONTENT, millis};
use super::waiting::receive;
use super::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, KeyOrder, OpenError,
    Outgoing, Overview, PublishError, Queue, QueueName, QueueSpec, Receipt, Release, SettleError,
    Settlement, Source, Token,
};
use crate::topic::TopicName;

mod arrived;
mod connect;
mod declare;
mod delay;
mod failure;
mod feed;
mod headers;
mod kept;
mod link;
mod look;
mod options;
mod outgoing;
mod publish;
mod registry;
mod settle;
mod shared;
mod source;
mod stored;
mod topology;

pub use options::RabbitMqOptions;

use arrived::Arrived;
use link::Link;
use outgoing::Parcel;
use publish::Publisher;
use shared::{Feed, Shared};
use source::RabbitMqSource;

/// How long closing waits for what has begun.
const CLOSE: Duration = Duration::from_secs(10);
/// How often old entries of the ledger are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// A broker on a RabbitMQ server.
#[derive(Debug)]
pub struct RabbitMqBackend {
    shared: Arc<Shared>,
    about: String,
}

impl RabbitMqBackend {
    /// Begins to connect, and opens the store of the data folder. The server need not be there yet: calls wait for it a
    /// while and then say why it cannot be reached. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]: an option cannot be used, or the data folder.
    pub async fn open(data: &Path, options: RabbitMqOptions) -> Result<Self, OpenError> {
        let other = |reason: String| OpenError::Other {
            path: data.to_owned(),
            reason,
        };
        if let Some((key, problem)) = options.problems().into_iter().next() {
            return Err(other(format!("[broker.rabbitmq] `{key}`: {problem}")));
        }
        let server = options.server().map_err(other)?;
        let ledger = Ledger::open(data, "rabbitmq", options.letters).await?;
        let about = format!(
            "RabbitMQ at {}, virtual host {}, {} queues, publisher confirms: what is confirmed has been written to the \
             disk{}; state and dead letters are in {}",
            server.place(),
            server.uri.vhost,
            if options.quorum { "quorum" } else { "classic" },
            if options.quorum {
                " of most nodes of the cluster"
            } else {
                " of one node, and is lost with it"
            },
            data.display()
        );
        let publisher = Publisher::new(Link::start(server.clone(), "publisher"));
        let link = Link::start(server, "consumer");
        let shared = Arc::new(Shared::new(options, link, publisher, ledger));
        if let Ok(store) = shared.ledger.store() {
            let (store, sender) = (store.clone(), shared.clone());
            shared.tasks.spawn(async move {
                let outbox = sender.ledger.outbox().clone();
                let forwarding = forward(store, outbox, &*sender);
                sender.stop.run_until_cancelled(forwarding).await;
            });
            shared.tasks.spawn(forget(shared.clone()));
        }
        Ok(Self { shared, about })
    }

    /// The same with an inbox for the queues that are received so, and with an outbox, if its store is open here.
    pub(super) fn queued(self: Arc<Self>) -> Arc<dyn Backend> {
        let (ledger, options) = (&self.shared.ledger, &self.shared.options);
        let modes = Modes {
            receiving: options.receiving,
            publishing: options.publishing,
            inbox: options.inbox,
        };
        match ledger.store() {
            Ok(store) => Arc::new(QueuedBackend::new(
                self.clone(),
                ledger.clone(),
                store.clone(),
                modes,
            )),
            Err(_) => self,
        }
    }

    /// Makes sure that a queue is known here.
    async fn know(&self, name: &QueueName) -> Result<(), BackendError> {
        if self.shared.open()?.table.slot(name).is_some() {
            return Ok(());
        }
        let session = self.shared.ready().await?;
        if !declare::exists(&session, name).await? {
            return Err(BackendError::UnknownQueue(name.clone()));
        }
        let mut inner = self.shared.open()?;
        if inner.table.slot(name).is_none() {
            let spec = QueueSpec::new(name.clone(), Vec::new());
            inner.table.add(spec, Feed::new(false));
        }
        Ok(())
    }

    /// Does something that takes the lock of all hosts. It goes on even if nobody waits for it, so that they get their
    /// turn.
    async fn to_the_end(
        &self,
        work: impl Future<Output = Result<(), BackendError>> + Send + 'static,
    ) -> Result<(), BackendError> {
        let done = self.shared.tasks.spawn(work).await;
        done.unwrap_or(Err(BackendError::Closed))
    }

    /// Queues that end with the process are deleted; if that fails, the server does it a little later.
    async fn delete_ephemeral(&self) {
        let names: Vec<QueueName> = {
            let mut inner = self.shared.lock();
            let ours = |entry: &Entry<Feed, Arrived>| entry.spec.ephemeral && entry.extra.ours;
            let queues = inner.table.iter_mut();
            let ending = queues.filter(|(_, entry)| ours(entry));
            ending.map(|(_, entry)| entry.spec.name.clone()).collect()
        };
        if names.is_empty() {
            return;
        }
        let Ok(session) = self.shared.link.session(Duration::ZERO).await else {
            return;
        };
        if let Ok(channel) = session.channel().await {
            for name in names {
                drop(declare::delete(&channel, &name).await);
            }
        }
    }
}

async fn forget(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    while stop
        .run_until_cancelled(tokio::time::sleep(FORGET_EVERY))
        .await
        .is_some()
    {
        shared.ledger.forget().await;
    }
}

impl Shared {
    /// Takes what has arrived of a queue, or says how to wait for it.
    fn look(self: &Arc<Self>, queue: &Queue, max: usize) -> Result<Attempt, BackendError> {
        let release: Arc<dyn Release> = self.clone();
        let now = self.clock.now_ms();
        let mut inner = self.open()?;
        Ok(inner.table.named(&queue.name)?.1.take(max, now, &release))
    }

    fn trouble(&self, queue: &Queue) -> Result<(), BackendError> {
        let mut inner = self.open()?;
        let (_, entry) = inner.table.named(&queue.name)?;
        let trouble = entry.extra.trouble.borrow().clone();
        trouble.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

#[async_trait]
impl Target for Shared {
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let mut parcels = Vec::with_capacity(batch.len());
        let mut refused = Vec::with_capacity(batch.len());
        for outgoing in &batch {
            match Parcel::new(outgoing) {
                Ok(parcel) => {
                    parcels.push(parcel);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let mut published = match self.ready().await {
            Ok(_) => self.publisher.publish(&parcels).await,
            Err(error) => {
                let error = match error {
                    BackendError::Closed => PublishError::Closed,
                    other => PublishError::Unavailable(other.to_string()),
                };
                return batch.iter().map(|_| Err(error.clone())).collect();
            }
        }
        .into_iter();
        let mut next = || published.next().unwrap_or(Err(PublishError::Closed));
        refused
            .into_iter()
            .map(|refused| refused.map_or_else(&mut next, Err))
            .collect()
    }
}

impl Remote for RabbitMqBackend {
    fn beyond(&self) -> String {
        "of what is in RabbitMQ, these are the queues of this host, without what waits there for its time; `rabbitmqctl list_queues` shows all of it"
            .to_owned()
    }
}

#[async_trait]
impl Backend for RabbitMqBackend {
    fn kind(&self) -> &'static str {
        "rabbitmq"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transactional: false,
            durable: true,
            delay: true,
            wildcards: true,
            key_order: if self.shared.options.single_active {
                KeyOrder::Everywhere
            } else {
                KeyOrder::WithinHost
            },
            counts_queues: false,
            max_content: MAX_CONTENT,
            max_batch: 512,
        }
    }

    async fn health(&self) -> Result<Health, BackendError> {
        drop(self.shared.open()?);
        let session = match self.shared.publisher.session().await {
            Ok(session) => session,
            Err(Some(failure)) => return Err(failure.into()),
            Err(None) => return Err(BackendError::Closed),
        };
        if let Some(reason) = session.blocked() {
            return Err(BackendError::Unavailable(format!(
                "RabbitMQ takes no messages because of: {reason}"
            )));
        }
        self.shared.ready().await?;
        Ok(Health {
            detail: self.about.clone(),
        })
    }

    async fn overview(&self) -> Result<Overview, BackendError> {
        drop(self.shared.open()?);
        Ok(Overview {
            queues: self.shared.waiting().await?,
            beyond: Some(self.beyond()),
            ..Overview::default()
        })
    }

    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        Err(BackendError::Invalid(format!(
            "what waits in queue `{name}` is in RabbitMQ; `rabbitmqctl purge_queue` removes it"
        )))
    }

    async fn declare_topic(&self, _: &TopicName) -> Result<(), BackendError> {
        self.shared.ready().await.map(drop)
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        self.shared.ready().await?;
        for name in std::iter::once(&spec.name).chain(&spec.dead_letter) {
            declare::check_name(name)?;
        }
        let declared = DeclaredQueue {
            queue: Queue {
                name: spec.name.clone(),
            },
            dead_letter: spec.dead_letter.clone().map(|name| Queue { name }),
        };
        let shared = self.shared.clone();
        let declaring = async move {
            shared.declare(&spec).await?;
            Ok(shared.release_kept(spec.topics).await?)
        };
        self.to_the_end(declaring).await.map(|()| declared)
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        let session = self.shared.ready().await?;
        if !declare::exists(&session, name).await? {
            return Err(BackendError::UnknownQueue(name.clone()));
        }
        Ok(Queue { name: name.clone() })
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        let (shared, name) = (self.shared.clone(), name.clone());
        self.to_the_end(async move { shared.delete(&name).await })
            .await
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.shared.ready().await?;
        Ok(self.shared.forget_kept(topic).await?)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        self.shared.publish(batch).await
    }

    fn check(&self, outgoing: &[Outgoing]) -> Result<(), PublishError> {
        outgoing
            .iter()
            .try_for_each(|one| Parcel::new(one).map(drop))
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
        self.know(&queue.name).await?;
        let _interest = self.shared.want(&queue.name)?;
        let received = receive(wait, || self.shared.look(queue, max)).await?;
        if received.is_empty() {
            self.shared.trouble(queue)?;
        }
        Ok(received)
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        self.know(&queue.name).await?;
        let source = RabbitMqSource::new(self.shared.clone(), queue.clone())?;
        Ok(Box::new(source))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        self.shared.settle(batch)
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
        {
            let mut inner = self.shared.lock();
            if inner.closed {
                return;
            }
            inner.closed = true;
            inner.table.wake_all();
        }
        let ending = async {
            self.shared.tasks.close();
            self.shared.stop.cancel();
            self.shared.tasks.wait().await;
            self.delete_ephemeral().await;
        };
        if tokio::time::timeout(CLOSE, ending).await.is_err() {
            tracing::warn!(
                "closing the broker took too long; what was not acknowledged comes again"
            );
        }
        tokio::join!(self.shared.publisher.close(), self.shared.link.close());
        self.shared.ledger.close().await;
    }
}

/// Without [`Backend::close`] it ends as in a crash: what was not acknowledged comes again.
impl Drop for RabbitMqBackend {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.stop.cancel();
    }
}
