//! What an operator sees of the embedded broker, and emptying a queue.
//!
//! What is ready is partly in memory and partly in the database; here is how much of both, and how to remove both.

use super::shared::{Inner, Shared};
use crate::backend::{BackendError, Overview, QueueSpec, QueueStatus};
use crate::clock;
use crate::queue::{Census, Slot};
use crate::store::StoreError;
use crate::store::sqlite::{Database, Failure, Gone, Waiting};

impl Shared {
    /// What waits in each queue.
    pub(super) async fn overview(&self) -> Result<Overview, BackendError> {
        let mut reader = self.look().await.map_err(unavailable)?;
        let queues = self.open()?.in_memory();
        let now = clock::steady_ms();
        let mut overview = Overview::default();
        for queue in queues {
            let waiting = reader.waiting(queue.id, now).await.map_err(failed)?;
            overview.queues.push(queue.together(waiting));
        }
        overview.kept = reader.kept().await.map_err(failed)?;
        Ok(overview)
    }

    /// Removes what waits in a queue, in memory and in the database; how many they were.
    pub(super) async fn purge(&self, slot: Slot, database: &mut Database) -> Result<u64, Failure> {
        let (taken, gone) = {
            let mut inner = self.lock();
            let Some(entry) = inner.table.entry(slot) else {
                return Ok(0);
            };
            let taken = entry.fifo.take_waiting();
            let ids = taken.away.iter().chain(&taken.parked).map(|item| item.id);
            let gone = Gone {
                queue: entry.extra.id,
                ids: ids.collect(),
                ready_after: entry.extra.after,
                due_after: entry.extra.due_after,
            };
            (taken, gone)
        };
        // Only the writer brings messages from the database into memory, and it is here.
        let purged = database.purge(&gone).await;
        let volatile = taken.away.iter().chain(&taken.parked);
        let volatile = volatile.filter(|item| item.value.volatile).count() as u64;
        let mut inner = self.lock();
        if let Some(entry) = inner.table.entry(slot) {
            match &purged {
                Ok((_, keys)) => {
                    for item in taken.away.iter().chain(&taken.parked) {
                        entry.unload(item);
                    }
                    entry.fifo.forget(&taken);
                    for (id, key) in keys {
                        entry.fifo.finish(*id, Some(key));
                    }
                    entry.extra.after = None;
                    entry.extra.next_due = i64::MAX;
                    entry.extra.blocked = false;
                }
                Err(_) => entry.fifo.restore(taken),
            }
            inner.table.touch(slot);
        }
        self.leave(inner);
        purged.map(|(count, _)| count + volatile)
    }

    /// Whether it works. What went wrong may be over without anybody having written since, so it is tried.
    pub(super) async fn check(&self) -> Result<(), BackendError> {
        let troubled = self.open()?.trouble.is_some();
        if troubled {
            self.order(super::admin::Order::Probe).await?;
        }
        self.file.check().map_err(failed)
    }
}

/// What is known of a queue in memory.
struct InMemory {
    id: i64,
    spec: QueueSpec,
    census: Census,
    receivers: usize,
    /// Messages that are nowhere else, and when the oldest of them was published.
    volatile: usize,
    oldest_ms: Option<i64>,
}

impl Inner {
    fn in_memory(&mut self) -> Vec<InMemory> {
        let mut queues = Vec::new();
        for name in self.table.names() {
            let Ok((_, entry)) = self.table.named(&name) else {
                continue;
            };
            let volatile = || entry.fifo.iter().filter(|item| item.value.volatile);
            queues.push(InMemory {
                id: entry.extra.id,
                spec: entry.spec.clone(),
                census: entry.fifo.census(),
                receivers: entry.receivers(),
                volatile: volatile().count(),
                oldest_ms: volatile().map(|item| item.value.at_ms).min(),
            });
        }
        queues
    }
}

impl InMemory {
    /// What is in flight and what is parked is known in memory; the rest is what else there is.
    fn together(self, waiting: Waiting) -> QueueStatus {
        let Census {
            leased,
            delayed,
            retrying,
            parked,
            ..
        } = self.census;
        let oldest = self.oldest_ms.into_iter().chain(waiting.oldest_ms).min();
        let status = QueueStatus {
            spec: self.spec,
            ready: 0,
            in_flight: leased as u64,
            delayed: waiting.delayed + delayed as u64,
            retrying: waiting.retrying + retrying as u64,
            parked: parked as u64,
            oldest_ms: oldest,
            receivers: self.receivers as u64,
        };
        let all = waiting.all + self.volatile as u64;
        QueueStatus {
            ready: all.saturating_sub(status.depth()),
            ..status
        }
    }
}

fn failed(failure: Failure) -> BackendError {
    BackendError::Unavailable(failure.0)
}

fn unavailable(error: StoreError) -> BackendError {
    match error {
        StoreError::Unavailable(text)
        | StoreError::Corrupt(text)
        | StoreError::Unsupported(text) => BackendError::Unavailable(text),
    }
}
