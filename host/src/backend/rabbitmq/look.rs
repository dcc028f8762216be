//! What an operator sees of the queues that this host consumes: what waits in the server, and what has come from there.
//!
//! Queues of others, and messages that wait for their time, are for the tools of the server.

use std::time::Duration;

use super::declare;
use super::shared::Shared;
use crate::backend::{BackendError, QueueStatus};

impl Shared {
    /// The queues that were declared here, as far as they are there. Nobody waits for a server that is away.
    pub(super) async fn waiting(&self) -> Result<Vec<QueueStatus>, BackendError> {
        let session = match self.link.session(Duration::ZERO).await {
            Ok(session) => session,
            Err(Some(failure)) => return Err(failure.into()),
            Err(None) => return Err(BackendError::Closed),
        };
        let mut found = Vec::new();
        for mut status in self.arrived() {
            if let Some(there) = declare::depth(&session, &status.spec.name).await? {
                status.ready += u64::from(there.messages);
                status.receivers = u64::from(there.consumers);
                found.push(status);
            }
        }
        Ok(found)
    }

    /// What has arrived of each of them.
    fn arrived(&self) -> Vec<QueueStatus> {
        let now = self.clock.now_ms();
        let mut inner = self.lock();
        let mut all = Vec::new();
        for name in inner.table.names() {
            let Ok((_, entry)) = inner.table.named(&name) else {
                continue;
            };
            if !entry.extra.ours || entry.spec.ephemeral {
                continue;
            }
            entry.fifo.expire(now);
            let census = entry.fifo.census();
            all.push(QueueStatus {
                spec: entry.spec.clone(),
                ready: census.ready as u64,
                in_flight: census.leased as u64,
                delayed: census.delayed as u64,
                retrying: census.retrying as u64,
                parked: census.parked as u64,
                oldest_ms: None,
                receivers: 0,
            });
        }
        all
    }
}
