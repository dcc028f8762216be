//! The tasks that claim messages for receivers, give back what was dropped, and move the ends of leases; each has its
//! queues, so that what happens to one queue happens in order.
//!
//! Everything that waits is done in one transaction that needs no flush. Waiting for messages is not done here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::remote::Lease;
use super::shared::{Backoff, Shared, Trouble, releaser};
use crate::backend::table::millis;
use crate::backend::{BackendError, Delivery, SettleError, Token};
use crate::queue::Slot;
use crate::store::postgres::{CLAIM_BYTES, Claimed, Failure, Hold, Kind, Session, Wanted};
use crate::wire::Packet;

/// What waits for a claimer.
#[derive(Debug, Default)]
pub(super) struct Errands {
    pub(super) looks: Vec<Look>,
    /// With a time to wait in milliseconds.
    pub(super) releases: Vec<(Hold, i64)>,
    pub(super) extends: Vec<Extend>,
}

/// Somebody who wants messages now.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) slot: Slot,
    pub(super) queue: i64,
    pub(super) most: usize,
    pub(super) caller: oneshot::Sender<Result<Vec<Delivery>, BackendError>>,
}

/// Somebody who needs more time.
#[derive(Debug)]
pub(super) struct Extend {
    pub(super) holds: Vec<Hold>,
    pub(super) lease: Duration,
    pub(super) caller: oneshot::Sender<Result<HashSet<i64>, SettleError>>,
}

impl Errands {
    fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.releases.is_empty() && self.extends.is_empty()
    }
}

/// The owner of a connection that claims.
#[derive(Debug)]
pub(super) struct Claimer {
    shared: Arc<Shared>,
    lane: usize,
    session: Session,
    trouble: Trouble,
}

/// What a transaction of a claimer brought.
struct Found {
    claimed: Vec<Claimed>,
    extended: Vec<HashSet<i64>>,
}

/// A claim that is about to be made.
struct Target {
    slot: Slot,
    fence: u64,
    wanted: Wanted,
}

impl Claimer {
    pub(super) fn new(shared: Arc<Shared>, lane: usize) -> Self {
        let session = Session::new(shared.place.clone());
        Self {
            shared,
            lane,
            session,
            trouble: Trouble::new("claim messages"),
        }
    }

