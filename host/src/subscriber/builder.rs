//! Puts a subscriber together: the seed's `BrokerSubscriberBuilder`.
//!
//! It receives nothing itself.

use std::sync::Arc;

use uuid::Uuid;

use super::{BackendSubscriber, FilteredSubscriber, QueuedSubscriber, Subscriber};
use crate::backend::{Backend, QueueName, QueueSpec};
use crate::broker::{Broker, BuildError};
use crate::config::Config;
use crate::message::Message;
use crate::retry::RetryPolicy;
use crate::topic::Pattern;
use crate::validator::{Validator, filter};
use crate::wire::Form;

/// What a subscriber should be.
///
/// With a group it receives from the queue `GROUP.NAME`, which stays and gathers messages while nobody receives; all
/// subscribers of one group and name share it, so name those differently that subscribe to different topics. Without a
/// group it has a queue of its own, which ends with it.
///
/// Filters are asked when a message arrives, before it is kept in an inbox; validators when it leaves the inbox, so that
/// they learn whether it was handled.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::message::{Message, Payload};
/// use sandbar::publisher::{BackendPublisher, Publisher};
/// use sandbar::subscriber::SubscriberBuilder;
/// use sandbar::validator::{DuplicateValidator, WindowLimits};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Arc::new(MemoryBackend::new());
/// let mut subscriber = SubscriberBuilder::new()
///     .with_backend(broker.clone())
///     .with_topics(["user.*".parse()?])
///     .with_group_id(Some("user-service".to_owned()))
///     .with_filter(|message| message.ok())
///     .with_validator(Arc::new(DuplicateValidator::in_memory(WindowLimits::default())))
///     .with_queue(Arc::new(MemoryBackend::new()), "inbox".parse()?)
///     .build()
///     .await?;
/// let publisher = BackendPublisher::new(broker);
/// publisher.send(Message::new("user.created".parse()?, Payload::text("7")).into()).await?;
/// subscriber.receive().await?.ack().await?;
/// subscriber.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct SubscriberBuilder {
    config: Option<Config>,
    backend: Option<Arc<dyn Backend>>,
    topics: Vec<Pattern>,
    group: Option<String>,
    name: Option<String>,
    form: Form,
    filters: Vec<Arc<dyn Validator>>,
    validators: Vec<Arc<dyn Validator>>,
    queue: Option<(Arc<dyn Backend>, QueueName)>,
    queued: Option<RetryPolicy>,
    remove_topics: bool,
}

impl SubscriberBuilder {
    /// Without a broker and without topics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same as `new().with_config(config)`.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self::new().with_config(config)
    }

    /// Receives from the broker that the configuration names, unless a backend is given, and as its group.
    #[must_use]
    pub fn with_config(mut self, config: &Config) -> Self {
        self.group = Some(config.group.value.clone());
        self.config = Some(config.clone());
        self
    }

    /// Receives from this broker.
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Subscribes to these topics or patterns as well.
    #[must_use]
    pub fn with_topics(mut self, topics: impl IntoIterator<Item = Pattern>) -> Self {
        self.topics.extend(topics);
        self
    }

    /// Receives as this group; `None`: for itself alone, as long as it lives.
    #[must_use]
    pub fn with_group_id(mut self, group: Option<String>) -> Self {
        self.group = group;
        self
    }

    /// Tells it from other subscribers of its group; `subscriber` without.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Reads messages of this form.
    #[must_use]
    pub fn with_form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Passes over messages for which this says `false`.
    #[must_use]
    pub fn with_filter<F>(mut self, passes: F) -> Self
    where
        F: Fn(&Message) -> bool + Send + Sync + 'static,
    {
        self.filters.push(filter(passes));
        self
    }

    /// Passes over messages that this refuses.
    #[must_use]
    pub fn with_validator(mut self, validator: Arc<dyn Validator>) -> Self {
        self.validators.push(validator);
        self
    }

    /// Keeps messages in this queue until they are handled.
    #[must_use]
    pub fn with_queue(mut self, backend: Arc<dyn Backend>, name: QueueName) -> Self {
        self.queue = Some((backend, name));
        self
    }

    /// Keeps messages in an inbox until they are handled: in the one of [`with_queue`](Self::with_queue), or else in the
    /// queue `GROUP.NAME.inbox` of the configuration's own broker. Moving them there is tried again with these delays.
    #[must_use]
    pub fn queued(mut self, backoff: RetryPolicy) -> Self {
        self.queued = Some(backoff);
        self
    }

    /// Deletes its queue and its exact topics when it is [closed](Subscriber::close), with what waits in them.
    #[must_use]
    pub fn with_remove_topics_on_destroy(mut self, remove_topics: bool) -> Self {
        self.remove_topics = remove_topics;
        self
    }

    /// Opens what must be opened, and subscribes.
    ///
    /// # Errors
    /// [`BuildError`], with what to do about it.
    pub async fn build(mut self) -> Result<Box<dyn Subscriber>, BuildError> {
        if self.topics.is_empty() {
            return Err(BuildError::NoTopics);
        }
        let spec = self.spec()?;
        let mut broker = None;
        let backend = match self.backend.take() {
            Some(backend) => backend,
            None => {
                let config = self.config.as_ref().ok_or(BuildError::NoBroker)?;
                broker.insert(Broker::open(config).await?).backend().clone()
            }
        };
        let inbox = format!("{}.inbox", spec.name);
        let source = BackendSubscriber::subscribe(backend, spec)
            .await?
            .with_form(self.form)
            .with_remove_topics_on_destroy(self.remove_topics)
            .keeping_open(broker);
        let source = filtered(Box::new(source), self.filters);
        let mut broker = None;
        let (backend, name) = match (self.queue, &self.queued) {
            (Some(queue), _) => queue,
            (None, None) => return Ok(filtered(source, self.validators)),
            (None, Some(_)) => {
                // An inbox that outlives its subscriber needs a name that does.
                let config = self.config.as_ref().filter(|_| self.group.is_some());
                let config = config.ok_or(BuildError::NoQueue)?;
                let broker = broker.insert(Broker::open(config).await?);
                (broker.backend().clone(), inbox.parse()?)
            }
        };
        let backoff = self.queued.unwrap_or_default();
        let queued = QueuedSubscriber::start(source, backend, name, backoff).await?;
        Ok(filtered(
            Box::new(queued.keeping_open(broker)),
            self.validators,
        ))
    }

    fn spec(&self) -> Result<QueueSpec, BuildError> {
        let name = match &self.group {
            Some(group) => format!("{group}.{}", self.name.as_deref().unwrap_or("subscriber")),
            None => format!("_receive.{}", Uuid::now_v7().simple()),
        };
        let mut spec = QueueSpec::new(name.parse()?, self.topics.clone());
        match &self.group {
            Some(group) => spec.group.clone_from(group),
            None => spec.ephemeral = true,
        }
        Ok(spec)
    }
}

fn filtered(
    inner: Box<dyn Subscriber>,
    validators: Vec<Arc<dyn Validator>>,
) -> Box<dyn Subscriber> {
    if validators.is_empty() {
        return inner;
    }
    Box::new(FilteredSubscriber::new(inner, validators))
}
