//! Sends messages, receives those of its own topic, and asks for replies: the seed's `BrokerClient`.
//!
//! Replies to requests are correlated by identifier and go through a queue of their own, so many requests can be in
//! flight, and a reply that comes too late is dropped and counted, never handed to a later request. It does not handle
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::backend::{
    Backend, BackendError, Destination, Outgoing, PublishError, QueueName, QueueSpec, Receipt,
};
use crate::broker::{Broker, BuildError};
use crate::config::Config;
use crate::message::Message;
use crate::publisher::{BackendPublisher, Publisher};
use crate::subscriber::{BackendSubscriber, Subscriber};
use crate::topic::TopicName;

mod pool;
mod requests;

pub use pool::{ClientPool, PoolOptions, PooledClient};

use requests::Requests;

/// How long [`Client::receive_many`] waits when nothing else is said.
pub const RECEIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// A longer wait is as good as this one, and moments don't overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Publishes, receives, and waits for replies.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::client::Client;
/// use sandbar::message::{Message, Payload};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Arc::new(MemoryBackend::new());
/// let users = Client::connect_as(broker.clone(), "user.get".parse()?).await?;
/// let client = Client::connect_as(broker, "user.get.reply".parse()?).await?;
///
/// // What it sends asks for replies to its own topic, unless the message names another one.
/// client.send(Message::new("user.get".parse()?, Payload::text("7")).into()).await?;
///
/// let question = users.receive().await?;
/// let topic = question.reply_topic.clone().expect("the client set its own topic");
/// let answer = Message::new(topic, Payload::text("Ada")).with_identifier(question.identifier);
/// users.send(answer.into()).await?;
///
/// assert_eq!(client.receive().await?.payload.content, "Ada");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    publisher: Arc<dyn Publisher>,
    /// `None`: it was put together without a backend.
    requests: Option<Requests>,
    own: Option<Own>,
    closed: AtomicBool,
    /// Keeps a broker open that was opened for this.
    _broker: Option<Arc<Broker>>,
}

/// The topic of a client, and what arrives there.
#[derive(Debug)]
struct Own {
    topic: TopicName,
    inbox: Mutex<Inbox>,
    /// How many replies were asked for, less what was received.
    owed: AtomicI64,
}

#[derive(Debug)]
struct Inbox {
    subscriber: Box<dyn Subscriber>,
    /// A message that was acknowledged for a caller who stopped waiting at that moment.
    unread: Option<Arc<Message>>,
}

