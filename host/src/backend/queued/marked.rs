//! Deliveries out of an inbox: their tokens have a mark, so that they are told from those of the broker.
//!
//! Numbers of messages in our own store are positive as signed numbers, so that the highest bit is free.

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::{BackendError, Delivery, QueueName, Release, Source, SourceEvent, Token};

const MARK: u64 = 1 << 63;

pub(super) fn is_marked(token: Token) -> bool {
    token.id & MARK != 0
}

pub(super) fn unmark(token: Token) -> Token {
    let id = token.id & !MARK;
    Token { id, ..token }
}

/// The same delivery with a token that has the mark.
pub(super) fn mark(delivery: Delivery) -> Delivery {
    delivery.rename(|token, release| {
        let id = token.id | MARK;
        (Token { id, ..token }, Arc::new(Unmarked(release)))
    })
}

/// Gives a delivery back under the token that its own backend knows.
#[derive(Debug)]
struct Unmarked(Arc<dyn Release>);

impl Release for Unmarked {
    fn release(&self, token: Token) {
        self.0.release(unmark(token));
    }
}

/// A source of an inbox.
#[derive(Debug)]
pub(super) struct MarkedSource {
    pub(super) source: Box<dyn Source>,
    /// Of which queue of the broker it is the inbox.
    pub(super) queue: QueueName,
}

/// The error in words of whoever knows the queue and not its inbox.
pub(super) fn of(queue: &QueueName, error: BackendError) -> BackendError {
    match error {
        BackendError::UnknownQueue(_) => BackendError::UnknownQueue(queue.clone()),
        other => other,
    }
}

#[async_trait]
impl Source for MarkedSource {
    async fn next(&mut self, max: usize) -> SourceEvent {
        match self.source.next(max).await {
            SourceEvent::Delivered(batch) => {
                SourceEvent::Delivered(batch.into_iter().map(mark).collect())
            }
            SourceEvent::Fatal(error) => SourceEvent::Fatal(of(&self.queue, error)),
            other => other,
        }
    }
}
