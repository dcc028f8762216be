//! Deliveries without end: what a subscription reports, and a source for brokers without a push of their own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Backend, BackendError, Delivery, Queue, QueueSpec};

/// Deliveries without end.
#[async_trait]
pub trait Source: Send + fmt::Debug {
    /// The next event; with `Delivered` between 1 and `max` deliveries. Dropping the future loses nothing.
    async fn next(&mut self, max: usize) -> SourceEvent;
}

/// What a subscription reports.
#[derive(Debug)]
pub enum SourceEvent {
    /// Deliveries.
    Delivered(Vec<Delivery>),
    /// Nothing can be received at the moment; the source keeps trying by itself.
    Stalled(BackendError),
    /// It works again.
    Reconnected,
    /// It is over.
    Fatal(BackendError),
}

/// A subscription that is made again after an end that passes, such as a queue that somebody deleted.
#[derive(Debug)]
pub(crate) struct Renewing {
    backend: Arc<dyn Backend>,
    /// `None` before the first time, and after an end.
    source: Option<Box<dyn Source>>,
}

impl Renewing {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            source: None,
        }
    }

    /// The next deliveries; none when it works again, `None` when the broker is closed. After an error it may be called
    /// again. `spec` is how the queue is declared, if that has to be done.
    pub(crate) async fn next(
        &mut self,
        max: usize,
        spec: impl FnOnce() -> QueueSpec,
    ) -> Result<Option<Vec<Delivery>>, BackendError> {
        let event = match &mut self.source {
            Some(source) => source.next(max).await,
            None => match subscribe(&self.backend, spec()).await {
                Ok(source) => self.source.insert(source).next(max).await,
                Err(error) => SourceEvent::Fatal(error),
            },
        };
        match event {
            SourceEvent::Delivered(batch) => Ok(Some(batch)),
            SourceEvent::Reconnected => Ok(Some(Vec::new())),
            SourceEvent::Stalled(error) => Err(error),
            SourceEvent::Fatal(BackendError::Closed) => Ok(None),
            SourceEvent::Fatal(error) => {
                self.source = None;
                Err(error)
            }
        }
    }
}

async fn subscribe(
    backend: &Arc<dyn Backend>,
    spec: QueueSpec,
) -> Result<Box<dyn Source>, BackendError> {
    let queue = backend.declare_queue(spec).await?.queue;
    backend.clone().subscribe(&queue).await
}

/// A source over [`Backend::receive`], for backends without a push of their own.
#[derive(Debug)]
pub struct PollingSource<B: ?Sized> {
    backend: Arc<B>,
    queue: Queue,
    /// How often the last calls failed in a row; the back-off grows with it.
    failures: u32,
    wait: Duration,
    patience: Duration,
}

impl<B: Backend + ?Sized> PollingSource<B> {
    const WAIT: Duration = Duration::from_secs(20);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A source of the messages of one queue. A broker that does not answer for half a minute is taken for one that
    /// fails.
    #[must_use]
    pub fn new(backend: Arc<B>, queue: Queue) -> Self {
        Self {
            backend,
            queue,
            failures: 0,
            wait: Self::WAIT,
            patience: Self::PATIENCE,
        }
    }

    /// How long one call waits for a message, and how much longer its answer may take.
    #[must_use]
    pub fn with_patience(self, wait: Duration, patience: Duration) -> Self {
        Self {
            wait,
            patience,
            ..self
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, BackendError> {
        let answer = self.backend.receive(&self.queue, max, self.wait);
        let patience = self.wait.saturating_add(self.patience);
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(BackendError::Unavailable(format!(
                "broker `{}` has not answered for {patience:?}; check that it runs and can be reached",
                self.backend.kind()
            ))),
        }
    }
}

#[async_trait]
impl<B: Backend + ?Sized> Source for PollingSource<B> {
    async fn next(&mut self, max: usize) -> SourceEvent {
        if self.failures > 0 {
            let backoff = Duration::from_millis(50) * 2_u32.saturating_pow(self.failures.min(7));
            tokio::time::sleep(backoff).await;
        }
        loop {
            match self.receive(max).await {
                Ok(_) if self.failures > 0 => {
                    // What was received by the probe goes back as it is dropped and comes again at once.
                    self.failures = 0;
                    return SourceEvent::Reconnected;
                }
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => return SourceEvent::Delivered(batch),
                Err(error @ BackendError::Unavailable(_)) => {
                    self.failures = self.failures.saturating_add(1);
                    return SourceEvent::Stalled(error);
                }
                Err(error) => return SourceEvent::Fatal(error),
            }
        }
    }
}
