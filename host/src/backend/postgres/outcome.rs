//! What follows from a transaction: callers get their results, receivers and other hosts learn of what is ready,
//! deliveries that did not end are given back.
//!
//! It talks to nobody outside of this process.

use std::time::Duration;

use super::group::Call;
use super::plan::Results;
use super::shared::Shared;
use crate::backend::table::REFUSED_MS;
use crate::backend::{PublishError, SettleError};
use crate::store::postgres::{Failure, First, Hold};

/// A transaction that was committed.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) ready: Vec<First>,
    /// When the first of those messages is due that are not ready.
    pub(super) due: Option<Duration>,
    pub(super) kept: u64,
    /// Dead letters that were written.
    pub(super) buried: usize,
    pub(super) results: Vec<Results>,
}

impl From<Hold> for First {
    fn from(hold: Hold) -> Self {
        Self {
            queue: hold.queue,
            id: hold.id,
        }
    }
}

impl Shared {
    /// Everything of the calls that was not refused is committed.
    pub(super) fn committed(&self, calls: Vec<Call>, done: Done) {
        let mut inner = self.lock();
        for settling in calls.iter().flat_map(Call::settlements) {
            inner.states.settled(&settling.writes);
        }
        inner.arrived(&done.ready);
        inner.kept += done.kept;
        inner.buried += done.buried;
        let hurry = done.due.is_some() || (!inner.has_news() && !done.ready.is_empty());
        if let Some(due) = done.due {
            inner.expect(due);
        }
        inner.tell(&done.ready);
        self.leave(inner);
        if hurry {
            self.keeping.notify_one();
        }
        for (call, results) in calls.into_iter().zip(done.results) {
            self.answer(call, results);
        }
    }

    /// Nothing of the calls happened.
    pub(super) fn failed(&self, calls: Vec<Call>, failure: &Failure) {
        let mut inner = self.lock();
        for settling in calls.iter().flat_map(Call::settlements) {
            inner.states.settled(&settling.writes);
        }
        drop(inner);
        for call in calls {
            let results = match &call {
                Call::Publish { batch, .. } => {
                    let error = PublishError::Unavailable(failure.to_string());
                    Results::Publish(vec![Err(error); batch.len()])
                }
                Call::Replay { .. } => Results::Replay(Err(failure.clone())),
                Call::Settle { batch, .. } => {
                    let error = SettleError::Unavailable(failure.to_string());
                    let result = |settling: &Result<_, SettleError>| match settling {
                        Err(known) => Err(known.clone()),
                        Ok(_) => Err(error.clone()),
                    };
                    Results::Settle(batch.iter().map(result).collect())
                }
            };
            self.answer(call, results);
        }
    }

    /// Gives back what did not end, then tells the caller. Who no longer listens doesn't need to know.
    fn answer(&self, call: Call, results: Results) {
        match (call, results) {
            (Call::Publish { caller, .. }, Results::Publish(results)) => {
                drop(caller.send(results));
            }
            (Call::Replay { caller, .. }, Results::Replay(results)) => {
                drop(caller.send(results));
            }
            (Call::Settle { batch, caller }, Results::Settle(results)) => {
                for (settling, result) in batch.into_iter().zip(&results) {
                    let (Ok(settling), Err(error)) = (settling, result) else {
                        continue;
                    };
                    let delay_ms = match error {
                        SettleError::Stale => continue,
                        SettleError::Refused(_) => REFUSED_MS,
                        _ => 0,
                    };
                    let slot = crate::queue::slot_of(settling.token);
                    self.give_back(slot, [(settling.hold, delay_ms)]);
                }
                drop(caller.send(results));
            }
            // A call gets results of its own kind.
            (Call::Publish { .. } | Call::Settle { .. } | Call::Replay { .. }, _) => {}
        }
    }
}
