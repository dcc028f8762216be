//! What waits for the next transaction, with everything that must happen once it is committed or has failed.
//!
//! It is only a list: who puts something in and who acts on it is in the files beside this one.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::backend::table::Stored;
use crate::backend::{PublishError, Receipt, SettleError};
use crate::queue::{Item, Slot};
use crate::store::sqlite::{Batch, Failure, NewRow, RetryRow, StateRow};
use crate::store::{History, KeptLetter};
use crate::topic::TopicName;

/// Beyond this, publishers wait.
const MAX_BYTES: usize = 64 << 20;
const MAX_ROWS: usize = 65_536;

/// Operations in the order of their calls.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// New messages; `arrivals` says the rest about each of them, in the same order, and about those that are in
    /// memory only.
    inserts: Vec<NewRow>,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) settled: Vec<Settled>,
    pub(super) states: Vec<StateRow>,
    dead: Vec<(usize, KeptLetter)>,
    undead: Vec<u64>,
    calls: Vec<Call>,
    bytes: usize,
}

/// A message that becomes visible with the commit.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its queue with the number on disk, since the slot may belong to another queue by then; `None`: it is kept in its
    /// topic.
    pub(super) queue: Option<(Slot, i64)>,
    pub(super) item: Item<Stored>,
    /// When it is due; 0: at once.
    pub(super) due: i64,
    /// Which settlement caused it, as an index into `settled`.
    cause: Option<usize>,
}

/// A settlement, or a record that no delivery causes.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) delivery: Option<Ended>,
    /// It read or wrote state, on the assumption that what was decided before gets written.
    pub(super) state: bool,
    /// Its result: which call, and which one of it.
    pub(super) result: (usize, usize),
}

/// A delivery that ends with the commit.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) queue: (Slot, i64),
    pub(super) item: Item<Stored>,
    /// How it is delivered again, if it is.
    pub(super) again: Option<Again>,
}

/// Another attempt.
#[derive(Debug)]
pub(super) struct Again {
    /// When.
    pub(super) due: i64,
    /// The attempts before it.
    pub(super) history: Arc<History>,
}

