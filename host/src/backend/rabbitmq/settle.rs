//! How a delivery ends: first what it caused is made durable, then it is acknowledged.
//!
//! Messages that it publishes are confirmed before the acknowledgement, so that a crash in between repeats them and loses
//! none. Changes of state are committed in the host's own store, together with what is published because of them; see
//! `beside`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use uuid::Uuid;

use super::arrived::Arrived;
use super::outgoing::Parcel;
use super::shared::{Feed, Shared};
use crate::backend::table::{Carried as _, Entry, REFUSED_MS, later};
use crate::backend::{
    Mode, Outgoing, PublishError, QueueName, SettleError, Settlement, Token, Verdict,
};
use crate::queue::{Item, Slot};
use crate::store::DeadLetter;

/// Messages of a key wait for a retry here, so that no later one passes; the server wants to hear of each within half an
/// hour, so that this is as long as one may wait.
const LONGEST_HOLD: Duration = Duration::from_secs(20 * 60);

/// A delivery whose settlement has begun.
struct Claimed {
    slot: Slot,
    /// Which queue, and which consumer of it.
    number: u64,
    epoch: u64,
    queue: QueueName,
    dead_letter: Option<QueueName>,
    item: Item<Arrived>,
    /// The message with the attempt that ends with this delivery, if it failed.
    failed: Option<Arrived>,
}

/// What is still to be done about a delivery.
struct Ending {
    claimed: Claimed,
    verdict: Verdict,
    publishes: Vec<Outgoing>,
    /// State that is decided, and durable when this is done.
    committed: Option<BoxFuture<'static, Result<(), SettleError>>>,
}

