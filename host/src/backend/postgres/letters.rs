//! Dead letters that are looked at, become messages again, or are removed for good.
//!
//! Replaying is publishing: messages and the removal of their letters are in one transaction of a writer. Whoever removes
//! a letter first has it, on whichever host.

use tokio::sync::oneshot;

use super::group::{Call, Prepared, Replayed};
use super::keeper::commit;
use super::shared::Shared;
use crate::backend::{BackendError, QueueName, again};
use crate::store::postgres::{Kind, Session};
use crate::store::{
    KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone, ReplayTo,
    StoreError,
};

/// The most letters of one page or one transaction.
const PART: usize = 1_000;

impl Shared {
    /// A connection for whoever reads long enough to hold up others.
    pub(super) fn aside(&self) -> Result<Session, BackendError> {
        drop(self.open()?);
        Ok(Session::new(self.place.clone()))
    }

    pub(super) async fn letter_page(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let mut session = self.aside()?;
        let mut tx = session.begin(Kind::Read).await?;
        let page = tx.letter_page(filter, before, limit.clamp(1, PART)).await?;
        tx.end().await;
        session.close().await;
        Ok(page)
    }

    pub(super) async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        let mut session = self.aside()?;
        let mut tx = session.begin(Kind::Read).await?;
        let letter = tx.dead_letter(id).await?;
        tx.end().await;
        session.close().await;
        letter.transpose().map_err(StoreError::Corrupt)
    }

    pub(super) async fn count_letters(
        &self,
        filter: &LetterFilter,
    ) -> Result<LetterCounts, StoreError> {
        let mut session = self.aside()?;
        let mut tx = session.begin(Kind::Read).await?;
        let counts = tx.count_letters(filter).await?;
        tx.end().await;
        session.close().await;
        Ok(counts)
    }

    pub(super) async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        // Another host may have just declared the queue of a letter.
        self.refresh().await?;
        let found = {
            let mut session = self.aside()?;
            let mut tx = session.begin(Kind::Read).await?;
            let found = tx.letters_of(&bounded(part)).await?;
            tx.end().await;
            session.close().await;
            found
        };
        let mut done = LettersDone {
            next: found.next,
            ..LettersDone::default()
        };
        let (mut ids, mut batch) = (Vec::new(), Vec::new());
        for (id, letter) in found.letters {
            let exists = |name: &QueueName| self.lock().table.slot(name).is_some();
            match letter.and_then(|letter| again::outgoing(&letter, to, exists)) {
                Ok(message) => {
                    ids.push(id);
                    batch.push((id.cast_signed(), Prepared::new(message)));
                }
                Err(error) => done.refused.push((id, error)),
            }
        }
        if batch.is_empty() {
            return Ok(done);
        }
        let (caller, replayed) = oneshot::channel();
        self.enter(Call::Replay { batch, caller }).await;
        let replayed = replayed.await;
        let replayed = replayed.map_err(|_| BackendError::Closed)??;
        for (id, replayed) in ids.into_iter().zip(replayed) {
            match replayed {
                Replayed::Done => done.done += 1,
                Replayed::Gone => {}
                Replayed::Refused(error) => done.refused.push((id, error)),
            }
        }
        Ok(done)
    }

    pub(super) async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        let mut session = self.aside()?;
        let mut tx = session.begin(Kind::Write).await?;
        let gone = tx.purge_letters(&bounded(part)).await?;
        commit(tx).await?;
        session.close().await;
        Ok(LettersDone {
            done: gone.letters.len() as u64,
            refused: Vec::new(),
            next: gone.next,
        })
    }
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn bounded(part: &LetterPart) -> LetterPart {
    LetterPart {
        limit: part.limit.clamp(1, PART),
        ..part.clone()
    }
}
