//! A task that repeats one step and survives its failures: logged, counted, backed off, tried again.
//!
//! It doesn't know what the step does. A step that panics has failed like any other.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::retry::RetryPolicy;

/// What is repeated.
#[async_trait]
pub(crate) trait Work: Send + 'static {
    /// One step. An error is a failure that passes; what cannot pass is the end.
    async fn step(&mut self) -> Result<Step, String>;

    /// After the last step.
    async fn end(&mut self) {}
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next one.
    Again,
    /// Nothing: there is no more to do.
    End,
}

/// The running task. Dropping it ends it in the middle of a step.
pub(crate) struct Pump {
    stop: CancellationToken,
    failures: Arc<AtomicU64>,
    task: AbortOnDropHandle<()>,
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.failures();
        f.debug_struct("Pump").field("failures", &failures).finish()
    }
}

impl Pump {
    /// Starts to work. `name` is for the log; of the policy only the delays count.
    pub(crate) fn start(name: String, work: impl Work, policy: RetryPolicy) -> Self {
        Self::start_draining(name, work, policy, CancellationToken::new())
    }

    /// The same for work that ends by itself once `drain` says so: what fails from then on is not tried again.
    pub(crate) fn start_draining(
        name: String,
        mut work: impl Work,
        policy: RetryPolicy,
        drain: CancellationToken,
    ) -> Self {
        let stop = CancellationToken::new();
        let failures = Arc::new(AtomicU64::new(0));
        let task = {
            let (stop, failures) = (stop.clone(), failures.clone());
            tokio::spawn(async move {
                let running = run(&name, &mut work, policy, &failures, &drain);
                stop.run_until_cancelled(running).await;
                work.end().await;
            })
        };
        Self {
            stop,
            failures,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// How many steps have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The same for somebody who looks later.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        self.failures.clone()
    }

    /// Waits for work that ends by itself.
    pub(crate) async fn ended(&mut self) {
        // It was aborted or has panicked while it ended; there is nothing left to wait for either way.
        drop((&mut self.task).await);
    }

    /// Breaks off the current step and waits for the end.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        self.ended().await;
    }
}

async fn run(
    name: &str,
    work: &mut impl Work,
    policy: RetryPolicy,
    failures: &AtomicU64,
    drain: &CancellationToken,
) {
    let policy = RetryPolicy {
        max_attempts: u32::MAX,
        ..policy
    };
    let mut in_a_row = 0_u32;
    loop {
        let began = Instant::now();
        // Whatever a panic left behind is the step's own, which starts again from what the broker still has.
        let error = match AssertUnwindSafe(work.step()).catch_unwind().await {
            Ok(Ok(Step::Again)) => {
                in_a_row = 0;
                continue;
            }
            Ok(Ok(Step::End)) => return,
            Ok(Err(error)) => error,
            Err(_) => "it panicked".to_owned(),
        };
        failures.fetch_add(1, Ordering::Relaxed);
        // What worked for longer than the longest delay has not failed in a row.
        if began.elapsed() > policy.max {
            in_a_row = 0;
        }
        in_a_row = in_a_row.saturating_add(1);
        let delay = policy.after(in_a_row, rand::random()).unwrap_or(policy.max);
        tracing::warn!(pump = name, %error, in_a_row, ?delay, "it broke off; trying again");
        if drain.run_until_cancelled(sleep(delay)).await.is_none() {
            return;
        }
    }
}
