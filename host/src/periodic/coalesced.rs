//! Keeps the runs of a slow periodic route from piling up: one that became due while the one before was going on is left
//! out when a later start has already covered it.
//!
//! What is left out is acknowledged, never an error. Retries and repetitions of the same run are always handled.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use super::{Clock, DUE, schedule};
use crate::call::Call;
use crate::dispatch::{Action, Conflict, Dispatcher, Identity, Kind, Outcome};

/// The action of a periodic route, with the memory of its last start.
#[derive(Debug)]
struct Coalesced {
    action: Arc<dyn Action>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Start>>,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    identifier: Uuid,
    at_ms: i64,
}

/// The same table, with what is periodic coalesced.
pub(crate) fn coalesced(
    dispatcher: &Dispatcher,
    clock: &Arc<dyn Clock>,
) -> Result<Dispatcher, Conflict> {
    let mut table = Dispatcher::default();
    for route in dispatcher.routes() {
        let mut route = route.clone();
        if route.kind == Kind::Periodic {
            let (action, clock) = (route.action, clock.clone());
            route.action = Arc::new(Coalesced {
                action,
                clock,
                last: Mutex::default(),
            });
        }
        table.add(route)?;
    }
    Ok(table)
}

impl Coalesced {
    /// Whether this run is to be made; if so, it has begun.
    fn begin(&self, call: &Call) -> bool {
        let identifier = call.message.identifier;
        let due_ms = call
            .message
            .payload
            .headers
            .get(DUE)
            .and_then(schedule::from_rfc3339);
        let now_ms = self.clock.now_ms();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let covered = match (*last, due_ms) {
            // A start that is yet to come was before the clock was set back.
            (Some(last), Some(due_ms)) if last.at_ms <= now_ms => {
                last.identifier != identifier && due_ms <= last.at_ms
            }
            _ => false,
        };
        if covered && call.attempt == 1 {
            return false;
        }
        *last = Some(Start {
            identifier,
            at_ms: now_ms,
        });
        true
    }
}

#[async_trait]
impl Action for Coalesced {
    async fn call(&self, call: Call) -> (Call, Outcome) {
        if self.begin(&call) {
            return self.action.call(call).await;
        }
        let identity = self.identity();
        let plugin = identity.plugin.as_deref().unwrap_or("native");
        let due = call.message.payload.headers.get(DUE).unwrap_or_default();
        tracing::info!(
            plugin,
            route = call.route,
            due,
            "left out: it was due before the last start"
        );
        (call, Outcome::Done(None))
    }

    fn identity(&self) -> Identity {
        self.action.identity()
    }

    fn supersede(&self, over: bool) {
        self.action.supersede(over);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::call::Access;
    use crate::message::{Message, Payload};
    use crate::plugin::{Grants, Limits};

    #[derive(Debug, Default)]
    struct Set(AtomicI64);

    #[async_trait]
    impl Clock for Set {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }

        async fn until(&self, _: i64) {}
    }

    /// Says that it was called.
    #[derive(Debug)]
    struct Called;

    #[async_trait]
    impl Action for Called {
        async fn call(&self, call: Call) -> (Call, Outcome) {
            (call, Outcome::Failed("called".to_owned()))
        }

        fn identity(&self) -> Identity {
            Identity::default()
        }
    }

    fn call(due_minute: i64, attempt: u32) -> Call {
        let access = Access {
            plugin: "p".into(),
            grants: Grants::all(),
            limits: Limits::default(),
            hits: Arc::default(),
            store: Arc::new(MemoryBackend::new()),
            client: None,
            http: None,
        };
        let mut payload = Payload::default();
        payload
            .headers
            .put(DUE, &schedule::rfc3339(due_minute * 60_000));
        let identifier = Uuid::from_u128(due_minute.unsigned_abs().into());
        let message = Message::new("periodic.p".parse().unwrap(), payload);
        let message = message.with_identifier(identifier);
        Call::new(Arc::new(access), Arc::new(message), attempt, 0, 0)
    }

    #[tokio::test]
    async fn what_a_later_start_covers_is_left_out() {
        let clock = Arc::new(Set::default());
        let coalesced = Coalesced {
            action: Arc::new(Called),
            clock: clock.clone(),
            last: Mutex::default(),
        };
        // When it is called, for which minute, at which attempt, and whether it is handled.
        for (now, due, attempt, handled) in [
            (0, 0, 1, true),
            // It took 2½ minutes; 1 was waiting, and its start covers 2.
            (150, 1, 1, true),
            (151, 2, 1, false),
            (180, 3, 1, true),
            // The same run again: a conflict, then a retry.
            (181, 3, 1, true),
            (190, 3, 2, true),
            (250, 3, 3, true),
            // What waited for the retries is covered by the last of them.
            (251, 4, 1, false),
            (300, 5, 1, true),
        ] {
            clock.0.store(now * 1000, Ordering::Relaxed);
            let (_, outcome) = coalesced.call(call(due, attempt)).await;
            assert_eq!(
                outcome != Outcome::Done(None),
                handled,
                "{due} at {now}, attempt {attempt}"
            );
        }
    }
}
