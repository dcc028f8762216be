//! What an operator sees of the memory broker, and emptying a queue.

use super::Inner;
use crate::backend::{BackendError, Overview, QueueName, QueueStatus};

impl Inner {
    pub(super) fn overview(&mut self, now: i64) -> Overview {
        let mut overview = Overview {
            kept: self.kept.len() as u64,
            ..Overview::default()
        };
        for name in self.table.names() {
            let Ok((_, entry)) = self.table.named(&name) else {
                continue;
            };
            entry.fifo.expire(now);
            let census = entry.fifo.census();
            overview.queues.push(QueueStatus {
                spec: entry.spec.clone(),
                ready: census.ready as u64,
                in_flight: census.leased as u64,
                delayed: census.delayed as u64,
                retrying: census.retrying as u64,
                parked: census.parked as u64,
                oldest_ms: entry.fifo.iter().map(|item| item.value.at_ms).min(),
                receivers: entry.receivers() as u64,
            });
        }
        overview
    }

    pub(super) fn purge(&mut self, name: &QueueName) -> Result<u64, BackendError> {
        let (_, entry) = self.table.named(name)?;
        let taken = entry.fifo.take_waiting();
        entry.fifo.forget(&taken);
        Ok((taken.away.len() + taken.parked.len()) as u64)
    }
}
