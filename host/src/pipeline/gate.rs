//! Waits until a plugin may take messages: the asynchronous side of [`crate::throttle`], with its clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::backend::Verdict;
use crate::plugin::Limits;
use crate::store::Reason;
use crate::throttle::{Change, Room, Throttle};

/// Rate and breaker of one subscription, shared by its tasks.
#[derive(Debug)]
pub(super) struct Gate {
    /// `None`: nothing is limited, and nothing is counted.
    throttle: Option<Mutex<Throttle>>,
    changed: Notify,
    /// How often it was closed because the plugin kept failing.
    pauses: AtomicUsize,
    began: Instant,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        let limited = limits.rate.is_some() || limits.breaker.is_some();
        let throttle = || Mutex::new(Throttle::new(limits.rate, limits.breaker));
        Self {
            throttle: limited.then(throttle),
            changed: Notify::new(),
            pauses: AtomicUsize::new(0),
            began: Instant::now(),
        }
    }

    /// Waits until something may be taken; at most so many messages then.
    pub(super) async fn room(&self) -> usize {
        loop {
            let Some(throttle) = &self.throttle else {
                return usize::MAX;
            };
            let changed = self.changed.notified();
            let room = throttle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .room(self.began.elapsed());
            match room {
                Room::Now(count) => return count,
                Room::Later(when) => tokio::select! {
                    () = sleep_until(self.began + when) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Differs once the plugin was paused: what was taken before and has not begun goes back then.
    pub(super) fn pauses(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }

    /// So many were taken.
    pub(super) fn took(&self, count: usize) {
        if let Some(throttle) = &self.throttle {
            let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
            throttle.took(count, self.began.elapsed());
        }
    }

    /// These have ended together. Returns whether the plugin is paused or works again from now on.
    pub(super) fn ended<'a>(&self, verdicts: impl Iterator<Item = &'a Verdict>) -> Option<Change> {
        let mut throttle = self
            .throttle
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.began.elapsed();
        let mut last = None;
        for failed in verdicts.filter_map(failing) {
            last = throttle.ended(failed, now).or(last);
        }
        drop(throttle);
        if last == Some(Change::Paused) {
            self.pauses.fetch_add(1, Ordering::Relaxed);
        }
        if last.is_some() {
            self.changed.notify_one();
        }
        last
    }
}

/// Whether the plugin failed. `None` where the message was at fault, or where the handler asked for another attempt.
fn failing(verdict: &Verdict) -> Option<bool> {
    let reason = match verdict {
        Verdict::Ack => return Some(false),
        Verdict::Retry { failed, .. } => failed.reason,
        Verdict::DeadLetter(letter) => letter.reason,
    };
    match reason {
        Reason::Failed | Reason::Attempts | Reason::Timeout | Reason::Trap | Reason::Memory => {
            Some(true)
        }
        Reason::Retry
        | Reason::Rejected
        | Reason::Malformed
        | Reason::NoHandler
        | Reason::TooLarge
        | Reason::Forbidden => None,
    }
}
