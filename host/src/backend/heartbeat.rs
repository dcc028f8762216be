//! Keeps the leases of what is held, as long as it is held.
//!
//! It neither takes nor settles deliveries, and doesn't know what they are held for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::{Backend, Token};

/// Deliveries whose leases are kept.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    tokens: Tokens,
    _task: AbortOnDropHandle<()>,
}

type Tokens = Arc<Mutex<HashSet<Token>>>;

/// One delivery whose lease is kept until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    token: Token,
    heartbeat: Arc<Heartbeat>,
}

impl Heartbeat {
    /// For deliveries of queues with this lease.
    pub(crate) fn start(backend: Arc<dyn Backend>, lease: Duration) -> Arc<Self> {
        let tokens = Tokens::default();
        Arc::new(Self {
            tokens: tokens.clone(),
            _task: AbortOnDropHandle::new(tokio::spawn(beat(backend, tokens, lease))),
        })
    }

    /// Keeps the lease of this delivery.
    pub(crate) fn hold(self: &Arc<Self>, token: Token) -> Held {
        self.with(|tokens| tokens.insert(token));
        Held {
            token,
            heartbeat: self.clone(),
        }
    }

    fn with(&self, f: impl FnOnce(&mut HashSet<Token>) -> bool) {
        f(&mut self.tokens.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heartbeat.with(|tokens| tokens.remove(&self.token));
    }
}

/// Extends the leases of everything that is held, in one call.
async fn beat(backend: Arc<dyn Backend>, tokens: Tokens, lease: Duration) {
    let period = (lease / 3).max(Duration::from_millis(10));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let held: Vec<Token> = {
            let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.iter().copied().collect()
        };
        if !held.is_empty() {
            // A stale one has been lost already; its settlement will say so.
            backend.extend(&held, lease).await;
        }
    }
}
