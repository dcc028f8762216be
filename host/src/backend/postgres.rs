//! `postgres`: a durable broker in a PostgreSQL database, shared by any number of hosts.
//!
//! What is confirmed is committed: publishing returns after the transaction that holds the message, settling after the
//! one that holds the end of the delivery together with everything that it caused. Whose a message is, is a lease in the
//! database, by the time of the database, with a fence for each delivery; so a host that was dead, frozen or cut off can
//! neither lose nor repeat what another one has done meanwhile. It holds no SQL (that is in `store::postgres`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};
use tokio_util::task::AbortOnDropHandle;

use super::table::MAX_CONTENT;
use super::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, KeyOrder, OpenError,
    Outgoing, Overview, PollingSource, PublishError, Queue, QueueName, QueueSpec, Receipt,
    SettleError, Settlement, Source, Token,
};
use crate::store::postgres::{Failure, Kind, Place, Session};
use crate::topic::TopicName;

mod admin;
mod claimer;
mod group;
mod keeper;
mod letters;
mod listener;
mod look;
mod options;
mod outcome;
mod overlay;
mod plan;
mod reader;
mod receive;
mod remote;
mod settle;
mod shared;
mod stored;
mod writer;

pub use options::PostgresOptions;

use claimer::Claimer;
use keeper::Keeper;
use reader::Reader;
use shared::{CLAIMERS, Shared};
use writer::Writer;

/// How long closing may take, for each of its two steps.
const CLOSE: Duration = Duration::from_secs(8);

/// A broker in a database.
#[derive(Debug)]
pub struct PostgresBackend {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

impl PostgresBackend {
    /// Opens the broker of a schema, which is made if it isn't there. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]: the server cannot be reached or refuses, or the schema is of a newer release.
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let url = options.url.resolve(Path::new(""));
        let url = url.map_err(|reason| OpenError::Address {
            kind: "postgres",
            reason,
        })?;
        let place = Place::new(&url, &options.schema, options.pooled, options.deadline)?;
        let place = Arc::new(place);
        let mut session = Session::new(place.clone());
        session.migrate().await?;
        let server = |failure: Failure| OpenError::Server(failure.to_string());
        let mut tx = session.begin(Kind::Read).await.map_err(server)?;
        tx.describe().await.map_err(server)?;
        let topology = tx.topology_now().await.map_err(server)?;
        tx.end().await;
        let writers = options.writers.max(1);
        let (listen, timeout) = (options.listen && !options.pooled, options.host_timeout);
        let shared = Arc::new(Shared::new(place, options, topology));
        let mut tx = session.begin(Kind::Fast).await.map_err(server)?;
        tx.alive(&shared.host, timeout, &HashMap::new())
            .await
            .map_err(server)?;
        keeper::commit(tx).await.map_err(server)?;
        session.close().await;

        let mut tasks = Vec::new();
        for number in 0..writers {
            tasks.push(spawn(Writer::new(shared.clone(), number == 0).run()));
        }
        for lane in 0..CLAIMERS {
            tasks.push(spawn(Claimer::new(shared.clone(), lane).run()));
        }
        tasks.push(spawn(Reader::new(shared.clone()).run()));
        tasks.push(spawn(Keeper::new(shared.clone()).run()));
        if listen {
            tasks.push(spawn(listener::listen(shared.clone())));
        }
        Ok(Self {
            shared,
            tasks: Mutex::new(tasks),
        })
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

#[async_trait]
impl Backend for PostgresBackend {
    fn kind(&self) -> &'static str {
        "postgres"
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
        drop(self.shared.open()?);
        let detail = self.shared.describe().await?;
        Ok(Health { detail })
    }

    async fn declare_topic(&self, _: &TopicName) -> Result<(), BackendError> {
        drop(self.shared.open()?);
        Ok(())
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        drop(self.shared.open()?);
        Ok(self.shared.declare(spec).await?)
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        self.shared.find(name).await?;
        self.shared.open()?.table.named(name)?;
        Ok(Queue { name: name.clone() })
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        drop(self.shared.open()?);
        Ok(self.shared.delete(name).await?)
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        drop(self.shared.open()?);
        Ok(self.shared.delete_topic(topic).await?)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        self.shared.publish(batch).await
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
        self.shared.receive(queue, max, wait).await
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        let queue = self.get_queue(&queue.name).await?;
        Ok(Box::new(PollingSource::new(self, queue)))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        self.shared.settle(batch)
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        self.shared.extend(tokens, lease).await
    }

    async fn overview(&self) -> Result<Overview, BackendError> {
        self.shared.overview().await
    }

    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        self.shared.purge(name).await
    }

    async fn close(&self) {
        self.shared.shut();
        let tasks: Vec<_> = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.drain(..).collect()
        };
        if tasks.is_empty() {
            return;
        }
        if tokio::time::timeout(CLOSE, join_all(tasks)).await.is_err() {
            tracing::warn!("closing the broker took too long; what was not confirmed may be lost");
        }
        match tokio::time::timeout(CLOSE, self.shared.leave_database()).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(
                error = %failure,
                "what was in flight comes again when its leases end"
            ),
            Err(_) => tracing::warn!(
                "the database does not answer; what was in flight comes again when its leases end"
            ),
        }
    }
}

/// Without [`Backend::close`] it ends as in a crash: what was confirmed is committed, what was in flight comes again when
/// its leases end.
impl Drop for PostgresBackend {
    fn drop(&mut self) {
        self.shared.shut();
    }
}
