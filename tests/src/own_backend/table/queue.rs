//! One queue: which of its messages come next, and who has which.
//!
//! Leases live in memory only; after a crash everything that wasn't settled is ready again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Delivery, QueueSpec, Release, SettleError, Token};
use sandbar::clock;
use sandbar::message::Message;
use sandbar::wire::Packet;
use tokio::time::Instant;

/// A queue with its messages.
#[derive(Debug)]
pub(in super::super) struct QueueState {
    pub(super) spec: QueueSpec,
    /// Its place among the declarations.
    pub(super) order: u64,
    /// By number, which is the order of publishing.
    pub(super) messages: BTreeMap<u64, Entry>,
    /// Of the last delivery; every one has another.
    fence: u64,
}

/// A message that waits or is in flight.
#[derive(Debug, Clone)]
pub(in super::super) struct Entry {
    pub(in super::super) message: Arc<Message>,
    pub(in super::super) key: Option<Arc<str>>,
    pub(super) route: Option<u32>,
    pub(super) due_ms: i64,
    pub(in super::super) attempts: u32,
    pub(super) lease: Option<Lease>,
}

/// A delivery in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    fence: u64,
    end: Instant,
}

impl QueueState {
    pub(super) fn new(spec: QueueSpec, order: u64) -> Self {
        Self {
            spec,
            order,
            messages: BTreeMap::new(),
            // So that no token of an earlier process fits.
            fence: uuid::Uuid::new_v4().as_u64_pair().0,
        }
    }

    /// Leases up to `max` messages, the oldest first, of each key at most one at a time.
    pub(in super::super) fn take(
        &mut self,
        max: usize,
        release: &Arc<dyn Release>,
    ) -> Vec<Delivery> {
        let (now, now_ms) = (Instant::now(), clock::now_ms());
        let mut busy: HashSet<Arc<str>> = HashSet::new();
        for entry in self.messages.values_mut() {
            entry.lease = entry.lease.filter(|lease| lease.end > now);
            if entry.lease.is_some() {
                busy.extend(entry.key.clone());
            }
        }
        let mut taken = Vec::new();
        for (id, entry) in &mut self.messages {
            if taken.len() == max {
                break;
            }
            let due = entry.due_ms <= now_ms;
            if let Some(key) = &entry.key {
                // A message that waits for its retry holds its key; one that was published with a delay does not yet.
                let turn = !busy.contains(key);
                if turn && (due || entry.attempts > 0) {
                    busy.insert(key.clone());
                }
                if !turn {
                    continue;
                }
            }
            if entry.lease.is_some() || !due {
                continue;
            }
            self.fence = self.fence.wrapping_add(1);
            let (fence, end) = (self.fence, now + self.spec.lease);
            entry.lease = Some(Lease { fence, end });
            let token = Token { id: *id, fence };
            let packet = Packet::Message(entry.message.clone());
            let attempt = entry.attempts.saturating_add(1);
            let mut delivery = Delivery::new(packet, attempt, token, release.clone());
            delivery.key.clone_from(&entry.key);
            delivery.route = entry.route;
            taken.push(delivery);
        }
        taken
    }

    /// When something becomes ready by itself.
    pub(in super::super) fn next_due(&self) -> Option<Instant> {
        let (now, now_ms) = (Instant::now(), clock::now_ms());
        let due = |entry: &Entry| match entry.lease {
            Some(lease) => Some(lease.end),
            None => {
                let left = u64::try_from(entry.due_ms - now_ms)
                    .ok()
                    .filter(|left| *left > 0);
                left.map(|left| now + Duration::from_millis(left).min(super::super::LONGEST))
            }
        };
        self.messages.values().filter_map(due).min()
    }
}

impl Entry {
    /// Whether the token is that of the delivery in flight, and its lease has not run out.
    pub(super) fn check(&self, token: Token) -> Result<(), SettleError> {
        match self.lease {
            Some(lease) if lease.fence == token.fence && lease.end > Instant::now() => Ok(()),
            _ => Err(SettleError::Stale),
        }
    }

    pub(super) fn extend(&mut self, token: Token, by: Duration) -> Result<(), SettleError> {
        self.check(token)?;
        let (fence, end) = (token.fence, Instant::now() + by);
        self.lease = Some(Lease { fence, end });
        Ok(())
    }
}
