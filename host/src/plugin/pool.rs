//! Warm instances of one plugin, shared by its calls.
//!
//! Waiting for a turn is event-driven and fair. An instance handles one message at a time, is retired after a number of
//! calls that nobody can rely on, and never comes back after a failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Isolation, Limits};
use crate::guest::{Guest, GuestError, Instance};

/// An instance is retired after a number of calls drawn from this range.
const USES: std::ops::Range<u32> = 50_000..100_000;

#[derive(Debug)]
pub(super) struct Pool {
    name: Arc<str>,
    guest: Guest,
    config: Arc<BTreeMap<String, String>>,
    limits: Limits,
    turns: Semaphore,
    idle: Mutex<Vec<Warm>>,
}

#[derive(Debug)]
struct Warm {
    instance: Instance,
    uses_left: u32,
}

/// A turn; the instance is given back through it.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    idle: &'a Mutex<Vec<Warm>>,
    uses_left: u32,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Slot<'_> {
    /// Keeps an instance that may be used again.
    pub(super) fn give_back(self, instance: Option<Instance>) {
        let uses_left = self.uses_left.saturating_sub(1);
        if let Some(instance) = instance.filter(|_| uses_left > 0) {
            let warm = Warm {
                instance,
                uses_left,
            };
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(warm);
        }
    }
}

impl Pool {
    pub(super) fn new(
        name: Arc<str>,
        guest: Guest,
        config: BTreeMap<String, String>,
        limits: Limits,
    ) -> Self {
        let turns = Semaphore::new(limits.concurrency.max(1));
        Self {
            name,
            guest,
            config: Arc::new(config),
            limits,
            turns,
            idle: Mutex::default(),
        }
    }

    /// Waits for a turn and takes a warm instance or makes one.
    pub(super) async fn acquire(&self) -> Result<(Instance, Slot<'_>), GuestError> {
        // The semaphore is never closed.
        let turn = match self.turns.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => self.turns.acquire().await.ok(),
        };
        let slot = |uses_left| Slot {
            idle: &self.idle,
            uses_left,
            _turn: turn,
        };
        let warm = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(warm) = warm {
            return Ok((warm.instance, slot(warm.uses_left)));
        }
        let instance = self
            .guest
            .instantiate(&self.name, &self.config, &self.limits)
            .await?;
        let uses = match self.limits.isolation {
            Isolation::Reuse => rand::random_range(USES),
            Isolation::Message => 1,
        };
        Ok((instance, slot(uses)))
    }
}
