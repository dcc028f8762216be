//! What a message broker looks like from here: the seed's `MessagingBackend`, batched and asynchronous.
//!
//! A broker is one file under `backend/` that implements [`Backend`] and one line in `kinds.rs`. The pipeline asks a
//! backend for its [`Capabilities`] and never matches on its kind. Nothing here knows about WebAssembly, and nothing
//! here decides what becomes of a message: that is the pipeline's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::Message;
use crate::topic::{Pattern, TopicName};

mod again;
#[cfg(feature = "rabbitmq")]
mod beside;
mod delivery;
mod durability;
mod embedded;
mod error;
mod heartbeat;
mod kinds;
pub mod local;
mod memory;
mod mode;
mod open;
mod overview;
mod paging;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "rabbitmq")]
mod queued;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod retention;
mod route;
mod source;
mod table;
mod waiting;

pub use delivery::{Delivery, Effects, Release, Settlement, Token, Verdict};
pub use durability::DURABILITY;
pub use embedded::{EmbeddedBackend, EmbeddedOptions};
pub use error::{BackendError, PublishError, SettleError};
pub(crate) use heartbeat::{Heartbeat, Held};
pub use kinds::{BrokerKind, BrokerOptions, KINDS, OpenError, Opened, Reach, open};
pub use local::LocalBackend;
pub use memory::{MemoryBackend, MemoryOptions};
pub use mode::Mode;
pub use open::{OpenDataError, OpenedData, find, open_data};
pub use overview::{Overview, QueueStatus};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresBackend, PostgresOptions};
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{RabbitMqBackend, RabbitMqOptions};
pub(crate) use source::Renewing;
pub use source::{PollingSource, Source, SourceEvent};

/// A message broker.
///
/// Implementations are cheap to share behind an [`Arc`] and safe to call from many tasks. Every method may be called
/// after [`Backend::close`] and then fails with `Closed`.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// The name of its kind, as in the configuration: `memory`, `embedded`, …
    fn kind(&self) -> &'static str;

    /// What it can do by itself.
    fn capabilities(&self) -> Capabilities;

    /// Whether it can be reached and works, with a sentence about it.
    async fn health(&self) -> Result<Health, BackendError>;

    /// Makes sure that a topic exists. Idempotent.
    async fn declare_topic(&self, topic: &TopicName) -> Result<(), BackendError>;

    /// Makes sure that a queue exists and is bound to the topics of the specification. Idempotent: declaring it again
    /// adds bindings that are new and removes those of *this* queue that are no longer named; other queues keep
    /// theirs. A dead-letter queue that is named is declared too, without bindings.
    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError>;

    /// A queue that exists; never creates one.
    ///
    /// # Errors
    /// [`BackendError::UnknownQueue`] when there is none of that name.
    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError>;

    /// Deletes a queue with the messages that wait in it. What is in flight becomes stale. Deleting none is no error.
    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError>;

    /// Deletes a topic and the messages that wait in it; queues bound to it stay. Deleting none is no error.
    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError>;

    /// Publishes a batch. Returns once it is as durable as this backend makes it, with one result for each message in
    /// the order given; a failed message does not fail the others.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>>;

    /// Whether messages would be refused for good, as far as that can be told without the broker. What a handler publishes
    /// is asked before its message is settled, so that it fails instead of coming again for ever.
    ///
    /// # Errors
    /// What [`publish`](Self::publish) would say of the first of them.
    fn check(&self, outgoing: &[Outgoing]) -> Result<(), PublishError> {
        let limit = self.capabilities().max_content;
        let sizes = outgoing.iter().map(|one| one.message.payload.content.len());
        match sizes.max() {
            Some(size) if size > limit => Err(PublishError::TooLarge { size, limit }),
            _ => Ok(()),
        }
    }

    /// Takes up to `max` deliveries that are ready; waits up to `wait` for the first one and never for a second.
    /// No delivery after `wait` is an empty list, not an error. Each delivery is leased for [`QueueSpec::lease`].
    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError>;

    /// An endless source of deliveries that survives what can be survived. The default polls [`Backend::receive`].
    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError>;

    /// Ends deliveries, each exactly once: what it caused ([`Effects`]) and its verdict become durable *together* where
    /// [`Capabilities::transactional`] says so. Elsewhere what it caused becomes durable *before* the delivery is
    /// acknowledged, so that a crash in between repeats messages and loses none; state changes once all the same.
    ///
    /// Not `async` on purpose: the order of effects on state is the order of the *calls*, taken before this method
    /// returns; the future only waits for durability. Results are in the order given. A settlement that fails leaves
    /// its delivery to be delivered again, with no attempt counted and nothing of its effects visible, but for messages
    /// that a backend without transactions has published by then.
    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>>;

    /// Extends the leases of deliveries in flight from now on (the heartbeat of slow handlers); one result each.
    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>>;

    /// What waits in its queues, for people. Not for deciding anything: it is old when it arrives.
    ///
    /// # Errors
    /// [`BackendError::Invalid`] from a broker that has its own tools for this, which is the default.
    async fn overview(&self) -> Result<Overview, BackendError> {
        Err(overview::unsupported(self.kind()))
    }

    /// Removes the messages that wait in a queue, for good; what is in flight stays. Returns how many they were.
    ///
    /// # Errors
    /// [`BackendError::UnknownQueue`]; [`BackendError::Invalid`] as for [`Backend::overview`].
    async fn purge_queue(&self, name: &QueueName) -> Result<u64, BackendError> {
        let _ = name;
        Err(overview::unsupported(self.kind()))
    }

    /// Ends all waiting and refuses everything that follows. Bounded in time; nothing accepted is lost.
    async fn close(&self);
}