impl Shared {
    /// Takes the order of settlements, and ends them.
    pub(super) fn settle(
        self: &Arc<Self>,
        batch: Vec<Settlement>,
    ) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        let begun: Vec<Result<Ending, SettleError>> = batch
            .into_iter()
            .map(|settlement| self.begin(settlement))
            .collect();
        if begun.iter().all(Result::is_err) {
            let results = begun.into_iter().map(|ending| ending.map(drop));
            return std::future::ready(results.collect()).boxed();
        }
        let (shared, count) = (self.clone(), begun.len());
        // It goes on even if nobody waits for the end.
        let ending = self.tasks.spawn(async move {
            let endings = begun.into_iter().map(async |ending| match ending {
                Ok(ending) => shared.end(ending).await,
                Err(error) => Err(error),
            });
            join_all(endings).await
        });
        async move {
            let closed = || vec![Err(SettleError::Closed); count];
            ending.await.unwrap_or_else(|_| closed())
        }
        .boxed()
    }

    fn begin(&self, settlement: Settlement) -> Result<Ending, SettleError> {
        let Settlement {
            token,
            verdict,
            effects,
        } = settlement;
        let mut claimed = self.claim(token)?;
        let mut publishes = effects.publishes;
        if let Some(cause) = claimed.item.value.identity(&claimed.queue) {
            // The same when the message is handled again, so that whoever gets a message twice can tell.
            for (place, outgoing) in (0_u64..).zip(&mut publishes) {
                outgoing.identity = Some(Uuid::new_v5(&cause, &place.to_be_bytes()));
            }
        }
        // What is only published is confirmed instead of committed, unless it is to go through the outbox.
        let through = self.options.publishing == Mode::Queued && !publishes.is_empty();
        let committed = match effects.state {
            None if !through => None,
            state => {
                let letter = match &verdict {
                    Verdict::DeadLetter(letter) => {
                        Some(claimed.item.value.letter((**letter).clone()))
                    }
                    _ => None,
                };
                // What is tried again has not been settled.
                let identity = match verdict {
                    Verdict::Retry { .. } => None,
                    _ => claimed.item.value.identity(&claimed.queue),
                };
                let publishes = std::mem::take(&mut publishes);
                // What is committed is to be published, and so it is refused before.
                let legal = publishes
                    .iter()
                    .try_for_each(|one| Parcel::new(one).map(drop));
                let committed = legal.map_err(SettleError::Refused).and_then(|()| {
                    self.ledger
                        .commit(identity, state.map(|state| *state), letter, publishes)
                });
                match committed {
                    Ok(committed) => Some(committed),
                    Err(error) => {
                        self.give_back(claimed, &error);
                        return Err(error);
                    }
                }
            }
        };
        if let Verdict::Retry { failed, .. } = &verdict {
            claimed.failed = Some(claimed.item.value.failed((**failed).clone()));
        }
        Ok(Ending {
            claimed,
            verdict,
            publishes,
            committed,
        })
    }

    async fn end(&self, ending: Ending) -> Result<(), SettleError> {
        let Ending {
            claimed,
            verdict,
            publishes,
            committed,
        } = ending;
        let is_committed = committed.is_some();
        let done = async {
            if let Some(committed) = committed {
                committed.await?;
            }
            self.publish_effects(&publishes).await?;
            match &verdict {
                Verdict::Ack => Ok(()),
                Verdict::Retry { after, .. } => self.publish_again(&claimed, *after).await,
                Verdict::DeadLetter(letter) => {
                    self.keep(&claimed, (!is_committed).then_some(&**letter))
                        .await
                }
            }
        };
        if let Err(error) = done.await {
            self.give_back(claimed, &error);
            return Err(error);
        }
        if let Verdict::Retry { after, .. } = verdict
            && claimed.waits_here(after)
        {
            self.retry(claimed, after);
            return Ok(());
        }
        match claimed.item.value.acknowledge().await {
            Ok(()) => {
                self.finish(claimed);
                Ok(())
            }
            Err(failure) => {
                let error = SettleError::Unavailable(format!(
                    "what the message caused is done, and its acknowledgement did not reach RabbitMQ: {failure}"
                ));
                self.give_back(claimed, &error);
                Err(error)
            }
        }
    }

    async fn publish_effects(&self, publishes: &[Outgoing]) -> Result<(), SettleError> {
        let parcels: Result<Vec<Parcel>, PublishError> =
            publishes.iter().map(Parcel::new).collect();
        self.publish_all(parcels.map_err(unsettled)?).await
    }

    async fn publish_all(&self, parcels: Vec<Parcel>) -> Result<(), SettleError> {
        if parcels.is_empty() {
            return Ok(());
        }
        let published = self.publisher.publish(&parcels).await;
        published
            .into_iter()
            .try_for_each(|result| result.map(drop).map_err(unsettled))
    }

    /// A message without a key waits for its retry on the server, where its attempts are written down.
    async fn publish_again(&self, claimed: &Claimed, after: Duration) -> Result<(), SettleError> {
        if claimed.waits_here(after) {
            return Ok(());
        }
        let attempts = claimed.item.attempts.saturating_add(1);
        let failed = claimed.failed.as_ref().unwrap_or(&claimed.item.value);
        let again = Parcel::again(failed, &claimed.queue, attempts, after);
        self.publish_all(vec![again.map_err(unsettled)?]).await
    }

    /// Forwards a dead letter to the queue for them, and keeps it unless that is done.
    async fn keep(
        &self,
        claimed: &Claimed,
        letter: Option<&DeadLetter>,
    ) -> Result<(), SettleError> {
        let arrived = &claimed.item.value;
        if let Some(queue) = &claimed.dead_letter {
            let copy = Parcel::dead(arrived, queue).map_err(unsettled)?;
            self.publish_all(vec![copy]).await?;
        }
        let Some(letter) = letter else { return Ok(()) };
        let identity = arrived.identity(&claimed.queue);
        let letter = Some(arrived.letter(letter.clone()));
        self.ledger
            .commit(identity, None, letter, Vec::new())?
            .await
    }

    /// Takes a delivery out of what its receiver may settle.
    fn claim(&self, token: Token) -> Result<Claimed, SettleError> {
        let now = self.clock.now_ms();
        let mut inner = self.lock();
        if inner.closed {
            return Err(SettleError::Closed);
        }
        let (slot, entry) = inner.table.of(token).map_err(|_| SettleError::Stale)?;
        entry.fifo.expire(now);
        let item = entry.fifo.claim(token).map_err(|_| SettleError::Stale)?;
        let feed = &mut entry.extra;
        feed.settling += 1;
        Ok(Claimed {
            slot,
            number: feed.number,
            epoch: feed.epoch,
            queue: entry.spec.name.clone(),
            dead_letter: entry.spec.dead_letter.clone(),
            item,
            failed: None,
        })
    }

    /// It is done, and the next message of its key has its turn.
    fn finish(&self, claimed: Claimed) {
        self.ended(claimed, |entry, item| {
            entry.fifo.finish(item.id, item.key.as_ref());
        });
    }

    /// It can be received again, as if nothing had happened. What was refused is refused again most likely, so that it
    /// waits a little.
    fn give_back(&self, claimed: Claimed, error: &SettleError) {
        let due = match error {
            SettleError::Refused(_) => Some(self.clock.now_ms().saturating_add(REFUSED_MS)),
            _ => None,
        };
        self.ended(claimed, |entry, item| match due {
            None => entry.fifo.put_back(item),
            Some(due) => {
                entry.fifo.push_delayed(item, due);
                entry.hurry();
            }
        });
    }

    fn retry(&self, mut claimed: Claimed, after: Duration) {
        if let Some(failed) = claimed.failed.take() {
            claimed.item.value = failed;
        }
        let due = later(self.clock.now_ms(), after);
        self.ended(claimed, |entry, item| {
            entry.fifo.retry(item, due);
            entry.hurry();
        });
    }

    /// Nothing happens if its consumer has ended meanwhile: the server delivers the message to the next one.
    fn ended(&self, claimed: Claimed, how: impl FnOnce(&mut Entry<Feed, Arrived>, Item<Arrived>)) {
        let mut inner = self.lock();
        let Some(entry) = inner.feed(claimed.slot, claimed.number) else {
            return;
        };
        if entry.extra.epoch != claimed.epoch {
            return;
        }
        entry.extra.settling = entry.extra.settling.saturating_sub(1);
        how(entry, claimed.item);
        inner.table.touch(claimed.slot);
        Self::leave(inner);
    }
}

impl Claimed {
    /// Whether it waits for a retry in this process. Its attempts are not written down then.
    fn waits_here(&self, after: Duration) -> bool {
        self.item.key.is_some() && after <= LONGEST_HOLD
    }
}

fn unsettled(error: PublishError) -> SettleError {
    match error {
        PublishError::Unavailable(reason) => SettleError::Unavailable(reason),
        PublishError::Closed => SettleError::Closed,
        refused => SettleError::Refused(refused),
    }
}
