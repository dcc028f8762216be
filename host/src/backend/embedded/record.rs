//! Changes that no delivery of this broker causes: state, a dead letter and messages, in one transaction.
//!
//! For backends that keep their messages elsewhere and have this one for the rest.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::EmbeddedBackend;
use super::enqueue::Prepared;
use super::group::{Call, Settled};
use super::letters::bounded;
use super::shared::{Inner, Shared};
use crate::backend::{Outgoing, SettleError};
use crate::clock;
use crate::store::{KeptLetter, LetterPart, StateEffects, StoreError};

/// What is to be written, all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// State of one plugin or of several; each is valid only while what was read is unchanged.
    pub(crate) state: Vec<StateEffects>,
    /// Its number is given when it is written.
    pub(crate) letter: Option<KeptLetter>,
    pub(crate) publishes: Vec<Outgoing>,
}

/// Dead letters by their numbers.
type NumberedLetters = Vec<(u64, Result<KeptLetter, String>)>;

impl EmbeddedBackend {
    /// The dead letters of a part with their numbers, and where the next part begins; a complaint in place of each that
    /// cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn letters_of(
        &self,
        part: &LetterPart,
    ) -> Result<(NumberedLetters, Option<u64>), StoreError> {
        let found = self.shared.look().await?.letters_of(&bounded(part)).await?;
        Ok((found.letters, found.next))
    }

    /// Decides at once, as [`settle`](crate::backend::Backend::settle) does; the future waits for the disk.
    ///
    /// # Errors
    /// [`SettleError`]; nothing is written then.
    pub(crate) fn record(
        &self,
        mut record: Record,
    ) -> Result<BoxFuture<'static, Result<(), SettleError>>, SettleError> {
        let publishes = std::mem::take(&mut record.publishes);
        let publishes = publishes.into_iter().map(Prepared::new).collect();
        let committed = self.shared.record(record, publishes)?;
        let committed = committed.map(|results| {
            let results = results.unwrap_or_default();
            results
                .into_iter()
                .next()
                .unwrap_or(Err(SettleError::Closed))
        });
        Ok(committed.boxed())
    }
}

impl Shared {
    fn record(
        &self,
        record: Record,
        publishes: Vec<Prepared>,
    ) -> Result<oneshot::Receiver<Vec<Result<(), SettleError>>>, SettleError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(SettleError::Closed);
        }
        inner.record(record, publishes, clock::steady_ms())?;
        let (caller, receiver) = oneshot::channel();
        inner.group.add_call(Call::Settle(vec![Ok(())], caller));
        self.leave(inner);
        Ok(receiver)
    }
}

impl Inner {
    fn record(
        &mut self,
        record: Record,
        publishes: Vec<Prepared>,
        now: i64,
    ) -> Result<(), SettleError> {
        if !record
            .state
            .iter()
            .all(|state| self.states.unchanged(state))
        {
            return Err(SettleError::Conflict);
        }
        let plans = self.admit_all(&publishes)?;
        self.group.add_settled(Settled {
            delivery: None,
            state: !record.state.is_empty(),
            result: (self.group.next_call(), 0),
        });
        let publishes = publishes.into_iter().zip(plans).collect();
        let letter = record.letter.map(|letter| {
            self.last_letter += 1;
            let id = self.last_letter;
            KeptLetter { id, ..letter }
        });
        self.cause(letter, record.state, publishes, now);
        Ok(())
    }
}
