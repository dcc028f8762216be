//! A dispatcher with its subscription (the seed's `BrokerHandler`), and its lifecycle (the seed's `BrokerPort`).
//!
//! Stopping is bounded: nothing more is received, what runs is finished or given back, and nothing of that counts as an
//! attempt. Several handlers that know of each other are a host: [`crate::control`].

use std::sync::Arc;

use crate::backend::{Backend, BackendError, Mode, Opened, QueueName, QueueSpec};
use crate::call::Access;
use crate::config::ConfigError;
use crate::control::DEFAULT_GROUP;
use crate::dispatch::{Conflict, Dispatcher, Kind};
use crate::guest::GuestError;
use crate::periodic::{Clock, WallClock};
use crate::plugin::LoadError;
use crate::retry::RetryPolicy;
use crate::wire::Form;

mod configured;
mod port;
mod subscription;
mod switch;

pub use port::Port;
pub(crate) use switch::{Change, begin_beside, stay_before};

/// A dispatcher and where its messages come from: the seed's `BrokerHandler`.
///
/// Its queue is `GROUP.NAME`, bound to the topics of the dispatcher. Handlers of one group share the messages.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::path::Path;
/// use std::sync::Arc;
/// use std::time::Duration;
/// use sandbar::backend::open;
/// use sandbar::client::Client;
/// use sandbar::dispatch::{Dispatcher, Kind, Response};
/// use sandbar::handler::{Handler, Port};
/// use sandbar::message::{Message, Payload};
///
/// let broker = open("memory", Path::new("")).await?;
/// let mut dispatcher = Dispatcher::default();
/// dispatcher.action(Kind::Query, "user.get".parse()?, |_| async { Ok(Response::text("Ann")) })?;
///
/// let handler = Handler::new(&broker, dispatcher).with_concurrency(10);
/// let port = Port::serve(handler).await?;
///
/// let client = Client::connect(broker.backend.clone()).await?;
/// let question = Message::new("user.get".parse()?, Payload::default());
/// let reply = client.request(question, Duration::from_secs(5)).await?;
/// assert_eq!(&reply.payload.content[..], b"Ann");
///
/// assert!(port.stop(Duration::from_secs(5)).await, "nothing was left in flight");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Handler {
    backend: Arc<dyn Backend>,
    group: String,
    dispatcher: Dispatcher,
    access: Access,
    retry: RetryPolicy,
    form: Form,
    receiving: Option<Mode>,
    dead_letter: Option<QueueName>,
    clock: Arc<dyn Clock>,
}

/// Why a handler cannot be made or does not run.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// What is configured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No such plugin.
    #[error("no plugin is named `{name}`; the configuration serves {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The engine.
    #[error("the WebAssembly engine cannot be started: {0}")]
    Engine(#[from] GuestError),
    /// The plugin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Two actions for one topic.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The broker.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Handler {
    /// A handler of native actions, named `native`, in the default group, five at once.
    #[must_use]
    pub fn new(broker: &Opened, dispatcher: Dispatcher) -> Self {
        let access = Access::native(broker.store.clone());
        Self::of(broker, dispatcher, access)
    }

    fn of(broker: &Opened, dispatcher: Dispatcher, access: Access) -> Self {
        Self {
            backend: broker.backend.clone(),
            group: DEFAULT_GROUP.to_owned(),
            dispatcher,
            access,
            retry: RetryPolicy::default(),
            form: Form::Native,
            receiving: None,
            dead_letter: None,
            clock: Arc::new(WallClock),
        }
    }

    /// How many native actions run at once, at least one. How many calls of a plugin do is decided when it is loaded, by
    /// its `limits.concurrency`.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.access.limits.concurrency = concurrency;
        self
    }

    /// In another group than the default one.
    #[must_use]
    pub fn with_group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// With another name, under which it has its queue and keeps its state.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.access.plugin = name.into();
        self
    }

    /// With another idea of when failures are tried again.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// With a way of its own for messages from a network broker.
    #[must_use]
    pub fn with_receiving(mut self, receiving: Mode) -> Self {
        self.receiving = Some(receiving);
        self
    }

    /// With a clock of its own for what is periodic.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What it serves.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// How many actions run at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.access.limits.concurrency.max(1)
    }

    /// Subscribes and handles messages until the broker ends the subscription, which nothing else does. Dropping the
    /// future ends it at once; what was in flight comes again.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::path::Path;
    /// use std::time::Duration;
    /// use sandbar::backend::open;
    /// use sandbar::dispatch::Dispatcher;
    /// use sandbar::handler::Handler;
    ///
    /// let broker = open("memory", Path::new("")).await?;
    /// let running = Handler::new(&broker, Dispatcher::default()).run();
    /// assert!(tokio::time::timeout(Duration::from_millis(10), running).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(self) -> Result<(), HandlerError> {
        // The task ends in no other way: it is not aborted while the port is there, and it does not panic.
        Port::serve(self).await?.ended().await;
        Ok(())
    }
}

/// Each handler has a queue of its own, so that a slow one holds up nobody else and its backlog survives its absence.
pub(crate) fn queue(
    group: &str,
    plugin: &str,
    dispatcher: &Dispatcher,
    dead_letter: Option<QueueName>,
) -> Result<QueueSpec, BackendError> {
    let name: QueueName = format!("{group}.{plugin}").parse()?;
    // What is periodic is sent to the queue itself.
    let routes = dispatcher
        .routes()
        .iter()
        .filter(|route| route.kind != Kind::Periodic);
    let mut topics: Vec<_> = routes.map(|route| route.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    Ok(QueueSpec {
        group: group.to_owned(),
        dead_letter,
        ..QueueSpec::new(name, topics)
    })
}
