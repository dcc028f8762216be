//! The subscription of a handler: it ends when it is told to, and not before. What breaks it off is said, backed off and
//! survived; a queue that is gone is declared again, and nobody else's subscription notices.
//!
//! How messages are handled is the pipeline's business, and how a failing task is repeated the pump's.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backend::{BackendError, QueueSpec, Source, SourceEvent};
use crate::pipeline::Pipeline;
use crate::pump::{Pump, Step, Work};
use crate::retry::RetryPolicy;

/// Why nothing can be received, if that is so.
type Trouble = watch::Sender<Option<String>>;

/// What a queue should be, which may change; `None` for a queue that somebody else declares.
#[derive(Debug, Clone)]
pub(super) struct Declared(Arc<Mutex<Option<QueueSpec>>>);

impl Declared {
    pub(super) fn new(spec: Option<QueueSpec>) -> Self {
        Self(Arc::new(Mutex::new(spec)))
    }

    pub(super) fn get(&self) -> Option<QueueSpec> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set(&self, spec: QueueSpec) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(spec);
    }
}

/// Subscribes, and starts to handle messages until `stop`.
pub(super) async fn start(
    pipeline: Arc<Pipeline>,
    spec: Declared,
    paused: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<(Pump, watch::Receiver<Option<String>>), BackendError> {
    let (trouble, seen) = watch::channel(None);
    let name = format!("subscription {}", pipeline.queue.name);
    let begins = !*paused.borrow();
    let source = match begins {
        true => Some(pipeline.backend.clone().subscribe(&pipeline.queue).await?),
        false => None,
    };
    let subscription = Subscription {
        pipeline,
        spec,
        paused,
        source,
        stop: stop.clone(),
        trouble,
    };
    let backoff = RetryPolicy {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(5),
        ..RetryPolicy::default()
    };
    let pump = Pump::start_draining(name, subscription, backoff, stop);
    Ok((pump, seen))
}

#[derive(Debug)]
struct Subscription {
    pipeline: Arc<Pipeline>,
    spec: Declared,
    paused: watch::Receiver<bool>,
    /// Where to begin; `None` once that broke off.
    source: Option<Box<dyn Source>>,
    stop: CancellationToken,
    trouble: Trouble,
}

impl Subscription {
    async fn subscribe(&mut self) -> Result<Box<dyn Source>, BackendError> {
        let backend = &self.pipeline.backend;
        if let Some(spec) = self.spec.get() {
            backend.declare_queue(spec).await?;
        }
        backend.clone().subscribe(&self.pipeline.queue).await
    }

    /// One life of the subscription; when it was paused, another one follows.
    async fn live(&mut self) -> Result<Step, BackendError> {
        let (mut paused, stop) = (self.paused.clone(), self.stop.clone());
        let resumed = stop.run_until_cancelled(paused.wait_for(|paused| !paused));
        if !matches!(resumed.await, Some(Ok(_))) {
            return Ok(Step::End);
        }
        let source = match self.source.take() {
            Some(source) => source,
            None => {
                let stop = self.stop.clone();
                let Some(source) = stop.run_until_cancelled(self.subscribe()).await else {
                    return Ok(Step::End);
                };
                let source = source?;
                self.trouble.send_replace(None);
                source
            }
        };
        let watched = Watched {
            source,
            paused: paused.clone(),
            trouble: self.trouble.clone(),
            pipeline: self.pipeline.clone(),
        };
        let pipeline = self.pipeline.clone();
        let life = stop.child_token();
        let running = pipeline.run(Box::new(watched), life.clone());
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => return ended.map(|()| Step::End),
            _ = paused.wait_for(|paused| *paused) => life.cancel(),
        }
        // What has begun goes on to its end; what was fetched and has not begun goes back with the source.
        running.await.map(|()| Step::Again)
    }
}

#[async_trait]
impl Work for Subscription {
    async fn step(&mut self) -> Result<Step, String> {
        match self.live().await {
            Ok(step) => Ok(step),
            Err(BackendError::Closed) => Ok(Step::End),
            Err(error) => {
                let error = error.to_string();
                self.trouble.send_replace(Some(error.clone()));
                Err(error)
            }
        }
    }
}

/// A source that is listened to as it tells how it is.
struct Watched {
    source: Box<dyn Source>,
    paused: watch::Receiver<bool>,
    trouble: Trouble,
    /// Where it is counted.
    pipeline: Arc<Pipeline>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

#[async_trait]
impl Source for Watched {
    async fn next(&mut self, max: usize) -> SourceEvent {
        loop {
            let event = self.source.next(max).await;
            match &event {
                // It came after the pause, which the life of this subscription is about to notice; so it goes back.
                SourceEvent::Delivered(_) if *self.paused.borrow() => {
                    drop(event);
                    // A pause that was over before it was noticed ends nothing. Without a port nobody resumes either.
                    drop(self.paused.wait_for(|paused| !paused).await);
                    continue;
                }
                SourceEvent::Stalled(error) => {
                    let before = self.trouble.send_replace(Some(error.to_string()));
                    self.pipeline.tally().stalled(before.is_none());
                }
                SourceEvent::Fatal(error) => {
                    self.trouble.send_replace(Some(error.to_string()));
                }
                SourceEvent::Reconnected => {
                    self.trouble.send_replace(None);
                }
                SourceEvent::Delivered(_) => {}
            }
            return event;
        }
    }
}
