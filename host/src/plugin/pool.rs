//! Warm instances of one plugin, shared by its calls.
//!
//! Waiting for a turn is event-driven and fair (`plugin/turns.rs`). An instance handles one message at a time, is retired
//! after a number of calls that nobody can rely on, and never comes back after a failure.

use std::sync::Arc;

use super::hits::Alive;
use super::turns::{Turn, Turns};
use super::{Hits, Isolation, Limit, Limits, Readable};
use crate::guest::{Guest, GuestError, Instance};

/// An instance is retired after a number of calls drawn from this range.
const USES: std::ops::Range<u32> = 50_000..100_000;

#[derive(Debug)]
pub(super) struct Pool {
    name: Arc<str>,
    guest: Guest,
    config: Arc<Readable>,
    limits: Limits,
    hits: Arc<Hits>,
    turns: Turns<Warm>,
}

/// An instance between two calls.
#[derive(Debug)]
struct Warm {
    instance: Instance,
    uses_left: u32,
    alive: Alive,
}

/// A turn; the instance is given back through it.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    turn: Turn<'a, Warm>,
    uses_left: u32,
    alive: Alive,
}

impl Slot<'_> {
    /// Keeps an instance that may be used again.
    pub(super) fn give_back(mut self, instance: Option<Instance>) {
        let uses_left = self.uses_left.saturating_sub(1);
        if let Some(instance) = instance.filter(|_| uses_left > 0) {
            self.turn.leave(Warm {
                instance,
                uses_left,
                alive: self.alive,
            });
        }
    }
}

impl Pool {
    pub(super) fn new(
        name: Arc<str>,
        guest: Guest,
        config: Arc<Readable>,
        limits: Limits,
        hits: Arc<Hits>,
    ) -> Self {
        let turns = Turns::new(limits.concurrency);
        Self {
            name,
            guest,
            config,
            limits,
            hits,
            turns,
        }
    }

    /// Nobody waits for a turn any more, and idle instances end; once it is `over`, nobody gets one either.
    pub(super) fn supersede(&self, over: bool) {
        self.turns.send_away(over);
    }

    /// Waits for a turn and takes a warm instance or makes one; `None` if it was superseded meanwhile.
    pub(super) async fn acquire(&self) -> Result<Option<(Instance, Slot<'_>)>, GuestError> {
        let turn = match self.turns.free() {
            Some(turn) => Some(turn),
            None => {
                self.hits.count(Limit::Concurrency);
                self.turns.next().await
            }
        };
        let Some(mut turn) = turn else {
            return Ok(None);
        };
        if let Some(Warm {
            instance,
            uses_left,
            alive,
        }) = turn.take()
        {
            let slot = Slot {
                turn,
                uses_left,
                alive,
            };
            return Ok(Some((instance, slot)));
        }
        // Apart, since it is large and seldom needed.
        let instance = self
            .guest
            .instantiate(&self.name, &self.config, &self.limits);
        let instance = Box::pin(instance).await?;
        let uses_left = match self.limits.isolation {
            Isolation::Reuse => rand::random_range(USES),
            Isolation::Message => 1,
        };
        let slot = Slot {
            turn,
            uses_left,
            alive: Alive::new(&self.hits),
        };
        Ok(Some((instance, slot)))
    }
}
