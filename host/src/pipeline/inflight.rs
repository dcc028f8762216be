//! How much is in flight at once, and the heartbeat that keeps its leases.
//!
//! Permits are taken before messages: waiting for one is the back-pressure, and the broker keeps the queue meanwhile.
//! Which call runs when is decided by the plugin's own pool.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::fair::Share;
use crate::backend::{Backend, Delivery, QueueSpec, Token};
use crate::queue::IdHasher;

/// The most unsettled deliveries of one subscription.
const MOST: usize = 2048;
/// The most that one `receive` takes.
const BATCH: usize = 512;

/// Deliveries that are not yet settled.
#[derive(Debug)]
pub(super) struct InFlight {
    free: Arc<Semaphore>,
    /// Room that it may not use for now, because a queue that weighs more needs its share.
    held_back: Option<OwnedSemaphorePermit>,
    share: Arc<Share>,
    tokens: Arc<Tokens>,
    /// Parts into which a batch is spread, so that every core has one.
    parts: usize,
    _heartbeat: AbortOnDropHandle<()>,
}

/// Room for deliveries that are about to be received.
#[derive(Debug)]
pub(super) struct Permits {
    permit: OwnedSemaphorePermit,
    tokens: Arc<Tokens>,
    parts: usize,
}

/// Room for one delivery, until it is settled.
#[derive(Debug)]
pub(super) struct Permit {
    room: Option<OwnedSemaphorePermit>,
    token: Token,
    /// `None` once its token is given back.
    tokens: Option<Arc<Tokens>>,
}

/// The fences of deliveries in flight by the number of the message.
#[derive(Debug)]
struct Tokens {
    held: Mutex<Held>,
    share: Arc<Share>,
}

type Held = HashMap<u64, u64, BuildHasherDefault<IdHasher>>;

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, tokens: impl Iterator<Item = Token>) {
        let mut held = self.lock();
        held.extend(tokens.map(|Token { id, fence }| (id, fence)));
        self.share.has_in_flight(held.len());
    }

    fn let_go(&self, tokens: impl Iterator<Item = Token>) {
        let mut held = self.lock();
        for Token { id, fence } in tokens {
            // A later delivery of the same message may be in flight by now.
            if held.get(&id) == Some(&fence) {
                held.remove(&id);
            }
        }
        self.share.has_in_flight(held.len());
    }

    fn all(&self) -> Vec<Token> {
        let token = |(&id, &fence)| Token { id, fence };
        self.lock().iter().map(token).collect()
    }
}

impl Permit {
    /// Gives back the room of several deliveries of one subscription at once.
    pub(super) fn give_back(mut permits: Vec<Self>) {
        let Some(tokens) = permits.first_mut().and_then(|first| first.tokens.take()) else {
            return;
        };
        tokens.let_go(permits.iter().map(|permit| permit.token));
        let mut all: Option<OwnedSemaphorePermit> = None;
        for mut permit in permits {
            permit.tokens = None;
            match (&mut all, permit.room.take()) {
                (Some(all), Some(room)) => all.merge(room),
                (None, room) => all = room,
                (Some(_), None) => {}
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(tokens) = self.tokens.take() {
            tokens.let_go(std::iter::once(self.token));
        }
    }
}

impl InFlight {
    pub(super) fn new(backend: Arc<dyn Backend>, share: Arc<Share>) -> Self {
        let tokens = Arc::new(Tokens {
            held: Mutex::default(),
            share: share.clone(),
        });
        Self {
            free: Arc::new(Semaphore::new(MOST)),
            held_back: None,
            share,
            tokens: tokens.clone(),
            parts: std::thread::available_parallelism().map_or(2, usize::from),
            _heartbeat: AbortOnDropHandle::new(tokio::spawn(heartbeat(backend, tokens))),
        }
    }

    /// Waits for room for one delivery and takes what else is free, `most` at the most.
    pub(super) async fn permits(&mut self, most: usize) -> Permits {
        let permit = loop {
            let surplus = self.hold_back();
            let permit = self.room().await;
            match &mut self.held_back {
                Some(held) if surplus > 0 => held.merge(permit),
                None if surplus > 0 => self.held_back = Some(permit),
                _ => break permit,
            }
        };
        let mut permits = Permits {
            permit,
            tokens: self.tokens.clone(),
            parts: self.parts,
        };
        if let Some(more) = self.free_room(most.clamp(1, BATCH) - 1) {
            permits.permit.merge(more);
        }
        permits
    }

    /// Holds back as much of what is free as it must, gives free what it need not, and returns how much is missing.
    fn hold_back(&mut self) -> usize {
        let wanted = MOST - self.share.most_in_flight(MOST).min(MOST);
        let held = self.held_back.as_ref();
        let held = held.map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(too_much) = held.checked_sub(wanted) {
            let all = &mut self.held_back;
            drop(all.as_mut().and_then(|all| all.split(too_much)));
            return 0;
        }
        let Some(more) = self.free_room(wanted - held) else {
            return wanted - held;
        };
        let missing = wanted - held - more.num_permits();
        match &mut self.held_back {
            Some(held) => held.merge(more),
            None => self.held_back = Some(more),
        }
        missing
    }

    /// Room for one delivery.
    async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            // The semaphore is never closed.
            if let Ok(permit) = self.free.clone().acquire_owned().await {
                return permit;
            }
        }
    }

    /// What is free at this moment, `most` at the most.
    fn free_room(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        let more = self.free.available_permits().min(most);
        let more = u32::try_from(more).unwrap_or(0);
        self.free.clone().try_acquire_many_owned(more).ok()
    }
}

impl Permits {
    pub(super) fn len(&self) -> usize {
        self.permit.num_permits()
    }

    /// Gives each delivery its permit and spreads them over as many parts as there are cores.
    pub(super) fn spread(mut self, batch: Vec<Delivery>) -> Vec<VecDeque<(Delivery, Permit)>> {
        let size = batch.len().div_ceil(self.parts).max(1);
        let mut parts: Vec<VecDeque<(Delivery, Permit)>> = Vec::with_capacity(self.parts);
        self.tokens.hold(batch.iter().map(Delivery::token));
        for delivery in batch {
            let permit = Permit {
                room: self.permit.split(1),
                token: delivery.token(),
                tokens: Some(self.tokens.clone()),
            };
            match parts.last_mut() {
                Some(part) if part.len() < size => part.push_back((delivery, permit)),
                _ => {
                    let mut part = VecDeque::with_capacity(size);
                    part.push_back((delivery, permit));
                    parts.push(part);
                }
            }
        }
        parts
    }
}

/// Extends the leases of everything in flight, in one call.
async fn heartbeat(backend: Arc<dyn Backend>, tokens: Arc<Tokens>) {
    let mut ticks = tokio::time::interval(QueueSpec::LEASE / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let held = tokens.all();
        if !held.is_empty() {
            // A stale one has been lost already; its settlement will say so.
            backend.extend(&held, QueueSpec::LEASE).await;
        }
    }
}
