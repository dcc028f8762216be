//! What publishing and settling decide at once, under the lock: whose deliveries these are, whether what they read still
//! holds as far as this host knows, and in which order state changes.
//!
//! Everything else is decided in the transaction, by a writer.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::group::{Call, Prepared, Settling};
use super::shared::{Inner, Shared, hold};
use crate::backend::{Outgoing, PublishError, Receipt, Release, SettleError, Settlement, Token};

impl Shared {
    /// Publishes messages, as soon as there is room for them.
    pub(super) async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let count = batch.len();
        let ended = || vec![Err(PublishError::Closed); count];
        let batch = batch.into_iter().map(Prepared::new).collect();
        let (caller, done) = oneshot::channel();
        self.enter(Call::Publish { batch, caller }).await;
        done.await.unwrap_or_else(|_| ended())
    }

    /// Has something written as soon as there is room for it. Once the broker is closed it is dropped.
    pub(super) async fn enter(&self, call: Call) {
        loop {
            let room = self.room.notified();
            {
                let mut inner = self.lock();
                if inner.closed {
                    return;
                }
                if inner.free.has_room() {
                    inner.free.add(call);
                    break;
                }
            }
            room.await;
        }
        self.writing.notify_one();
    }

    fn release_all(&self, tokens: Vec<Token>) {
        for token in tokens {
            self.release(token);
        }
    }

    /// Orders the ends of deliveries.
    pub(super) fn settle(
        &self,
        batch: Vec<Settlement>,
    ) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        if batch.is_empty() {
            return std::future::ready(Vec::new()).boxed();
        }
        let prepare = |mut settlement: Settlement| {
            let publishes = std::mem::take(&mut settlement.effects.publishes);
            let publishes = publishes.into_iter().map(Prepared::new).collect();
            (settlement, publishes)
        };
        let batch: Vec<(Settlement, Vec<Prepared>)> = batch.into_iter().map(prepare).collect();
        let count = batch.len();
        let mut returned = Vec::new();
        let mut inner = self.lock();
        if inner.closed {
            return std::future::ready(vec![Err(SettleError::Closed); count]).boxed();
        }
        let batch: Vec<Result<Settling, SettleError>> = batch
            .into_iter()
            .map(|(settlement, publishes)| {
                let token = settlement.token;
                let settling = inner.settle(settlement, publishes);
                if matches!(settling, Err(SettleError::Conflict)) {
                    returned.push(token);
                }
                settling
            })
            .collect();
        if batch.iter().all(Result::is_err) {
            drop(inner);
            self.release_all(returned);
            let results = batch.into_iter().map(|settling| settling.map(drop));
            return std::future::ready(results.collect()).boxed();
        }
        let (caller, done) = oneshot::channel();
        let call = Call::Settle { batch, caller };
        let ordered = call.has_state();
        if ordered {
            inner.ordered.add(call);
        } else {
            inner.free.add(call);
        }
        drop(inner);
        if ordered {
            self.ordered.notify_one();
        } else {
            self.writing.notify_one();
        }
        self.release_all(returned);
        async move {
            done.await
                .unwrap_or_else(|_| vec![Err(SettleError::Closed); count])
        }
        .boxed()
    }
}

impl Inner {
    fn settle(
        &mut self,
        settlement: Settlement,
        publishes: Vec<Prepared>,
    ) -> Result<Settling, SettleError> {
        let Settlement {
            token,
            verdict,
            effects,
        } = settlement;
        let (_, entry) = self.table.of(token).map_err(|_| SettleError::Stale)?;
        let remote = &mut entry.extra;
        let hold = hold(remote.id, token);
        remote
            .leased(token.id, token.fence)
            .ok_or(SettleError::Stale)?;
        let state = effects.state;
        if state
            .as_deref()
            .is_some_and(|state| self.states.contradicts(state))
        {
            return Err(SettleError::Conflict);
        }
        let lease = remote
            .take(token.id, token.fence)
            .ok_or(SettleError::Stale)?;
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        if let Some(state) = state {
            writes = self.states.write(&state);
            let read = |(key, version): &(std::sync::Arc<str>, u64)| {
                ((state.plugin.clone(), key.clone()), version.cast_signed())
            };
            reads = state.reads.iter().map(read).collect();
        }
        Ok(Settling {
            token,
            hold,
            lease,
            verdict,
            publishes,
            reads,
            writes,
        })
    }
}