    /// Works until the broker is closed.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut backoff = Backoff::new();
        while !shared.ended.is_cancelled() {
            let mut errands = self.errands();
            if errands.is_empty() {
                let Some(claiming) = shared.claiming.get(self.lane) else {
                    break;
                };
                tokio::select! {
                    () = claiming.notified() => {}
                    () = shared.ended.cancelled() => {}
                }
                continue;
            }
            errands.looks.retain(|look| !look.caller.is_closed());
            match self.work(errands).await {
                Ok(()) => {
                    self.trouble.ends();
                    backoff = Backoff::new();
                }
                Err(failure) => {
                    self.trouble.begins(&failure);
                    backoff.wait().await;
                }
            }
        }
        // What still waits learns that by losing its sender.
        drop(self.errands());
        self.session.close().await;
    }

    fn errands(&self) -> Errands {
        let mut inner = self.shared.lock();
        let errands = inner.errands.get_mut(self.lane);
        errands.map(std::mem::take).unwrap_or_default()
    }

    /// Does everything that waited. After an error, who wanted messages knows, and what was to be given back waits on.
    async fn work(&mut self, errands: Errands) -> Result<(), Failure> {
        let targets = self.targets(&errands);
        let mut found = self.transact(&errands, &targets).await;
        if let Err(Failure::Lost(_) | Failure::Again(_)) = found {
            found = self.transact(&errands, &targets).await;
        }
        match found {
            Ok(found) => {
                self.hand_out(errands, targets, found);
                Ok(())
            }
            Err(failure) => {
                self.give_up(errands, &targets, &failure);
                Err(failure)
            }
        }
    }

    /// One claim for each queue, however many want messages of it.
    fn targets(&self, errands: &Errands) -> Vec<Target> {
        let now = Instant::now();
        let mut inner = self.shared.lock();
        for (hold, delay_ms) in &errands.releases {
            inner.returned(hold, *delay_ms, now);
        }
        let mut most: HashMap<Slot, i64> = HashMap::new();
        for look in &errands.looks {
            let entry = inner.table.entry(look.slot);
            if entry.is_none_or(|entry| entry.extra.id != look.queue) {
                continue;
            }
            let more = i64::try_from(look.most).unwrap_or(i64::MAX);
            let most = most.entry(look.slot).or_default();
            *most = most.saturating_add(more);
        }
        let mut targets = Vec::with_capacity(most.len());
        for (slot, most) in most {
            let fence = inner.next_fence(slot);
            let Some(entry) = inner.table.entry(slot) else {
                continue;
            };
            let lease_ms = entry.lease_ms();
            let remote = &mut entry.extra;
            remote.expire(now);
            targets.push(Target {
                slot,
                fence,
                wanted: Wanted {
                    queue: remote.id,
                    first: remote.look(),
                    most,
                    lease_ms,
                    fence: fence.cast_signed(),
                },
            });
        }
        targets
    }

    async fn transact(&mut self, errands: &Errands, targets: &[Target]) -> Result<Found, Failure> {
        let mut tx = self.session.begin(Kind::Fast).await?;
        if !errands.releases.is_empty() {
            tx.release(&errands.releases).await?;
        }
        let mut extended = Vec::with_capacity(errands.extends.len());
        for extend in &errands.extends {
            let lease_ms = millis(extend.lease).max(1);
            extended.push(tx.extend(&extend.holds, lease_ms).await?);
        }
        let mut claimed = Vec::new();
        if !targets.is_empty() {
            let wanted: Vec<Wanted> = targets.iter().map(|target| target.wanted).collect();
            claimed = tx.claim(&wanted).await?;
            claimed.sort_unstable_by_key(|one| (one.queue, one.id));
        }
        match tx.commit().await {
            Ok(()) => Ok(Found { claimed, extended }),
            Err(error) => {
                // If it was committed all the same, these are claimed for nobody.
                self.unclaim(targets, &claimed);
                Err(error.into())
            }
        }
    }

    fn unclaim(&self, targets: &[Target], claimed: &[Claimed]) {
        for target in targets {
            let of_queue = claimed
                .iter()
                .filter(|one| one.queue == target.wanted.queue);
            let hold = |one: &Claimed| Hold {
                queue: one.queue,
                id: one.id.cast_signed(),
                fence: target.wanted.fence,
            };
            let holds = of_queue.map(|one| (hold(one), 0));
            self.shared.give_back(target.slot, holds);
        }
    }

    /// Makes deliveries of what was claimed and hands them to those who wanted them, the oldest first.
    fn hand_out(&self, errands: Errands, targets: Vec<Target>, found: Found) {
        let now = Instant::now();
        let release = releaser(&self.shared);
        let mut taken: HashMap<Slot, std::vec::IntoIter<Delivery>> = HashMap::new();
        let mut inner = self.shared.lock();
        let mut by_queue: HashMap<i64, Vec<Claimed>> = HashMap::new();
        for one in found.claimed {
            by_queue.entry(one.queue).or_default().push(one);
        }
        for (hold, _) in &errands.releases {
            if let Some(slot) = inner.slot(hold.queue) {
                inner.table.touch(slot);
            }
        }
        for target in targets {
            let claimed = by_queue.remove(&target.wanted.queue).unwrap_or_default();
            let Some(entry) = inner.table.entry(target.slot) else {
                continue;
            };
            if entry.extra.id != target.wanted.queue {
                continue;
            }
            let last = claimed.last().map(|one| one.id.cast_signed());
            entry.extra.looked(target.wanted.first, last);
            let end = now + Duration::from_millis(target.wanted.lease_ms.unsigned_abs());
            let bytes: usize = claimed.iter().map(Claimed::size).sum();
            let full = claimed.len() >= usize::try_from(target.wanted.most).unwrap_or(usize::MAX)
                || bytes >= CLAIM_BYTES;
            let deliveries: Vec<Delivery> = claimed
                .into_iter()
                .map(|one| {
                    let token = Token {
                        id: one.id,
                        fence: target.fence,
                    };
                    let message = Arc::new(one.message);
                    let lease = Lease {
                        fence: target.fence,
                        end,
                        key: one.key.clone(),
                        message: message.clone(),
                        route: one.route,
                        at_ms: one.at_ms,
                        history: one.history,
                    };
                    entry.extra.lease(one.id, lease);
                    let attempt = one.attempts.saturating_add(1);
                    let packet = Packet::Message(message);
                    let mut delivery = Delivery::new(packet, attempt, token, release.clone());
                    delivery.key = one.key;
                    delivery.route = one.route;
                    delivery
                })
                .collect();
            if full {
                // There may be more for somebody else who waits.
                entry.arrived().notify_one();
            }
            taken.insert(target.slot, deliveries.into_iter());
        }
        self.shared.leave(inner);
        for look in errands.looks {
            let deliveries = match taken.get_mut(&look.slot) {
                Some(deliveries) => deliveries.by_ref().take(look.most).collect(),
                None => Vec::new(),
            };
            // Who no longer wants them gives them back by dropping them.
            drop(look.caller.send(Ok(deliveries)));
        }
        for (extend, extended) in errands.extends.into_iter().zip(found.extended) {
            drop(extend.caller.send(Ok(extended)));
        }
    }

    fn give_up(&self, errands: Errands, targets: &[Target], failure: &Failure) {
        let mut inner = self.shared.lock();
        for target in targets {
            if let Some(entry) = inner.table.entry(target.slot) {
                entry.extra.looked(target.wanted.first, None);
            }
        }
        if let Some(waiting) = inner.errands.get_mut(self.lane) {
            waiting.releases.extend(errands.releases);
        }
        drop(inner);
        for look in errands.looks {
            let unavailable = BackendError::Unavailable(failure.to_string());
            drop(look.caller.send(Err(unavailable)));
        }
        for extend in errands.extends {
            let unavailable = SettleError::Unavailable(failure.to_string());
            drop(extend.caller.send(Err(unavailable)));
        }
    }
}
