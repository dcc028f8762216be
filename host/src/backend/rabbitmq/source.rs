//! An endless source over what the consumer of a queue delivers: it says when nothing can arrive, and when it can again.
//!
//! Consuming is the business of `feed`, and goes on as long as the source lives.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::failure::Failure;
use super::feed::Interest;
use super::shared::Shared;
use crate::backend::waiting::receive;
use crate::backend::{BackendError, Queue, Source, SourceEvent};

/// How long one look for messages waits; it begins again.
const WAIT: Duration = Duration::from_secs(3600);

/// The messages of one queue.
#[derive(Debug)]
pub(super) struct RabbitMqSource {
    shared: Arc<Shared>,
    queue: Queue,
    trouble: watch::Receiver<Option<Failure>>,
    /// It has said that nothing can arrive.
    stalled: bool,
    _interest: Interest,
}

impl RabbitMqSource {
    pub(super) fn new(shared: Arc<Shared>, queue: Queue) -> Result<Self, BackendError> {
        let interest = shared.want(&queue.name)?;
        let trouble = {
            let mut inner = shared.open()?;
            let (_, entry) = inner.table.named(&queue.name)?;
            entry.extra.trouble.subscribe()
        };
        Ok(Self {
            shared,
            queue,
            trouble,
            stalled: false,
            _interest: interest,
        })
    }
}

#[async_trait]
impl Source for RabbitMqSource {
    async fn next(&mut self, max: usize) -> SourceEvent {
        loop {
            let trouble = self.trouble.borrow_and_update().clone();
            match (trouble, self.stalled) {
                (Some(failure), false) => {
                    self.stalled = true;
                    return SourceEvent::Stalled(failure.into());
                }
                (None, true) => {
                    self.stalled = false;
                    return SourceEvent::Reconnected;
                }
                _ => {}
            }
            tokio::select! {
                biased;
                received = receive(WAIT, || self.shared.look(&self.queue, max)) => match received {
                    Ok(batch) if batch.is_empty() => {}
                    Ok(batch) => return SourceEvent::Delivered(batch),
                    Err(error) => return SourceEvent::Fatal(error),
                },
                // An error says that the queue is gone, and the next look says so too.
                changed = self.trouble.changed() => drop(changed),
            }
        }
    }
}
