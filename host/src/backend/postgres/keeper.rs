//! The task that looks after everything nobody waits for: messages whose time comes, news for the other hosts, and, now
//! and then, what nobody told this host.
//!
//! It claims and writes nothing for a caller. When looking is dear, it looks less often.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::shared::{Shared, Trouble};
use crate::backend::retention::{self, Pruner};
use crate::store::postgres::{Failure, Kind, Session, Tx};

/// The shortest time between two notifications.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Looking takes at most this share of the time.
const SHARE: u32 = 20;
/// Messages that are moved or removed in one transaction.
const CHUNK: i64 = 2_000;
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// The owner of a connection for all of that.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    session: Session,
    trouble: Trouble,
    look_at: Instant,
    tell_at: Instant,
    alive_at: Instant,
    sweep_at: Instant,
    count_at: Instant,
    forget_at: Instant,
    pruner: Pruner,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(shared.place.clone()),
            trouble: Trouble::new("look for messages"),
            look_at: now,
            tell_at: now,
            alive_at: now,
            sweep_at: now,
            count_at: now,
            forget_at: now,
            pruner: Pruner::new(shared.options.letters),
            shared,
        }
    }

    /// Works until the broker is closed.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        while !shared.ended.is_cancelled() {
            match self.round().await {
                Ok(()) => self.trouble.ends(),
                Err(failure) => {
                    self.trouble.begins(&failure);
                    let again = Instant::now() + self.shared.options.poll;
                    tokio::select! {
                        () = sleep_until(again) => {}
                        () = shared.ended.cancelled() => {}
                    }
                }
            }
            let next = self.next();
            tokio::select! {
                // Told or not, the next round finds out.
                _ = timeout_at(next, shared.keeping.notified()) => {}
                () = shared.ended.cancelled() => {}
            }
        }
        self.session.close().await;
    }

    /// When there is something to do.
    fn next(&self) -> Instant {
        let inner = self.shared.lock();
        let times = [
            self.look_at,
            self.alive_at,
            self.sweep_at,
            self.count_at,
            self.forget_at,
            self.pruner.at(),
        ];
        let told = inner.has_news().then_some(self.tell_at);
        let times = times.into_iter().chain(inner.due).chain(told);
        times.min().unwrap_or(self.look_at)
    }

    async fn round(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if self.shared.lock().due.is_some_and(|due| due <= now) {
            self.move_due().await?;
        }
        if now >= self.tell_at {
            self.tell().await?;
        }
        if now >= self.alive_at {
            self.alive().await?;
            self.alive_at = Instant::now() + self.shared.options.host_timeout / 4;
        }
        if std::mem::take(&mut self.shared.lock().missed) {
            self.look_at = now;
        }
        if now >= self.look_at {
            self.look().await?;
            let took = now.elapsed().saturating_mul(SHARE);
            self.look_at = Instant::now() + self.shared.options.poll.max(took);
        }
        if now >= self.sweep_at {
            self.sweep().await?;
        }
        if now >= self.count_at {
            self.count().await?;
            self.sum().await?;
            self.count_at = Instant::now() + COUNT_EVERY;
        }
        if now >= self.forget_at {
            self.forget().await?;
            self.forget_at = Instant::now() + FORGET_EVERY;
        }
        let buried = std::mem::take(&mut self.shared.lock().buried);
        self.pruner.written(buried);
        if self.pruner.due() {
            self.prune().await?;
        }
        Ok(())
    }

    /// Moves what is due to what is ready.
    async fn move_due(&mut self) -> Result<(), Failure> {
        loop {
            let mut tx = self.session.begin(Kind::Write).await?;
            let ready = tx.move_due(CHUNK).await?;
            let next = tx.next_due().await?;
            commit(tx).await?;
            let mut inner = self.shared.lock();
            inner.arrived(&ready);
            inner.tell(&ready);
            inner.due = None;
            if let Some(next) = next {
                // What another host is moving at the moment is due as well, and left to it.
                inner.expect(if ready.is_empty() {
                    next.max(DEBOUNCE)
                } else {
                    next
                });
            }
            self.shared.leave(inner);
            if ready.is_empty() || next.is_none_or(|next| next > Duration::ZERO) {
                return Ok(());
            }
        }
    }

    async fn tell(&mut self) -> Result<(), Failure> {
        let news = self.shared.lock().news();
        if news.is_empty() {
            return Ok(());
        }
        let mut tx = self.session.begin(Kind::Fast).await?;
        tx.tell(&self.shared.host, &news).await?;
        self.tell_at = Instant::now() + DEBOUNCE;
        commit(tx).await
    }

    /// Says that this host lives, and buries those that don't.
    async fn alive(&mut self) -> Result<(), Failure> {
        let time = self.shared.options.host_timeout;
        let mut tx = self.session.begin(Kind::Fast).await?;
        let receivers = self.shared.lock().receivers();
        tx.alive(&self.shared.host, time, &receivers).await?;
        let orphans = tx.has_orphans().await?;
        commit(tx).await?;
        if orphans {
            let mut tx = self.session.begin(Kind::Change).await?;
            let names = tx.hide_orphans(None).await?;
            tx.changed().await?;
            commit(tx).await?;
            if !names.is_empty() {
                tracing::info!(
                    queues = names.len(),
                    "deleted the queues of hosts that have gone"
                );
                self.shared.lock().changed = true;
            }
            self.look_at = Instant::now();
        }
        Ok(())
    }

    /// Removes some of what is left of deleted queues.
    async fn sweep(&mut self) -> Result<(), Failure> {
        let mut tx = self.session.begin(Kind::Fast).await?;
        let more = tx.sweep(CHUNK).await?;
        commit(tx).await?;
        self.sweep_at = Instant::now() + if more { DEBOUNCE } else { COUNT_EVERY };
        Ok(())
    }

    /// Looks for what nobody told: other queues, messages that are ready, delayed messages of other hosts.
    async fn look(&mut self) -> Result<(), Failure> {
        let (topology, queues) = {
            let mut inner = self.shared.lock();
            (inner.topology, inner.wanted())
        };
        let mut tx = self.session.begin(Kind::Read).await?;
        if tx.topology_version().await? != topology {
            let topology = tx.topology_now().await?;
            self.shared.install(topology);
        }
        let lost = self.shared.lock().lost();
        let ready = if queues.is_empty() {
            Vec::new()
        } else {
            tx.first_ready(&queues).await?
        };
        let due = tx.next_due().await?;
        tx.end().await;
        self.shared.found(&ready, due);
        for spec in lost {
            // This host had been taken for dead.
            self.shared.declare(spec).await?;
        }
        Ok(())
    }

    async fn count(&mut self) -> Result<(), Failure> {
        let most = self.shared.options.kept.saturating_add(1);
        let before = self.shared.lock().kept;
        let mut tx = self.session.begin(Kind::Read).await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let kept = tx.count_kept(most).await?;
        tx.end().await;
        let mut inner = self.shared.lock();
        // What was added meanwhile may or may not have been counted.
        inner.kept = kept.saturating_add(inner.kept.saturating_sub(before));
        drop(inner);
        Ok(())
    }

    async fn sum(&mut self) -> Result<(), Failure> {
        let mut tx = self.session.begin(Kind::Fast).await?;
        tx.sum_state_sizes().await?;
        commit(tx).await
    }

    /// Removes some dead letters that were kept long enough, or are too many.
    async fn prune(&mut self) -> Result<(), Failure> {
        if let Some((before_ms, most)) = self.pruner.begin() {
            let mut tx = self.session.begin(Kind::Fast).await?;
            let (old, too_many) = tx.prune_letters(before_ms, most, retention::CHUNK).await?;
            commit(tx).await?;
            self.pruner.ended(old, too_many);
        }
        Ok(())
    }

    async fn forget(&mut self) -> Result<(), Failure> {
        let mut tx = self.session.begin(Kind::Fast).await?;
        let gone = tx.forget_kept(self.shared.options.kept_for).await?;
        tx.forget_writers().await?;
        commit(tx).await?;
        if gone > 0 {
            tracing::warn!(
                gone,
                "messages that no queue was bound to were kept for too long and are forgotten"
            );
        }
        Ok(())
    }
}

/// Commits what may be done again if nobody knows whether it was done.
pub(super) async fn commit(tx: Tx<'_>) -> Result<(), Failure> {
    tx.commit().await.map_err(Failure::from)
}