/// Somebody who waits for results.
#[derive(Debug)]
pub(super) enum Call {
    Publish(
        Vec<Result<Receipt, PublishError>>,
        oneshot::Sender<Vec<Result<Receipt, PublishError>>>,
    ),
    Settle(
        Vec<Result<(), SettleError>>,
        oneshot::Sender<Vec<Result<(), SettleError>>>,
    ),
    /// Dead letters that leave; nobody else works on them until it is known whether they did.
    Letters {
        caller: oneshot::Sender<Result<(), Failure>>,
        _turn: OwnedMutexGuard<()>,
    },
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether publishers may add to it.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES && self.inserts.len() + self.settled.len() < MAX_ROWS
    }

    /// The number that the next call will have.
    pub(super) fn next_call(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn add_call(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Adds a message, caused by the settlement that was added last if `caused`.
    pub(super) fn add_message(
        &mut self,
        row: NewRow,
        queue: Option<(Slot, i64)>,
        item: Item<Stored>,
        caused: bool,
    ) {
        self.bytes += row.columns.size();
        let volatile = item.value.volatile;
        let cause = if caused {
            self.settled.len().checked_sub(1)
        } else {
            None
        };
        let due = row.due;
        if !volatile {
            self.inserts.push(row);
        }
        self.arrivals.push(Arrival {
            queue,
            item,
            due,
            cause,
        });
    }

    /// Puts messages into a queue that would be kept in their topics; how many.
    pub(super) fn adopt(
        &mut self,
        queue: (Slot, i64),
        wanted: impl Fn(&TopicName) -> bool,
    ) -> usize {
        let written = self.arrivals.iter_mut();
        let written = written.filter(|arrival| !arrival.item.value.volatile);
        let mut adopted = 0;
        for (row, arrival) in self.inserts.iter_mut().zip(written) {
            if arrival.queue.is_none() && wanted(&arrival.item.value.message.topic) {
                row.queue = queue.1;
                arrival.queue = Some(queue);
                adopted += 1;
            }
        }
        adopted
    }

    pub(super) fn add_settled(&mut self, settled: Settled) {
        self.settled.push(settled);
    }

    /// Adds the letter of the settlement that was added last.
    pub(super) fn add_dead(&mut self, letter: KeptLetter) {
        self.dead
            .push((self.settled.len().saturating_sub(1), letter));
    }

    /// Removes dead letters.
    pub(super) fn add_undead(&mut self, letters: impl IntoIterator<Item = u64>) {
        self.undead.extend(letters);
    }

    pub(super) fn add_state(&mut self, row: StateRow) {
        self.bytes += row.value.as_ref().map_or(0, bytes::Bytes::len) + 100;
        self.states.push(row);
    }

    /// What is to be written. What is needed afterwards stays.
    pub(super) fn batch(&mut self) -> Batch {
        let (mut deletes, mut retries) = (Vec::new(), Vec::new());
        let stored = |ended: &&Ended| !ended.item.value.volatile;
        let ended = self.settled.iter().filter_map(|s| s.delivery.as_ref());
        for ended in ended.filter(stored) {
            let id = ended.item.id;
            match &ended.again {
                None => deletes.push(id),
                Some(Again { due, history }) => retries.push(RetryRow {
                    id,
                    due: *due,
                    attempts: ended.item.attempts.saturating_add(1),
                    history: history.clone(),
                }),
            }
        }
        Batch {
            inserts: std::mem::take(&mut self.inserts),
            deletes,
            retries,
            state: self.states.clone(),
            dead: std::mem::take(&mut self.dead)
                .into_iter()
                .map(|(_, letter)| letter)
                .collect(),
            undead: std::mem::take(&mut self.undead),
        }
    }

    /// Takes out every settlement that has to do with state, with all that it caused, and gives it a conflict.
    pub(super) fn revoke_state(&mut self) -> (Vec<Settled>, Vec<Arrival>) {
        let revoked: HashSet<usize> = (0..)
            .zip(&self.settled)
            .filter(|(_, settled)| settled.state)
            .map(|(index, _)| index)
            .collect();
        if revoked.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let stays = |cause: Option<usize>| cause.is_none_or(|cause| !revoked.contains(&cause));
        let written = self.arrivals.iter().filter(|a| !a.item.value.volatile);
        let mut rows = written.map(|arrival| stays(arrival.cause));
        self.inserts.retain(|_| rows.next().unwrap_or(true));
        let never = self
            .arrivals
            .extract_if(.., |arrival| !stays(arrival.cause))
            .collect();
        self.dead.retain(|(cause, _)| stays(Some(*cause)));
        self.states.clear();
        let mut index = 0..;
        let revoked: Vec<Settled> = self
            .settled
            .extract_if(.., |_| {
                index.next().is_some_and(|index| revoked.contains(&index))
            })
            .collect();
        // Places in `settled` have changed. Nothing that is in the group now is ever revoked, for the next transaction
        // takes it.
        self.arrivals
            .iter_mut()
            .for_each(|arrival| arrival.cause = None);
        self.dead
            .iter_mut()
            .for_each(|(cause, _)| *cause = usize::MAX);
        for (call, result) in revoked.iter().map(|settled| settled.result) {
            if let Some(Call::Settle(results, _)) = self.calls.get_mut(call)
                && let Some(result) = results.get_mut(result)
            {
                *result = Err(SettleError::Conflict);
            }
        }
        (revoked, never)
    }

    /// Those who wait for results.
    pub(super) fn into_calls(self) -> Vec<Call> {
        self.calls
    }
}

impl Call {
    /// Tells the caller that everything that was accepted is on disk. Who no longer listens doesn't need to know.
    pub(super) fn committed(self) {
        match self {
            Self::Publish(results, caller) => drop(caller.send(results)),
            Self::Settle(results, caller) => drop(caller.send(results)),
            Self::Letters { caller, .. } => drop(caller.send(Ok(()))),
        }
    }

    /// Tells the caller that nothing of what was accepted happened.
    pub(super) fn failed(self, reason: &Failure) {
        match self {
            Self::Publish(mut results, caller) => {
                for result in results.iter_mut().filter(|result| result.is_ok()) {
                    *result = Err(PublishError::Unavailable(reason.0.clone()));
                }
                drop(caller.send(results));
            }
            Self::Settle(mut results, caller) => {
                for result in results.iter_mut().filter(|result| result.is_ok()) {
                    *result = Err(SettleError::Unavailable(reason.0.clone()));
                }
                drop(caller.send(results));
            }
            Self::Letters { caller, .. } => drop(caller.send(Err(reason.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Payload};
    use crate::store::sqlite::Columns;

    fn settled(id: u64, state: bool, result: (usize, usize)) -> Settled {
        let delivery = Some(Ended {
            queue: (0, 1),
            item: item(id),
            again: None,
        });
        Settled {
            delivery,
            state,
            result,
        }
    }

    fn item(id: u64) -> Item<Stored> {
        let message = Arc::new(Message::new("t".parse().unwrap(), Payload::default()));
        Item {
            id,
            attempts: 0,
            key: None,
            value: Stored {
                message,
                route: None,
                volatile: false,
                at_ms: 0,
                history: None,
            },
        }
    }

    fn add_message(group: &mut Group, id: u64, caused: bool) {
        let item = item(id);
        let columns = Arc::new(Columns::new(&item.value.message, None, None));
        let row = NewRow {
            id,
            queue: 1,
            due: 0,
            at_ms: 0,
            columns,
        };
        group.add_message(row, Some((0, 1)), item, caused);
    }

    #[test]
    fn revoking_takes_out_what_has_to_do_with_state_and_nothing_else() {
        let mut group = Group::default();
        add_message(&mut group, 10, false);
        for (id, state) in [(1, false), (2, true), (3, false)] {
            group.add_settled(settled(id, state, (0, usize::try_from(id).unwrap() - 1)));
            add_message(&mut group, 10 + id, true);
        }
        group.add_state(StateRow {
            plugin: "p".into(),
            key: "k".into(),
            value: None,
        });
        let (caller, mut receiver) = oneshot::channel();
        group.add_call(Call::Settle(vec![Ok(()); 3], caller));

        let (revoked, never) = group.revoke_state();
        assert_eq!(
            revoked
                .iter()
                .map(|settled| settled.delivery.as_ref().unwrap().item.id)
                .collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(
            never
                .iter()
                .map(|arrival| arrival.item.id)
                .collect::<Vec<_>>(),
            [12]
        );
        let batch = group.batch();
        assert_eq!(batch.deletes, [1, 3]);
        assert_eq!(
            batch.inserts.iter().map(|row| row.id).collect::<Vec<_>>(),
            [10, 11, 13]
        );
        assert!(batch.state.is_empty());
        let arrivals: Vec<u64> = group
            .arrivals
            .iter()
            .map(|arrival| arrival.item.id)
            .collect();
        assert_eq!(arrivals, [10, 11, 13]);
        group.into_calls().into_iter().for_each(Call::committed);
        assert_eq!(
            receiver.try_recv(),
            Ok(vec![Ok(()), Err(SettleError::Conflict), Ok(())])
        );
    }
}
