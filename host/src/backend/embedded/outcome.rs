//! What follows from a transaction: messages become visible and deliveries end, or everything is as it was before.
//!
//! It runs under the lock and knows nothing of the database.

use super::group::{Again, Arrival, Call, Ended, Group, Settled};
use super::shared::{Inner, Shared};
use crate::clock;
use crate::store::sqlite::Failure;

/// A group that is committed, with what waits for the flush.
#[derive(Debug)]
pub(super) struct Committed {
    volatile: Vec<Arrival>,
    calls: Vec<Call>,
    /// A message became visible with it that may be handled at once.
    delivered: bool,
}

impl Committed {
    /// Whether the end of a handling may soon be committed after it.
    pub(super) fn leads(&self) -> bool {
        self.delivered
    }
}

impl Shared {
    /// Everything in the group is committed: every later transaction, and therefore everything that is confirmed later,
    /// stands on it. What isn't written to the disk, such as a reply, goes on only when it is known to be flushed.
    pub(super) fn committed(&self, mut group: Group) -> Committed {
        let moment = (clock::steady_ms(), self.clock.now_ms());
        let mut inner = self.lock();
        let (volatile, written) = std::mem::take(&mut group.arrivals)
            .into_iter()
            .partition(|arrival| arrival.item.value.volatile);
        let written: Vec<Arrival> = written;
        let ready = |arrival: &Arrival| arrival.queue.is_some() && arrival.due == 0;
        let delivered = written.iter().any(ready);
        for arrival in written {
            inner.arrived(arrival);
        }
        for ended in group.settled.drain(..).filter_map(|s| s.delivery) {
            inner.ended(ended, moment);
        }
        for row in &group.states {
            inner.states.written(&row.plugin, &row.key);
        }
        self.leave(inner);
        Committed {
            volatile,
            calls: group.into_calls(),
            delivered,
        }
    }

    /// What was committed is on disk.
    pub(super) fn flushed(&self, committed: Committed) {
        if !committed.volatile.is_empty() {
            let mut inner = self.lock();
            for arrival in committed.volatile {
                inner.arrived(arrival);
            }
            self.leave(inner);
        }
        committed.calls.into_iter().for_each(Call::committed);
    }

    /// What was committed may not be on disk, and nobody will ever know. It is neither confirmed nor undone, as if the
    /// process had ended here.
    pub(super) fn not_flushed(&self, committed: Committed, reason: &Failure) {
        let first = {
            let mut inner = self.lock();
            inner.trouble = Some(reason.clone());
            inner.broken.replace(reason.clone()).is_none()
        };
        if first {
            tracing::error!(%reason, "the broker stands still");
        }
        let calls = committed.calls.into_iter();
        calls.for_each(|call| call.failed(reason));
    }

    /// Nothing in the group is on disk. State that was decided is undone, with everything that was decided since on
    /// the strength of it.
    pub(super) fn failed(&self, mut group: Group, reason: &Failure) {
        let mut inner = self.lock();
        inner.undo(group.settled.drain(..).collect(), &group.arrivals);
        if !group.states.is_empty() {
            inner.states.discard();
            let (settled, arrivals) = inner.group.revoke_state();
            inner.undo(settled, &arrivals);
        }
        self.leave(inner);
        group
            .into_calls()
            .into_iter()
            .for_each(|call| call.failed(reason));
    }
}

impl Inner {
    fn arrived(&mut self, arrival: Arrival) {
        let Some((slot, queue)) = arrival.queue else {
            return;
        };
        let window = self.options.window;
        let Some(entry) = self
            .table
            .entry(slot)
            .filter(|entry| entry.extra.id == queue)
        else {
            return;
        };
        match entry.arrive(arrival.item, arrival.due, window) {
            Some(due) => self.expect(due),
            None => self.table.touch(slot),
        }
    }

    fn ended(&mut self, ended: Ended, (now, lease_now): (i64, i64)) {
        let (slot, queue) = ended.queue;
        let Some(entry) = self
            .table
            .entry(slot)
            .filter(|entry| entry.extra.id == queue)
        else {
            return;
        };
        let mut item = ended.item;
        if ended.again.is_none() || !item.value.volatile {
            entry.unload(&item);
        }
        match ended.again {
            // The next message of its key has its turn.
            None => entry.fifo.finish(item.id, item.key.as_ref()),
            Some(Again { due, history }) if item.value.volatile => {
                item.value.history = Some(history);
                let after = due.saturating_sub(now);
                entry.fifo.retry(item, lease_now.saturating_add(after));
                entry.hurry();
            }
            Some(Again { due, history }) => {
                item.attempts = item.attempts.saturating_add(1);
                item.value.history = Some(history);
                if let Some(due) = entry.arrive_later(item, due) {
                    self.expect(due);
                }
            }
        }
        self.table.touch(slot);
        self.check_hunger(slot);
    }

    /// Gives deliveries back, and forgets messages that were never written.
    fn undo(&mut self, settled: Vec<Settled>, never: &[Arrival]) {
        for ended in settled.into_iter().filter_map(|s| s.delivery) {
            let (slot, queue) = ended.queue;
            if let Some(entry) = self
                .table
                .entry(slot)
                .filter(|entry| entry.extra.id == queue)
            {
                entry.fifo.put_back(ended.item);
                self.table.touch(slot);
            }
        }
        let kept = never
            .iter()
            .filter(|arrival| arrival.queue.is_none())
            .count();
        self.kept = self
            .kept
            .saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX));
    }
}
