//! The store of the owner: plugin state and dead letters.

use std::borrow::Cow;

use async_trait::async_trait;

use super::super::answer::{Answer, Report};
use super::super::connection::Unsent;
use super::super::protocol::{Call, Operation};
use super::LocalBackend;
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone,
    ReplayTo, Store, StoreError, Versioned,
};

impl LocalBackend {
    async fn look(&self, call: Call<'_>) -> Result<Answer, StoreError> {
        let _share = self.requests.share(0).await;
        let ticket = self.connection.ask(call).map_err(|unsent| match unsent {
            Unsent::Lost(lost) => lost.into(),
            Unsent::TooLong(error) => StoreError::Unavailable(error.to_string()),
        })?;
        Ok(ticket.wait().await?)
    }

    async fn done(&self, operation: Operation<'_>) -> Result<LettersDone, StoreError> {
        match self.look(Call::Operate(operation)).await? {
            Answer::Operated(Report::Done(done)) => Ok(done),
            other => Err(other.into_store_error()),
        }
    }
}

#[async_trait]
impl Store for LocalBackend {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        match self.look(Call::StateGet { plugin, key }).await? {
            Answer::Value(found) => Ok(found),
            other => Err(other.into_store_error()),
        }
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        match self
            .look(Call::StateKeys {
                plugin,
                prefix,
                after,
                limit: number(limit),
            })
            .await?
        {
            Answer::Keys(keys) => Ok(keys),
            other => Err(other.into_store_error()),
        }
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        match self.look(Call::StateSize(plugin)).await? {
            Answer::Size(size) => Ok(size),
            other => Err(other.into_store_error()),
        }
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        match self
            .look(Call::DeadLetters {
                limit: number(limit),
            })
            .await?
        {
            Answer::Letters(letters) => Ok(letters),
            other => Err(other.into_store_error()),
        }
    }

    async fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let operation = Operation::Letters {
            filter: Cow::Borrowed(filter),
            before,
            limit: number(limit),
        };
        match self.look(Call::Operate(operation)).await? {
            Answer::Operated(Report::Letters(page)) => Ok(page),
            other => Err(other.into_store_error()),
        }
    }

    async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        match self.look(Call::Operate(Operation::Letter(id))).await? {
            Answer::Operated(Report::Letter(letter)) => Ok(letter.map(|letter| *letter)),
            other => Err(other.into_store_error()),
        }
    }

    async fn count_letters(&self, filter: &LetterFilter) -> Result<LetterCounts, StoreError> {
        let operation = Operation::CountLetters(Cow::Borrowed(filter));
        match self.look(Call::Operate(operation)).await? {
            Answer::Operated(Report::Counts(counts)) => Ok(counts),
            other => Err(other.into_store_error()),
        }
    }

    async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        let operation = Operation::ReplayLetters(Cow::Borrowed(part), Cow::Borrowed(to));
        self.done(operation).await
    }

    async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        self.done(Operation::PurgeLetters(Cow::Borrowed(part)))
            .await
    }
}

fn number(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
