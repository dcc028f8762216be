//! How much is in flight at once, and the heartbeat that keeps its leases.
//!
//! Permits are taken before messages: waiting for one is the back-pressure, and the broker keeps the queue meanwhile.
//! Which call runs when is decided by the plugin's own pool.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use crate::backend::{Backend, Delivery, QueueSpec, Token};

/// The most unsettled deliveries of one subscription.
const MOST: usize = 2048;
/// The most that one `receive` takes.
const BATCH: usize = 512;

/// Deliveries that are not yet settled.
#[derive(Debug)]
pub(super) struct InFlight {
    free: Arc<Semaphore>,
    tokens: Arc<Mutex<HashSet<Token>>>,
    /// Parts into which a batch is spread, so that every core has one.
    parts: usize,
    _heartbeat: AbortOnDropHandle<()>,
}

/// Room for deliveries that are about to be received.
#[derive(Debug)]
pub(super) struct Permits {
    permit: OwnedSemaphorePermit,
    tokens: Arc<Mutex<HashSet<Token>>>,
    parts: usize,
}

/// Room for one delivery, until it is settled.
#[derive(Debug)]
pub(super) struct Permit {
    _room: Option<OwnedSemaphorePermit>,
    token: Token,
    tokens: Arc<Mutex<HashSet<Token>>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.token);
    }
}

impl InFlight {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        let tokens: Arc<Mutex<HashSet<Token>>> = Arc::default();
        Self {
            free: Arc::new(Semaphore::new(MOST)),
            tokens: tokens.clone(),
            parts: std::thread::available_parallelism().map_or(2, usize::from),
            _heartbeat: AbortOnDropHandle::new(tokio::spawn(heartbeat(backend, tokens))),
        }
    }

    /// Waits for room for one delivery and takes what else is free.
    pub(super) async fn permits(&self) -> Permits {
        // The semaphore is never closed.
        let permit = loop {
            if let Ok(permit) = self.free.clone().acquire_owned().await {
                break permit;
            }
        };
        let mut permits = Permits {
            permit,
            tokens: self.tokens.clone(),
            parts: self.parts,
        };
        let more = self.free.available_permits().min(BATCH - 1);
        let more = u32::try_from(more).unwrap_or(0);
        if let Ok(more) = self.free.clone().try_acquire_many_owned(more) {
            permits.permit.merge(more);
        }
        permits
    }
}

impl Permits {
    pub(super) fn len(&self) -> usize {
        self.permit.num_permits()
    }

    /// Gives each delivery its permit and spreads them over as many parts as there are cores.
    pub(super) fn spread(mut self, batch: Vec<Delivery>) -> Vec<Vec<(Delivery, Permit)>> {
        let size = batch.len().div_ceil(self.parts).max(1);
        let mut parts: Vec<Vec<(Delivery, Permit)>> = Vec::with_capacity(self.parts);
        {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.extend(batch.iter().map(Delivery::token));
        }
        for delivery in batch {
            let permit = Permit {
                _room: self.permit.split(1),
                token: delivery.token(),
                tokens: self.tokens.clone(),
            };
            match parts.last_mut() {
                Some(part) if part.len() < size => part.push((delivery, permit)),
                _ => {
                    let mut part = Vec::with_capacity(size);
                    part.push((delivery, permit));
                    parts.push(part);
                }
            }
        }
        parts
    }
}

/// Extends the leases of everything in flight, in one call.
async fn heartbeat(backend: Arc<dyn Backend>, tokens: Arc<Mutex<HashSet<Token>>>) {
    let mut ticks = tokio::time::interval(QueueSpec::LEASE / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let held: Vec<Token> = {
            let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.iter().copied().collect()
        };
        if !held.is_empty() {
            // A stale one has been lost already; its settlement will say so.
            backend.extend(&held, QueueSpec::LEASE).await;
        }
    }
}
