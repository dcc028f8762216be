//! A dispatcher with its subscription (the seed's `BrokerHandler`), and its lifecycle (the seed's `BrokerPort`).
//!
//! Stopping is bounded: nothing more is received, what runs is finished or given back, and nothing of that counts as an
//! attempt. Several handlers that know of each other are a host: [`crate::control`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BackendError, Opened, QueueName, QueueSpec};
use crate::call::Access;
use crate::client::Client;
use crate::config::ConfigError;
use crate::control::DEFAULT_GROUP;
use crate::dispatch::{Conflict, Dispatcher, Kind};
use crate::guest::GuestError;
use crate::periodic::{self, Clock, Periodic, WallClock};
use crate::pipeline::Pipeline;
use crate::plugin::LoadError;
use crate::pump::Pump;
use crate::retry::RetryPolicy;
use crate::wire::Form;

mod configured;
mod subscription;

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
        let mut port = Port::serve(self).await?;
        // The task ends in no other way: it is not aborted while the port is there, and it does not panic.
        port.pump.ended().await;
        Ok(())
    }
}

/// A handler that runs: the seed's `BrokerPort`. What breaks its subscription off is survived. Dropping it ends it at once;
/// what was in flight comes again.
#[derive(Debug)]
pub struct Port {
    /// Before the task, so that it ends first.
    periodic: Option<Periodic>,
    stop: CancellationToken,
    queue: QueueName,
    pump: Pump,
    trouble: watch::Receiver<Option<String>>,
    /// A client that only this handler uses.
    client: Option<Arc<Client>>,
}

impl Port {
    /// Declares the queue of a handler, subscribes, and starts to handle messages.
    ///
    /// # Errors
    /// When the queue cannot be declared or the subscription cannot be made.
    pub async fn serve(handler: Handler) -> Result<Self, HandlerError> {
        let Handler {
            backend,
            group,
            dispatcher,
            mut access,
            retry,
            form,
            dead_letter,
            clock,
        } = handler;
        let dispatcher = periodic::coalesced(&dispatcher, &clock)?;
        let spec = queue(&group, &access.plugin, &dispatcher, dead_letter)?;
        let queue = backend.declare_queue(spec.clone()).await?.queue;
        let client = match &access.client {
            Some(_) => None,
            None => Some(Arc::new(Client::connect(backend.clone()).await?)),
        };
        access.client = access.client.or_else(|| client.clone());
        let (name, routes) = (access.plugin.clone(), dispatcher.routes().to_vec());
        let pipeline = Pipeline {
            backend: backend.clone(),
            queue: queue.clone(),
            form,
            dispatcher,
            access: Arc::new(access),
            retry,
        };
        let port = Self::subscribe(Arc::new(pipeline), Some(spec)).await?;
        Ok(Self {
            periodic: Periodic::start(&name, &routes, &queue.name, backend, clock),
            client,
            ..port
        })
    }

    /// Subscribes and starts to handle messages, for those who assemble a pipeline themselves.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    pub async fn start(pipeline: Arc<Pipeline>) -> Result<Self, BackendError> {
        Self::subscribe(pipeline, None).await
    }

    /// The same; a queue that is gone is declared again as `spec` says.
    pub(crate) async fn subscribe(
        pipeline: Arc<Pipeline>,
        spec: Option<QueueSpec>,
    ) -> Result<Self, BackendError> {
        let (stop, queue) = (CancellationToken::new(), pipeline.queue.name.clone());
        let (pump, trouble) = subscription::start(pipeline, spec, stop.clone()).await?;
        Ok(Self {
            periodic: None,
            stop,
            queue,
            pump,
            trouble,
            client: None,
        })
    }

    /// The queue that it receives from.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Why it receives nothing at the moment, if that is so; it keeps trying.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// How often its subscription broke off and was made anew.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.pump.failures()
    }

    /// Stops receiving and waits until what runs has ended, at most for `grace`; then gives the rest back. Returns
    /// whether everything had ended.
    pub async fn stop(mut self, grace: Duration) -> bool {
        drop(self.periodic);
        self.stop.cancel();
        let ended = tokio::time::timeout(grace, self.pump.ended()).await.is_ok();
        drop(self.pump);
        if let Some(client) = self.client {
            client.close().await;
        }
        ended
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
