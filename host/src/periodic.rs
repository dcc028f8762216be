//! Makes messages of the times that handlers have in their schedules, so that what is periodic is handled like anything
//! else: with attempts, limits and dead letters.
//!
//! Each goes to the plugin's own queue and to one route. At most one of a route is handled at a time, because they share
//! a key; one that waited while the one before was going on is left out by `periodic/coalesced.rs`. Times that passed while
//! nothing was running are not made up for. Nothing is handled here, and no other module knows what a schedule means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::backend::{Backend, Destination, Outgoing, QueueName};
use crate::clock;
use crate::dispatch::Route;
use crate::message::{HeaderError, Message, Payload};
use crate::topic::TopicName;

mod coalesced;
mod schedule;

pub(crate) use coalesced::coalesced;
pub use schedule::{Schedule, ScheduleError};

/// The header of a periodic message: the time that it was made for (RFC 3339).
pub const DUE: &str = "due";

/// Periodic messages have identifiers of this name space.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0b_95c4_6a35_4f0e_9d0c_b3a1_7e52_48f6);
/// Who is later than this has missed it: the machine slept, or the clock was set.
const LATE: Duration = Duration::from_secs(60);
/// How long a message that the broker refused waits for another try.
const AGAIN: Duration = Duration::from_secs(1);

/// What time it is, and how one waits for a time. Tests have one of their own.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> i64;

    /// Returns when that time has come; earlier if the clock was set back meanwhile.
    async fn until(&self, at_ms: i64);
}

/// The clock on the wall.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

#[async_trait]
impl Clock for WallClock {
    fn now_ms(&self) -> i64 {
        clock::now_ms()
    }

    async fn until(&self, at_ms: i64) {
        /// Somebody may set the clock meanwhile.
        const LOOK: Duration = Duration::from_secs(10);
        let mut before_ms = self.now_ms();
        while let Ok(left) = u64::try_from(at_ms - before_ms) {
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await;
            let now_ms = self.now_ms();
            if now_ms < before_ms {
                return;
            }
            before_ms = now_ms;
        }
    }
}

/// The periodic routes of one handler, followed in a task of their own. Dropping it ends that.
#[derive(Debug)]
pub struct Periodic {
    _task: AbortOnDropHandle<()>,
}

/// One of them.
#[derive(Debug)]
struct Timed {
    plugin: Arc<str>,
    topic: TopicName,
    queue: QueueName,
    number: u32,
    schedule: Schedule,
}

impl Periodic {
    /// Follows the schedules of the routes of a plugin, or of native actions, that are served from this queue; `None` if
    /// there are none.
    #[must_use]
    pub fn start(
        plugin: &Arc<str>,
        routes: &[Route],
        queue: &QueueName,
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
    ) -> Option<Self> {
        let timed: Vec<Timed> = routes
            .iter()
            .filter_map(|route| {
                Some(Timed {
                    plugin: plugin.clone(),
                    topic: route.topic.exact()?,
                    queue: queue.clone(),
                    number: route.number,
                    schedule: route.schedule.clone()?,
                })
            })
            .collect();
        if timed.is_empty() {
            return None;
        }
        let began_ms = clock.now_ms();
        let task = tokio::spawn(async move {
            let all = timed
                .iter()
                .map(|timed| timed.follow(began_ms, &*backend, &*clock));
            all.collect::<FuturesUnordered<_>>().collect::<()>().await;
        });
        Some(Self {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

impl Timed {
    async fn follow(&self, began_ms: i64, backend: &dyn Backend, clock: &dyn Clock) {
        let mut after_ms = began_ms;
        while let Some(due_ms) = self.schedule.next(after_ms) {
            clock.until(due_ms).await;
            let now_ms = clock.now_ms();
            if now_ms < due_ms {
                after_ms = self.set_back(after_ms, due_ms, now_ms);
                continue;
            }
            if now_ms <= due_ms.saturating_add(millis(LATE)) {
                self.publish(due_ms, backend, clock).await;
                after_ms = due_ms;
            } else {
                let (plugin, due) = (&self.plugin, schedule::rfc3339(due_ms));
                tracing::info!(%plugin, schedule = %self.schedule, due, "missed, and not made up for");
                after_ms = clock.now_ms();
            }
        }
        tracing::warn!(plugin = %self.plugin, schedule = %self.schedule, "the schedule has ended");
    }

    /// From when on times count after a clock was set back. A time does not come twice because of that, unless the
    /// schedule would be silent for longer than it ever is.
    fn set_back(&self, after_ms: i64, due_ms: i64, now_ms: i64) -> i64 {
        let usual_ms = self
            .schedule
            .next(due_ms)
            .map_or(i64::MAX, |next_ms| next_ms.saturating_sub(due_ms));
        if due_ms.saturating_sub(now_ms) <= usual_ms.saturating_add(millis(LATE)) {
            return after_ms;
        }
        let (plugin, now) = (&self.plugin, schedule::rfc3339(now_ms));
        tracing::warn!(%plugin, schedule = %self.schedule, now, "the clock was set back; the schedule begins again from here");
        now_ms
    }

    /// Publishes until the broker takes it, or the next one is due.
    async fn publish(&self, due_ms: i64, backend: &dyn Backend, clock: &dyn Clock) {
        let next_ms = self.schedule.next(due_ms).unwrap_or(i64::MAX);
        let message = match self.message(due_ms) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(plugin = %self.plugin, schedule = %self.schedule, "no message: {error}");
                return;
            }
        };
        loop {
            let outgoing = Outgoing {
                to: Destination::Queue(self.queue.clone()),
                key: Some(format!("periodic/{}", self.number).into()),
                route: Some(self.number),
                ..Outgoing::new(message.clone())
            };
            match backend.publish(vec![outgoing]).await.pop() {
                Some(Err(error)) => {
                    tracing::warn!(plugin = %self.plugin, schedule = %self.schedule, %error, "a periodic message cannot be published; trying again");
                }
                Some(Ok(_)) | None => return,
            }
            let again_ms = clock.now_ms().saturating_add(millis(AGAIN));
            if again_ms >= next_ms {
                return;
            }
            clock.until(again_ms).await;
        }
    }

    fn message(&self, due_ms: i64) -> Result<Message, HeaderError> {
        let name = format!("{}/{}/{due_ms}", self.plugin, self.number);
        let mut payload = Payload::default();
        payload.headers.insert(DUE, &schedule::rfc3339(due_ms))?;
        let message = Message::new(self.topic.clone(), payload);
        Ok(message.with_identifier(Uuid::new_v5(&NAMESPACE, name.as_bytes())))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