/// What a backend does by itself; what it doesn't, the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Backend::settle`] commits effects and state together with the verdict.
    pub transactional: bool,
    /// Messages survive the end of the process.
    pub durable: bool,
    /// Publishing with a delay.
    pub delay: bool,
    /// Bindings with wildcards.
    pub wildcards: bool,
    /// Order of messages with the same key.
    pub key_order: KeyOrder,
    /// A [`Receipt`] says how many queues got a message; otherwise it says 1 of every message that was taken.
    pub counts_queues: bool,
    /// The largest content in bytes.
    pub max_content: usize,
    /// The most messages that pay in one batch.
    pub max_batch: usize,
}

/// How far messages of one key are handled one after the other, in the order in which they were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyOrder {
    /// Not at all.
    None,
    /// By the receivers of one process. Several hosts that consume from one queue may handle two messages of one key at
    /// the same time.
    WithinHost,
    /// By all receivers of a queue, wherever they are.
    Everywhere,
}

/// How a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// One line for people: version, place, what durability it gives.
    pub detail: String,
}

/// The name of a queue: 1 to 255 bytes without white space or control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for QueueName {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        let legal = !text.is_empty()
            && text.len() <= 255
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if legal {
            Ok(Self(text.into()))
        } else {
            Err(BackendError::Invalid(format!(
                "queue name {text:?} is not legal; use 1 to 255 bytes without white space"
            )))
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a queue should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name.
    pub name: QueueName,
    /// The group that it belongs to. A unicast message goes to all matching queues of *one* group, a multicast message
    /// to all matching queues.
    pub group: String,
    /// Which topics it gets.
    pub topics: Vec<Pattern>,
    /// Where what ends as a dead letter is published as well.
    pub dead_letter: Option<QueueName>,
    /// How long a delivery stays in flight without being settled or extended.
    pub lease: Duration,
    /// Gone with the process that declared it (replies, `receive` without a group).
    pub ephemeral: bool,
    /// The way of its messages to this host, on a network broker; `None`: as the broker is told.
    pub receiving: Option<Mode>,
}

impl QueueSpec {
    /// The default lease.
    pub const LEASE: Duration = Duration::from_secs(30);

    /// A durable queue of a group of the same name.
    #[must_use]
    pub fn new(name: QueueName, topics: Vec<Pattern>) -> Self {
        Self {
            group: name.as_str().to_owned(),
            name,
            topics,
            dead_letter: None,
            lease: Self::LEASE,
            ephemeral: false,
            receiving: None,
        }
    }
}

/// A queue that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
}

/// What [`Backend::declare_queue`] made or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredQueue {
    /// The queue.
    pub queue: Queue,
    /// Its dead-letter queue, if one was named.
    pub dead_letter: Option<Queue>,
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: Destination,
    /// What.
    pub message: Message,
    /// Messages of one key are handled one after the other, in order.
    pub key: Option<Arc<str>>,
    /// Not delivered before this much time has passed.
    pub delay: Duration,
    /// Refused ([`PublishError::Unroutable`]) instead of kept when no queue is bound to the topic.
    pub mandatory: bool,
    /// Only for this route of the plugin that owns the queue; `None` for every message that comes from outside. An
    /// event with several handlers is split into one message each, so that each has attempts of its own.
    pub route: Option<u32>,
    /// The same each time that this is published, when that may be more than once; a broker carries it along if it can,
    /// so that whoever gets the message twice can tell. `None`: it is published once.
    pub identity: Option<Uuid>,
}

impl Outgoing {
    /// To the topic of the message, at once.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self {
            to: Destination::Topic,
            message,
            key: None,
            delay: Duration::ZERO,
            mandatory: false,
            route: None,
            identity: None,
        }
    }
}

/// To the topic of the message, at once.
impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To the queues that are bound to its topic, as its strategy says.
    Topic,
    /// To this queue and no other.
    Queue(QueueName),
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How many queues got it; with 0 it waits in the topic until a queue is bound to it. A backend that cannot know
    /// says 1.
    pub queues: u32,
}
