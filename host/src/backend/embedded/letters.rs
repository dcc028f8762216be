//! Dead letters that are looked at, become messages again, or are removed for good.
//!
//! Replaying is publishing: messages and the removal of their letters are in one transaction of the writer. One part at
//! a time is worked on, so that no letter is replayed twice.

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::enqueue::Prepared;
use super::group::Call;
use super::shared::{Inner, Shared};
use crate::backend::table::Plan;
use crate::backend::{BackendError, QueueName, again};
use crate::clock;
use crate::store::sqlite::{Failure, Reader};
use crate::store::{
    KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone, ReplayTo,
    StoreError,
};

/// The most letters of one page or one transaction.
const PART: usize = 1_000;

/// Tells whether a transaction was written.
type Committed = oneshot::Receiver<Result<(), Failure>>;

/// Messages with the numbers of their letters.
type Messages = Vec<(u64, Prepared)>;

/// What a part of a selection comes to.
#[derive(Debug, Default)]
struct Prospect {
    messages: Messages,
    refused: Vec<(u64, String)>,
}

impl Shared {
    /// A connection for whoever reads long enough to hold up a handler.
    pub(super) async fn look(&self) -> Result<Reader, StoreError> {
        drop(self.open().map_err(closed)?);
        Ok(Reader::open(&self.folder).await?)
    }

    pub(super) async fn letter_page(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let mut reader = self.look().await?;
        let limit = limit.clamp(1, PART);
        Ok(reader.letter_page(filter, before, limit).await?)
    }

    pub(super) async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        let found = self.look().await?.dead_letter(id).await?;
        found.transpose().map_err(StoreError::Corrupt)
    }

    pub(super) async fn count_letters(
        &self,
        filter: &LetterFilter,
    ) -> Result<LetterCounts, StoreError> {
        Ok(self.look().await?.count_letters(filter).await?)
    }

    pub(super) async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        let turn = self.letters.clone().lock_owned().await;
        let found = self.look().await?.letters_of(&bounded(part)).await?;
        let mut prospect = Prospect::default();
        for (id, letter) in found.letters {
            let exists = |name: &QueueName| self.lock().table.slot(name).is_some();
            let message = letter.and_then(|letter| again::outgoing(&letter, to, exists));
            match message {
                Ok(message) => prospect.messages.push((id, Prepared::new(message))),
                Err(error) => prospect.refused.push((id, error)),
            }
        }
        let (count, refused) = self.publish_again(prospect, turn).await?;
        Ok(LettersDone {
            done: count,
            refused,
            next: found.next,
        })
    }

    pub(super) async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        let turn = self.letters.clone().lock_owned().await;
        let found = self.look().await?.letter_ids(&bounded(part)).await?;
        let done = found.letters.len() as u64;
        if done > 0 {
            let committed = {
                let mut inner = self.open().map_err(closed)?;
                let (caller, committed) = oneshot::channel();
                inner.group.add_undead(found.letters);
                inner.group.add_call(Call::Letters {
                    caller,
                    _turn: turn,
                });
                self.leave(inner);
                committed
            };
            finished(committed.await)?;
        }
        Ok(LettersDone {
            done,
            refused: Vec::new(),
            next: found.next,
        })
    }

    /// Puts messages and the removal of their letters into the next transaction, once there is room for them.
    async fn publish_again(
        &self,
        prospect: Prospect,
        turn: OwnedMutexGuard<()>,
    ) -> Result<(u64, Vec<(u64, String)>), StoreError> {
        let Prospect {
            messages,
            mut refused,
        } = prospect;
        if messages.is_empty() {
            return Ok((0, refused));
        }
        let mut waiting = Some((messages, turn));
        let (count, committed) = loop {
            let room = self.room.notified();
            if let Some(entered) = self.try_again(&mut waiting, &mut refused)? {
                break entered;
            }
            room.await;
        };
        finished(committed.await)?;
        Ok((count, refused))
    }

    /// The same if there is room now: how many were accepted, and who tells when it is done.
    fn try_again(
        &self,
        waiting: &mut Option<(Messages, OwnedMutexGuard<()>)>,
        refused: &mut Vec<(u64, String)>,
    ) -> Result<Option<(u64, Committed)>, StoreError> {
        let mut inner = self.open().map_err(closed)?;
        let Some((messages, turn)) = waiting.take_if(|_| inner.group.has_room()) else {
            return Ok(None);
        };
        let (caller, committed) = oneshot::channel();
        let entered = inner.enter_again(messages, refused);
        let count = entered.len() as u64;
        inner.group.add_undead(entered);
        inner.group.add_call(Call::Letters {
            caller,
            _turn: turn,
        });
        self.leave(inner);
        Ok(Some((count, committed)))
    }
}

impl Inner {
    /// Enters what may be published; the numbers of its letters.
    fn enter_again(&mut self, messages: Messages, refused: &mut Vec<(u64, String)>) -> Vec<u64> {
        let now = clock::steady_ms();
        let mut entered = Vec::with_capacity(messages.len());
        for (id, prepared) in messages {
            match self.admit(&prepared.outgoing) {
                Ok(Plan::Drop) => {
                    let topic = &prepared.outgoing.message.topic;
                    refused.push((id, again::nobody_waits(topic)));
                }
                Ok(plan) => {
                    self.enter(prepared, &plan, now, false);
                    entered.push(id);
                }
                Err(error) => refused.push((id, error.to_string())),
            }
        }
        entered
    }
}

pub(super) fn bounded(part: &LetterPart) -> LetterPart {
    LetterPart {
        limit: part.limit.clamp(1, PART),
        ..part.clone()
    }
}

fn finished(committed: Result<Result<(), Failure>, RecvError>) -> Result<(), StoreError> {
    match committed {
        Ok(done) => Ok(done?),
        Err(_) => Err(closed(BackendError::Closed)),
    }
}

fn closed(error: BackendError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
