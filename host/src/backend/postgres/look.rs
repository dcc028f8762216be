//! What an operator sees of the postgres broker, and emptying a queue.
//!
//! Counting looks at every message, so it takes as long as there are many.

use super::keeper::commit;
use super::shared::Shared;
use crate::backend::{BackendError, Overview, QueueName, QueueStatus};
use crate::store::postgres::Kind;

/// Messages that are removed in one transaction.
const CHUNK: i64 = 10_000;

impl Shared {
    /// What waits in each queue.
    pub(super) async fn overview(&self) -> Result<Overview, BackendError> {
        drop(self.open()?);
        self.refresh().await?;
        let (queues, others, kept) = {
            let mut session = self.aside()?;
            let mut tx = session.begin(Kind::Read).await?;
            let queues = tx.waiting().await?;
            let others = tx.receivers(&self.host).await?;
            let kept = tx.count_kept(i64::MAX).await?;
            tx.end().await;
            session.close().await;
            (queues, others, kept)
        };
        let mut inner = self.open()?;
        let mut overview = Overview {
            kept,
            ..Overview::default()
        };
        for waiting in queues {
            let slot = inner.slot(waiting.queue);
            let Some(entry) = slot.and_then(|slot| inner.table.entry(slot)) else {
                continue;
            };
            let others = others.get(&waiting.queue).copied().unwrap_or_default();
            overview.queues.push(QueueStatus {
                spec: entry.spec.clone(),
                ready: waiting.ready,
                in_flight: waiting.in_flight,
                delayed: waiting.delayed,
                retrying: waiting.retrying,
                parked: waiting.parked,
                oldest_ms: waiting.oldest_ms,
                receivers: others + entry.receivers() as u64,
            });
        }
        overview
            .queues
            .sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
        Ok(overview)
    }

    /// Removes what waits in a queue; how many they were. What is published meanwhile stays.
    pub(super) async fn purge(&self, name: &QueueName) -> Result<u64, BackendError> {
        self.find(name).await?;
        let queue = self.open()?.table.named(name)?.1.extra.id;
        let mut session = self.aside()?;
        let mut tx = session.begin(Kind::Read).await?;
        let until = tx.last_message().await?;
        tx.end().await;
        let mut all = 0;
        loop {
            let mut tx = session.begin(Kind::Write).await?;
            let gone = tx.purge_queue(queue, until, CHUNK).await?;
            commit(tx).await?;
            all += gone;
            if gone == 0 {
                session.close().await;
                return Ok(all);
            }
        }
    }
}
