//! A handler that runs: the seed's `BrokerPort`.
//!
//! It knows when to receive and when not: started, paused, stopped. How another version takes the place of its handlers is
//! in `handler/switch.rs`, what happens when the subscription breaks off in `handler/subscription.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::subscription::{self, Declared};
use super::{Handler, HandlerError, queue};
use crate::backend::{BackendError, QueueName, QueueSpec};
use crate::client::Client;
use crate::periodic::{self, Clock, Periodic};
use crate::pipeline::{Pipeline, Version};
use crate::pump::Pump;

/// A handler that runs: the seed's `BrokerPort`. What breaks its subscription off is survived. Dropping it ends it at once;
/// what was in flight comes again.
#[derive(Debug)]
pub struct Port {
    /// Before the task, so that it ends first.
    periodic: Mutex<Option<Periodic>>,
    /// The clock of what is periodic; without one nothing is.
    clock: Option<Arc<dyn Clock>>,
    stop: CancellationToken,
    pub(super) pipeline: Arc<Pipeline>,
    /// What its queue should be.
    pub(super) spec: Declared,
    paused: watch::Sender<bool>,
    /// One change at a time.
    pub(super) switching: Arc<tokio::sync::Mutex<()>>,
    /// Looks after a version whose time is not over yet.
    pub(super) keeper: Mutex<Option<AbortOnDropHandle<()>>>,
    failures: Arc<AtomicU64>,
    pump: tokio::sync::Mutex<Pump>,
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
            receiving,
            dead_letter,
            clock,
        } = handler;
        let dispatcher = periodic::coalesced(&dispatcher, &clock)?;
        let spec = QueueSpec {
            receiving,
            ..queue(&group, &access.plugin, &dispatcher, dead_letter)?
        };
        let queue = backend.declare_queue(spec.clone()).await?.queue;
        let client = match &access.client {
            Some(_) => None,
            None => Some(Arc::new(Client::connect(backend.clone()).await?)),
        };
        access.client = access.client.or_else(|| client.clone());
        let version = Version::new(form, dispatcher, Arc::new(access), retry);
        let pipeline = Arc::new(Pipeline::new(backend, queue, version));
        let mut port = Self::subscribe(pipeline, Some(spec), false).await?;
        port.client = client;
        port.clock = Some(clock);
        port.follow();
        Ok(port)
    }

    /// Subscribes and starts to handle messages, for those who assemble a pipeline themselves.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    pub async fn start(pipeline: Arc<Pipeline>) -> Result<Self, BackendError> {
        Self::subscribe(pipeline, None, false).await
    }

    /// The same; a queue that is gone is declared again as `spec` says.
    pub(crate) async fn subscribe(
        pipeline: Arc<Pipeline>,
        spec: Option<QueueSpec>,
        paused: bool,
    ) -> Result<Self, BackendError> {
        let (stop, spec) = (CancellationToken::new(), Declared::new(spec));
        let (paused, pausing) = watch::channel(paused);
        let (pump, trouble) =
            subscription::start(pipeline.clone(), spec.clone(), pausing, stop.clone()).await?;
        Ok(Self {
            periodic: Mutex::default(),
            clock: None,
            stop,
            pipeline,
            spec,
            paused,
            switching: Arc::default(),
            keeper: Mutex::default(),
            failures: pump.counter(),
            pump: tokio::sync::Mutex::new(pump),
            trouble,
            client: None,
        })
    }

    /// With this clock for what is periodic, which is followed from [`Self::follow`] on.
    pub(crate) fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Follows the schedules of the version that is live, unless it is paused.
    pub(crate) fn follow(&self) {
        let mut periodic = lock(&self.periodic);
        // The schedules of the version before end first.
        *periodic = None;
        let Some(clock) = self.clock.as_ref().filter(|_| !self.paused()) else {
            return;
        };
        let serving = self.pipeline.serving();
        let version = &serving.version;
        *periodic = Periodic::start(
            &version.access.plugin,
            version.dispatcher.routes(),
            &self.pipeline.queue.name,
            self.pipeline.backend.clone(),
            clock.clone(),
        );
    }

    /// What its messages pass through.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The queue that it receives from.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.pipeline.queue.name
    }

    /// Why it receives nothing at the moment, if that is so; it keeps trying.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// How often its subscription broke off and was made anew.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether it was told to receive nothing for now.
    #[must_use]
    pub fn paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Receives nothing from now on and lets messages wait, or receives again. What has begun goes on.
    pub fn pause(&self, pause: bool) {
        self.paused.send_replace(pause);
        self.follow();
    }

    /// Waits until it ends by itself, which it does only when the broker is closed.
    pub(super) async fn ended(&self) {
        self.pump.lock().await.ended().await;
    }

    /// Stops receiving and waits until what runs has ended, at most for `grace`; then gives the rest back. Returns
    /// whether everything had ended.
    pub async fn stop(self, grace: Duration) -> bool {
        self.halt(grace).await
    }

    /// The same for one that others still look at.
    pub(crate) async fn halt(&self, grace: Duration) -> bool {
        lock(&self.periodic).take();
        self.stop.cancel();
        let mut pump = self.pump.lock().await;
        let ended = tokio::time::timeout(grace, pump.ended()).await.is_ok();
        if !ended {
            pump.stop().await;
        }
        lock(&self.keeper).take();
        if let Some(client) = &self.client {
            client.close().await;
        }
        ended
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
