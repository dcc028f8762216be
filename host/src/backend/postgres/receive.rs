//! How a receiver waits for a message: woken by what arrives, by the end of a lease, and otherwise not at all.
//!
//! It claims nothing itself. What is claimed for a receiver that has gone is given back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::claimer::{Extend, Look};
use super::shared::{CLAIMERS, Shared, hold, lane_of};
use crate::backend::{BackendError, Delivery, Queue, QueueName, SettleError, Token};
use crate::store::postgres::Hold;

/// A longer wait is as good as this one, and moments don't overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A queue as it was when a look into it began.
struct Seen {
    queue: i64,
    arrivals: u64,
    arrived: Arc<Notify>,
}

impl Shared {
    /// Receives up to `max` messages; waits up to `wait` for the first one.
    pub(super) async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        let until = Instant::now() + wait.min(LONGEST);
        loop {
            let (deliveries, seen) = self.look(&queue.name, max).await?;
            if !deliveries.is_empty() || Instant::now() >= until {
                return Ok(deliveries);
            }
            let mut woken = pin!(seen.arrived.notified());
            woken.as_mut().enable();
            // What arrived before `enable` woke nobody.
            let next = match self.unchanged(&queue.name, &seen)? {
                Some(next_end) => next_end.map_or(until, |end| until.min(end)),
                None => continue,
            };
            // Woken or not, the next look decides.
            drop(timeout_at(next, woken).await);
        }
    }

    /// Has messages claimed, if there are any; and what had arrived when that began.
    async fn look(
        &self,
        name: &QueueName,
        most: usize,
    ) -> Result<(Vec<Delivery>, Seen), BackendError> {
        self.find(name).await?;
        let (caller, done) = oneshot::channel();
        let (lane, seen) = {
            let mut inner = self.open()?;
            let (slot, entry) = inner.table.named(name)?;
            entry.extra.wanted = Some(Instant::now());
            let queue = entry.extra.id;
            let seen = Seen {
                queue,
                arrivals: entry.extra.arrivals,
                arrived: entry.arrived().clone(),
            };
            let lane = lane_of(slot);
            if let Some(errands) = inner.errands.get_mut(lane) {
                errands.looks.push(Look {
                    slot,
                    queue,
                    most,
                    caller,
                });
            }
            (lane, seen)
        };
        self.wake_claimer(lane);
        let deliveries = done.map(|looked| looked.unwrap_or(Err(BackendError::Closed)));
        Ok((deliveries.await?, seen))
    }

    /// When to look again even if nothing arrives, if ever; `None`: something has arrived since, or this is another
    /// queue of that name.
    fn unchanged(
        &self,
        name: &QueueName,
        seen: &Seen,
    ) -> Result<Option<Option<Instant>>, BackendError> {
        let mut inner = self.open()?;
        let Ok((_, entry)) = inner.table.named(name) else {
            return Ok(None);
        };
        let remote = &entry.extra;
        let same = (remote.id, remote.arrivals) == (seen.queue, seen.arrivals);
        Ok(same.then(|| remote.next_end()))
    }
}

impl Shared {
    /// Moves the ends of leases from now on.
    pub(super) async fn extend(
        &self,
        tokens: &[Token],
        lease: Duration,
    ) -> Vec<Result<(), SettleError>> {
        let mut lanes: [Vec<(usize, Hold)>; CLAIMERS] = Default::default();
        let mut results = vec![Err(SettleError::Stale); tokens.len()];
        let mut waiting = Vec::new();
        {
            let mut inner = self.lock();
            if inner.closed {
                return vec![Err(SettleError::Closed); tokens.len()];
            }
            for (place, token) in tokens.iter().enumerate() {
                if let Ok((slot, entry)) = inner.table.of(*token)
                    && entry.extra.leased(token.id, token.fence).is_some()
                    && let Some(lane) = lanes.get_mut(lane_of(slot))
                {
                    lane.push((place, hold(entry.extra.id, *token)));
                }
            }
            for (lane, holds) in lanes.into_iter().enumerate() {
                let Some(errands) = inner.errands.get_mut(lane).filter(|_| !holds.is_empty())
                else {
                    continue;
                };
                let (caller, done) = oneshot::channel();
                errands.extends.push(Extend {
                    holds: holds.iter().map(|(_, hold)| *hold).collect(),
                    lease,
                    caller,
                });
                waiting.push((lane, holds, done));
            }
        }
        let end = Instant::now() + lease.min(LONGEST);
        for (lane, _, _) in &waiting {
            self.wake_claimer(*lane);
        }
        for (_, holds, done) in waiting {
            let extended = done.await.unwrap_or(Err(SettleError::Closed));
            let mut inner = self.lock();
            for (place, _) in holds {
                let (Some(token), Some(result)) = (tokens.get(place), results.get_mut(place))
                else {
                    continue;
                };
                *result = match &extended {
                    Err(error) => Err(error.clone()),
                    Ok(ids) if ids.contains(&token.id.cast_signed()) => Ok(()),
                    Ok(_) => Err(SettleError::Stale),
                };
                if result.is_ok()
                    && let Ok((slot, entry)) = inner.table.of(*token)
                    && entry.extra.extend(token.id, token.fence, end)
                {
                    inner.table.touch(slot);
                }
            }
            self.leave(inner);
        }
        results
    }
}
