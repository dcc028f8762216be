//! Runs a pipeline: the seed's `BrokerHandler`, and its lifecycle, the seed's `BrokerPort`.
//!
//! Stopping is bounded: nothing more is received, what runs is finished or given back, and nothing of that counts as an
//! attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::BackendError;
use crate::pipeline::Pipeline;

/// A running pipeline. Dropping it ends it at once; what was in flight comes again.
#[derive(Debug)]
pub struct Port {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Port {
    /// Subscribes and starts to handle messages.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    pub async fn start(pipeline: Arc<Pipeline>) -> Result<Self, BackendError> {
        let source = pipeline.backend.clone().subscribe(&pipeline.queue).await?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(pipeline.run(source, stop.clone()));
        Ok(Self {
            stop,
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Stops receiving and waits until what runs has ended, at most for `grace`; then gives the rest back. Returns
    /// whether everything had ended.
    pub async fn stop(self, grace: Duration) -> bool {
        self.stop.cancel();
        tokio::time::timeout(grace, self.task).await.is_ok()
    }
}