/// Why a request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody answered in time; the message may still be handled.
    #[error("no reply from `{topic}` within {timeout:?}; the message may still be handled")]
    Timeout {
        /// Who was asked.
        topic: TopicName,
        /// How long.
        timeout: Duration,
    },
    /// A request with this identifier is already waiting.
    #[error("a request with identifier {0} is already waiting; use another identifier")]
    InFlight(Uuid),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The broker failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Client {
    /// A client without a topic of its own, which can send and [`request`](Self::request). The queue for its replies is
    /// gone when the client is closed or its process ends.
    ///
    /// # Errors
    /// When the reply queue cannot be declared.
    pub async fn connect(backend: Arc<dyn Backend>) -> Result<Self, BackendError> {
        let requests = Requests::start(backend.clone()).await?;
        Ok(Self {
            publisher: Arc::new(BackendPublisher::new(backend)),
            requests: Some(requests),
            own: None,
            closed: AtomicBool::new(false),
            _broker: None,
        })
    }

    /// A client that owns this topic: it can also receive what is sent there. The topic's queue is gone with the client
    /// as well; of a unicast message only one client of a topic gets it.
    ///
    /// # Errors
    /// When a queue cannot be declared.
    pub async fn connect_as(
        backend: Arc<dyn Backend>,
        topic: TopicName,
    ) -> Result<Self, BackendError> {
        let name: QueueName = format!("_client.{}", Uuid::now_v7().simple()).parse()?;
        let mut spec = QueueSpec::new(name, vec![topic.clone().into()]);
        spec.ephemeral = true;
        let subscriber = BackendSubscriber::subscribe(backend.clone(), spec).await?;
        let client = Self::connect(backend).await?;
        Ok(Self {
            own: Some(Own::new(topic, Box::new(subscriber))),
            ..client
        })
    }

    /// A client of parts that are there already. It has no reply queue, so it cannot [`request`](Self::request).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use sandbar::client::Client;
    /// use sandbar::message::{Message, Payload};
    /// use sandbar::publisher::MemoryPublisher;
    /// use sandbar::subscriber::MemorySubscriber;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let publisher = Arc::new(MemoryPublisher::new());
    /// let replies = [Message::new("replies".parse()?, Payload::text("Ada"))];
    /// let subscriber = MemorySubscriber::new(vec!["replies".parse()?], replies).await?;
    /// let client = Client::new("replies".parse()?, publisher.clone(), Box::new(subscriber));
    /// client.send(Message::new("user.get".parse()?, Payload::text("7")).into()).await?;
    /// assert_eq!(publisher.messages()[0].reply_topic, Some("replies".parse()?));
    /// assert_eq!(client.receive().await?.payload.content, "Ada");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(
        topic: TopicName,
        publisher: Arc<dyn Publisher>,
        subscriber: Box<dyn Subscriber>,
    ) -> Self {
        Self {
            publisher,
            requests: None,
            own: Some(Own::new(topic, subscriber)),
            closed: AtomicBool::new(false),
            _broker: None,
        }
    }

    /// A client of the broker that a configuration names, with or without a topic of its own.
    ///
    /// # Errors
    /// [`BuildError`], with what to do about it.
    pub async fn from_config(
        config: &Config,
        topic: Option<TopicName>,
    ) -> Result<Self, BuildError> {
        let broker = Broker::open(config).await?;
        let backend = broker.backend().clone();
        let client = match topic {
            Some(topic) => Self::connect_as(backend, topic).await?,
            None => Self::connect(backend).await?,
        };
        Ok(Self {
            _broker: Some(broker),
            ..client
        })
    }

    /// The same client, sending through this publisher; requests go to the broker all the same.
    #[must_use]
    pub fn with_publisher(self, publisher: Arc<dyn Publisher>) -> Self {
        Self { publisher, ..self }
    }

    /// Its own topic, if it has one.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicName> {
        self.own.as_ref().map(|own| &own.topic)
    }

    /// Where replies to its requests go; `None` when it cannot request.
    #[must_use]
    pub fn reply_topic(&self) -> Option<&TopicName> {
        self.requests.as_ref().map(Requests::topic)
    }

    /// Replies that came when nobody waited for them any more.
    #[must_use]
    pub fn late_replies(&self) -> u64 {
        self.requests.as_ref().map_or(0, Requests::late)
    }

    /// Publishes one message. Replies are asked for to the client's own topic, if it has one, unless the message names
    /// another.
    ///
    /// # Errors
    /// What the broker says of it.
    pub async fn send(&self, mut outgoing: Outgoing) -> Result<Receipt, PublishError> {
        let Some(own) = &self.own else {
            return self.publisher.send(outgoing).await;
        };
        let asks = outgoing.message.reply_topic.is_none();
        let topic = &mut outgoing.message.reply_topic;
        topic.get_or_insert_with(|| own.topic.clone());
        let sent = self.publisher.send(outgoing).await;
        if asks && sent.is_ok() {
            own.owed.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Waits for the next message of its own topic and acknowledges it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Why there will be none: it has no topic, or it was closed.
    pub async fn receive(&self) -> Result<Arc<Message>, BackendError> {
        let own = self.own.as_ref().ok_or_else(|| {
            let text = "the client has no topic of its own; make it with `connect_as`";
            BackendError::Invalid(text.to_owned())
        })?;
        let message = own.inbox.lock().await.receive().await?;
        own.owed.fetch_sub(1, Ordering::Relaxed);
        Ok(message)
    }

    /// Up to `count` messages of its own topic, those that arrive within the time-out ([`RECEIVE_TIMEOUT`] when `None`);
    /// it begins now. Each is yielded when it arrives; the stream ends early with an error when there can be no more.
    ///
    /// ```
    /// use std::{pin::pin, sync::Arc, time::Duration};
    /// use futures_util::StreamExt;
    /// use sandbar::{backend::MemoryBackend, client::Client, message::{Message, Payload}};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect_as(Arc::new(MemoryBackend::new()), "news".parse()?).await?;
    /// for text in ["1", "2"] {
    ///     client.send(Message::new("news".parse()?, Payload::text(text)).into()).await?;
    /// }
    /// let mut messages = pin!(client.receive_many(10, Some(Duration::from_millis(50))));
    /// let mut count = 0;
    /// while let Some(message) = messages.next().await {
    ///     println!("{:?}", message?.payload.content);
    ///     count += 1;
    /// }
    /// assert_eq!(count, 2); // the time ran out before the third one
    /// # Ok(())
    /// # }
    /// ```
    pub fn receive_many(
        &self,
        count: usize,
        timeout: Option<Duration>,
    ) -> impl Stream<Item = Result<Arc<Message>, BackendError>> + Send + '_ {
        let until = Instant::now() + timeout.unwrap_or(RECEIVE_TIMEOUT).min(LONGEST);
        stream::unfold(count, move |left| async move {
            let left = left.checked_sub(1)?;
            let received = timeout_at(until, self.receive()).await.ok()?;
            let left = if received.is_ok() { left } else { 0 };
            Some((received, left))
        })
    }

    /// Publishes a message and waits for its reply, which may have any status.
    ///
    /// # Errors
    /// [`RequestError::Timeout`] when there is no reply in time; [`PublishError::Unroutable`] at once when no queue is
    /// bound to the topic, so that nobody waits for an answer that cannot come.
    pub async fn request(
        &self,
        message: Message,
        timeout: Duration,
    ) -> Result<Arc<Message>, RequestError> {
        let requests = self.requests.as_ref().ok_or_else(|| {
            let text = "the client has no queue for replies; make it with `connect`";
            RequestError::Backend(BackendError::Invalid(text.to_owned()))
        })?;
        let mut outgoing = Outgoing::new(message.with_reply_topic(requests.topic().clone()));
        outgoing.mandatory = true;
        outgoing.to = Destination::Topic;
        requests.request(outgoing, timeout).await
    }

    /// Whether it was closed, or the broker ended it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) || self.requests.as_ref().is_some_and(Requests::ended)
    }

    /// Deletes its queues.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(requests) = &self.requests {
            requests.close().await;
        }
        if let Some(own) = &self.own {
            own.inbox.lock().await.subscriber.close().await;
        }
    }

    /// Whether a reply may come that its next user would take for his own.
    fn owes_replies(&self) -> bool {
        let owed = self
            .own
            .as_ref()
            .map(|own| own.owed.load(Ordering::Relaxed));
        owed.is_some_and(|owed| owed != 0)
    }
}

impl Own {
    fn new(topic: TopicName, subscriber: Box<dyn Subscriber>) -> Self {
        let inbox = Inbox {
            subscriber,
            unread: None,
        };
        Self {
            topic,
            inbox: Mutex::new(inbox),
            owed: AtomicI64::new(0),
        }
    }
}

impl Inbox {
    async fn receive(&mut self) -> Result<Arc<Message>, BackendError> {
        loop {
            if let Some(message) = self.unread.take() {
                return Ok(message);
            }
            let received = self.subscriber.receive().await?;
            // Whoever stops waiting while it is being acknowledged leaves it to the next one.
            self.unread = Some(received.message().clone());
            if let Err(error) = received.ack().await {
                tracing::debug!(%error, "a message was not acknowledged and comes again");
                self.unread = None;
            }
        }
    }
}
