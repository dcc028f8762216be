//! `local`: a [`Backend`] and a [`Store`](crate::store::Store) over the connection to the owner of a data folder.
//!
//! It forwards and waits; it does not connect again. Batches are in [`batch`], the store's part in [`stored`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Report, UNEXPECTED};
use super::budget::Budget;
use super::connection::{Connection, Unsent};
use super::protocol::{Call, Operation, Spec};
use super::{MAX_LIST, MAX_REQUESTS};
use crate::backend::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, Outgoing, Overview,
    PollingSource, PublishError, Queue, QueueName, QueueSpec, Receipt, SettleError, Settlement,
    Source, SourceEvent, Token,
};
use crate::topic::TopicName;

mod batch;
mod stored;

/// The owner is asked again after this time, so that nothing waits for a client that stopped reading.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A longer wait is as good as this one, and moments don't overflow.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The broker of the process that owns a data folder.
///
/// When the owner ends, everything fails with [`BackendError::Unavailable`], what waits included, and
/// [`subscriptions`](Backend::subscribe) end. Queues that were declared as ephemeral, and deliveries that were not
/// settled, end with the connection: when this is closed or dropped with all its clones, or when the process is killed.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    connection: Arc<Connection>,
    requests: Arc<Budget>,
    /// Waits for messages have a budget of their own, so that everything else always gets through.
    receives: Arc<Budget>,
}

impl LocalBackend {
    /// Connects to the process that owns a data folder.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when none answers, [`BackendError::Invalid`] when what answers is another release
    /// or may not be used.
    pub async fn connect(dir: &Path) -> Result<Self, BackendError> {
        Ok(Self {
            connection: Arc::new(Connection::open(dir).await?),
            requests: Arc::new(Budget::new(MAX_REQUESTS / 2)),
            receives: Arc::new(Budget::new(MAX_REQUESTS / 2)),
        })
    }

    /// The process that owns the data folder.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.connection.welcome().pid
    }

    /// Asks the host that owns the data folder, in words that it understands.
    ///
    /// # Errors
    /// [`BackendError::Invalid`] when no host owns it; otherwise as every call.
    pub async fn ask_host(&self, question: &str) -> Result<String, BackendError> {
        match self.call(Call::Operate(Operation::Host(question))).await? {
            Answer::Operated(Report::Host(answer)) => Ok(answer),
            other => Err(other.into_error()),
        }
    }

    /// Asks something short.
    async fn call(&self, call: Call<'_>) -> Result<Answer, BackendError> {
        let _share = self.requests.share(0).await;
        self.exchange(call).await
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Answer, BackendError> {
        let ticket = self.connection.ask(call).map_err(|unsent| match unsent {
            Unsent::Lost(lost) => lost.into(),
            Unsent::TooLong(error) => BackendError::Invalid(error.to_string()),
        })?;
        Ok(ticket.wait().await?)
    }

    /// Asks for something that is either done or not.
    async fn order(&self, call: Call<'_>) -> Result<(), BackendError> {
        match self.call(call).await? {
            Answer::Done => Ok(()),
            other => Err(other.into_error()),
        }
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        self.connection.welcome().capabilities()
    }

    async fn health(&self) -> Result<Health, BackendError> {
        match self.call(Call::Health).await? {
            Answer::Health(detail) => {
                let (owner, place) = (self.owner(), self.connection.place());
                Ok(Health {
                    detail: format!("through the host of `{place}`, process {owner}: {detail}"),
                })
            }
            other => Err(other.into_error()),
        }
    }

    async fn declare_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.order(Call::DeclareTopic(topic.as_str())).await
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        if spec.topics.len() > MAX_LIST {
            return Err(BackendError::Invalid(format!(
                "queue `{}` has {} topics and may have {MAX_LIST}; use patterns",
                spec.name,
                spec.topics.len()
            )));
        }
        match self.call(Call::DeclareQueue(Spec::from(&spec))).await? {
            Answer::Declared(declared) => Ok(declared),
            other => Err(other.into_error()),
        }
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        match self.call(Call::GetQueue(name.as_str())).await? {
            Answer::Queue(queue) => Ok(queue),
            other => Err(other.into_error()),
        }
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        self.order(Call::DeleteQueue(name.as_str())).await
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        self.order(Call::DeleteTopic(topic.as_str())).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        self.publish_batch(&batch).await
    }

    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        let until = Instant::now() + wait.min(FOREVER);
        let Ok(_share) = timeout_at(until, self.receives.share(0)).await else {
            return Ok(Vec::new());
        };
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = left.min(LONGEST_WAIT);
            let call = Call::Receive {
                queue: queue.name.as_str(),
                max,
                wait,
            };
            match self.exchange(call).await? {
                Answer::Delivered(list) if list.is_empty() && left > wait => {}
                Answer::Delivered(list) => return Ok(list),
                other => return Err(other.into_error()),
            }
        }
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        let queue = self.get_queue(&queue.name).await?;
        let connection = self.connection.clone();
        Ok(Box::new(LocalSource {
            inner: PollingSource::new(self, queue),
            connection,
        }))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        self.settle_batch(batch)
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        let call = Call::Extend {
            tokens: tokens.iter().map(|token| (*token).into()).collect(),
            lease,
        };
        let error = match self.call(call).await {
            Ok(Answer::Settled(results)) if results.len() == tokens.len() => return results,
            Ok(_) => SettleError::Unavailable(UNEXPECTED.to_owned()),
            Err(BackendError::Closed) => SettleError::Closed,
            Err(error) => SettleError::Unavailable(error.to_string()),
        };
        vec![Err(error); tokens.len()]
    }

    async fn overview(&self) -> Result<Overview, BackendError> {
        match self.call(Call::Operate(Operation::Overview)).await? {
            Answer::Operated(Report::Overview(overview)) => Ok(overview),
            other => Err(other.into_error()),
        }
    }

    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        let purge = Call::Operate(Operation::PurgeQueue(name.as_str()));
        match self.call(purge).await? {
            Answer::Operated(Report::Purged(count)) => Ok(count),
            other => Err(other.into_error()),
        }
    }

    async fn close(&self) {
        self.connection.close().await;
    }
}

/// A subscription that ends with the owner, because the connection doesn't come back.
#[derive(Debug)]
struct LocalSource {
    inner: PollingSource<LocalBackend>,
    connection: Arc<Connection>,
}

#[async_trait]
impl Source for LocalSource {
    async fn next(&mut self, max: usize) -> SourceEvent {
        match self.inner.next(max).await {
            SourceEvent::Stalled(error) if self.connection.lost().is_some() => {
                SourceEvent::Fatal(error)
            }
            event => event,
        }
    }
}
