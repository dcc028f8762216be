//! Waits until a plugin may take messages: the asynchronous side of [`crate::throttle`], with its clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::backend::Verdict;
use crate::call::Access;
use crate::plugin::{Hits, Limit, Limits};
use crate::store::Reason;
use crate::throttle::{Change, Room, Throttle};

/// Rate and breaker of one subscription, shared by its tasks.
#[derive(Debug)]
pub(super) struct Gate {
    /// `None`: nothing is limited, and nothing is counted.
    throttle: Mutex<Option<Throttle>>,
    changed: Notify,
    /// How often it was closed because the plugin kept failing.
    pauses: AtomicUsize,
    /// Of all versions of the plugin.
    hits: Arc<Hits>,
    began: Instant,
}

/// That messages may be received now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// How many at most.
    pub(super) most: usize,
    /// How often the gate had been closed by then.
    pauses: usize,
}

impl Gate {
    pub(super) fn new(access: &Access) -> Self {
        Self {
            throttle: Mutex::new(throttle(&access.limits)),
            changed: Notify::new(),
            pauses: AtomicUsize::new(0),
            hits: access.hits.clone(),
            began: Instant::now(),
        }
    }

    /// Begins again with these limits, and with nothing against the plugin.
    pub(super) fn renew(&self, limits: &Limits) {
        *self.lock() = throttle(limits);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Throttle>> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something may be received.
    pub(super) async fn room(&self) -> Allowed {
        let mut overrun = false;
        loop {
            let pauses = self.pauses();
            let changed = self.changed.notified();
            let now = self.began.elapsed();
            let room = match &mut *self.lock() {
                Some(throttle) => {
                    let room = throttle.room(now);
                    if !overrun && throttle.is_overrun(now) {
                        overrun = true;
                        self.hits.count(Limit::Rate);
                    }
                    room
                }
                None => Room::Now(usize::MAX),
            };
            match room {
                Room::Now(most) => return Allowed { most, pauses },
                Room::Later(when) => tokio::select! {
                    () = sleep_until(self.began + when) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Whether it is closed because the plugin keeps failing, a message that is tried meanwhile included.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().as_ref().is_some_and(Throttle::is_paused)
    }

    /// Differs once the plugin was paused: what was taken before and has not begun goes back then.
    pub(super) fn pauses(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }

    /// So many were received. Returns how often the gate has been closed, or `None` if that happened while they were
    /// waited for: they go back then.
    pub(super) fn took(&self, count: usize, allowed: Allowed) -> Option<usize> {
        if let Some(throttle) = &mut *self.lock() {
            if self.pauses() != allowed.pauses {
                return None;
            }
            throttle.took(count, self.began.elapsed());
        }
        Some(allowed.pauses)
    }

    /// These have ended together. Returns whether the plugin is paused or works again from now on.
    pub(super) fn ended<'a>(&self, verdicts: impl Iterator<Item = &'a Verdict>) -> Option<Change> {
        let mut locked = self.lock();
        let throttle = locked.as_mut()?;
        let now = self.began.elapsed();
        let mut last = None;
        for failed in verdicts.filter_map(failing) {
            last = throttle.ended(failed, now).or(last);
        }
        if last == Some(Change::Paused) {
            self.pauses.fetch_add(1, Ordering::Relaxed);
        }
        drop(locked);
        if last.is_some() {
            self.changed.notify_one();
        }
        last
    }
}

fn throttle(limits: &Limits) -> Option<Throttle> {
    let limited = limits.rate.is_some() || limits.breaker.is_some();
    limited.then(|| Throttle::new(limits.rate, limits.breaker))
}

/// Whether the plugin failed. `None` where the message was at fault, or where the handler asked for another attempt.
fn failing(verdict: &Verdict) -> Option<bool> {
    let reason = match verdict {
        Verdict::Ack => return Some(false),
        Verdict::Retry { failed, .. } => failed.reason,
        Verdict::DeadLetter(letter) => letter.reason,
    };
    match reason {
        Reason::Failed
        | Reason::Attempts
        | Reason::Timeout
        | Reason::Trap
        | Reason::Memory
        | Reason::Forbidden
        | Reason::Limit => Some(true),
        Reason::Retry
        | Reason::Rejected
        | Reason::Malformed
        | Reason::NoHandler
        | Reason::TooLarge => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::FailedAttempt;
    use crate::throttle::BreakerPolicy;

    #[tokio::test]
    async fn what_comes_after_a_pause_has_begun_goes_back() {
        let breaker = BreakerPolicy {
            at_least: 1,
            pause: Duration::from_millis(20),
            ..BreakerPolicy::default()
        };
        let limits = Limits {
            breaker: Some(breaker),
            ..Limits::default()
        };
        let store = Arc::new(crate::backend::MemoryBackend::default());
        let gate = Gate::new(&Access {
            limits,
            ..Access::native(store)
        });
        let allowed = gate.room().await;
        assert_eq!(gate.took(1, allowed), Some(0));
        // The next message is waited for when the first one fails.
        let allowed = gate.room().await;
        let failed = Verdict::Retry {
            after: Duration::ZERO,
            failed: Box::new(FailedAttempt {
                attempt: 1,
                at_ms: 0,
                reason: Reason::Trap,
                error: String::new(),
            }),
        };
        assert_eq!(gate.ended([&failed].into_iter()), Some(Change::Paused));
        assert_eq!(gate.took(1, allowed), None);
        // What was refused is no trial: that comes after the pause.
        let began = Instant::now();
        let allowed = gate.room().await;
        assert!(began.elapsed() >= breaker.pause, "{:?}", began.elapsed());
        assert_eq!(allowed.most, 1);
        assert_eq!(gate.took(1, allowed), Some(1));
        assert_eq!(
            gate.ended([&Verdict::Ack].into_iter()),
            Some(Change::Resumed)
        );
    }
}
