//! The task that empties an outbox: takes what waits, in order, and hands it to the publisher behind.
//!
//! It decides nothing about who gets a message, and never gives one up that may still be accepted.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Pending, envelope};
use crate::backend::{
    Backend, Delivery, Effects, Heartbeat, Held, Outgoing, QueueSpec, Renewing, Verdict,
};
use crate::publisher::Publisher;
use crate::pump::{Step, Work};
use crate::store::Reason;

/// From an outbox to a publisher.
#[derive(Debug)]
pub(super) struct Forward {
    outbox: Arc<dyn Backend>,
    spec: QueueSpec,
    target: Arc<dyn Publisher>,
    batch: usize,
    pending: Arc<Pending>,
    heartbeat: Arc<Heartbeat>,
    source: Renewing,
}

#[async_trait]
impl Work for Forward {
    async fn step(&mut self) -> Result<Step, String> {
        match self.source.next(self.batch, || self.spec.clone()).await {
            Ok(Some(deliveries)) => self.forward(deliveries).await,
            Ok(None) => Ok(Step::End),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Forward {
    pub(super) fn new(
        outbox: Arc<dyn Backend>,
        spec: QueueSpec,
        target: Arc<dyn Publisher>,
        batch: usize,
        pending: Arc<Pending>,
    ) -> Self {
        let heartbeat = Heartbeat::start(outbox.clone(), spec.lease);
        Self {
            source: Renewing::new(outbox.clone()),
            outbox,
            spec,
            target,
            batch,
            pending,
            heartbeat,
        }
    }

    /// What is not settled here goes back to its place in the outbox.
    async fn forward(&mut self, deliveries: Vec<Delivery>) -> Result<Step, String> {
        let queue = &self.spec.name;
        let held = deliveries
            .iter()
            .map(|one| self.heartbeat.hold(one.token()));
        let held: Vec<Held> = held.collect();
        let (mut ended, mut waiting) = (Vec::new(), Vec::new());
        let mut batch: Vec<Outgoing> = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match envelope::unwrap(&delivery) {
                Ok(outgoing) => {
                    waiting.push((delivery, outgoing.message.identifier));
                    batch.push(outgoing);
                }
                Err(error) => {
                    ended.push((
                        delivery.bury(queue, Reason::Malformed, error.to_string()),
                        None,
                    ));
                }
            }
        }
        let results = self.target.send_batch(batch).await;
        let mut trouble = None;
        for ((delivery, identifier), result) in waiting.into_iter().zip(results) {
            let settlement = match result {
                Ok(_) => delivery.settle(Verdict::Ack, Effects::default()),
                Err(error) => match error.for_good() {
                    Some(reason) => delivery.bury(queue, reason, error.to_string()),
                    None => {
                        trouble = Some(error.to_string());
                        continue;
                    }
                },
            };
            ended.push((settlement, Some(identifier)));
        }
        let (settlements, identifiers): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        let settled = self.outbox.settle(settlements).await;
        for (identifier, settled) in identifiers.into_iter().zip(settled) {
            match (settled, identifier) {
                (Ok(()), Some(identifier)) => self.pending.leave(identifier),
                (Ok(()), None) => {}
                // It comes again, and the publisher behind gets it twice.
                (Err(error), _) => trouble = Some(error.to_string()),
            }
        }
        drop(held);
        trouble.map_or(Ok(Step::Again), Err)
    }
}
