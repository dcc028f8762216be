//! How a receiver waits for a message of a backend of our own: woken by what arrives, never by polling.
//!
//! It doesn't know what a queue is; it only calls a function that looks into one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::table::Attempt;
use super::{BackendError, Delivery};

/// A longer wait is as good as this one, and moments don't overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Looks until there is something, at most for `wait`. Nothing is lost when the future is dropped: what was taken is
/// returned without another suspension.
pub(super) async fn receive(
    wait: Duration,
    mut look: impl FnMut() -> Result<Attempt, BackendError>,
) -> Result<Vec<Delivery>, BackendError> {
    let until = Instant::now() + wait.min(LONGEST);
    loop {
        let arrived = match look()? {
            Attempt::Taken(deliveries) => return Ok(deliveries),
            Attempt::Empty { arrived, .. } => arrived,
        };
        if Instant::now() >= until {
            return Ok(Vec::new());
        }
        let mut woken = pin!(arrived.notified());
        woken.as_mut().enable();
        // What arrived before `enable` woke nobody, so look once more.
        let recheck = match look()? {
            Attempt::Taken(deliveries) => return Ok(deliveries),
            Attempt::Empty {
                recheck,
                arrived: now,
            } if Arc::ptr_eq(&now, &arrived) => recheck,
            // The queue was deleted and declared again in between.
            Attempt::Empty { .. } => continue,
        };
        let next = until.min(Instant::now() + recheck.min(LONGEST));
        // Woken or not, the next look decides.
        drop(timeout_at(next, woken).await);
    }
}

/// A clock in milliseconds that never goes back; it stands still with the paused clock of a test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now_ms(self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
