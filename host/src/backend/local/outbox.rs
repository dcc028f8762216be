//! What a client is about to send, in order.
//!
//! A settlement takes its place in the order when it is made, without waiting, so there is no bound here: requests are
//! bounded by [`super::budget`], settlements and releases by the deliveries that they end.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::frame::Written;

/// Frames on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Written>,
    finished: bool,
}

impl Outbox {
    /// Adds a frame; after [`Self::finish`] it is dropped.
    pub(super) fn push(&self, frame: Written) {
        let mut queue = self.lock();
        if queue.finished {
            return;
        }
        queue.frames.push_back(frame);
        drop(queue);
        self.changed.notify_one();
    }

    /// Nothing follows what is there.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.changed.notify_one();
    }

    /// Waits for frames and moves them to `batch`; returns whether there were any before the end.
    pub(super) async fn take(&self, batch: &mut Vec<Written>) -> bool {
        loop {
            {
                let mut queue = self.lock();
                batch.extend(queue.frames.drain(..));
                if !batch.is_empty() || queue.finished {
                    return !batch.is_empty();
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
