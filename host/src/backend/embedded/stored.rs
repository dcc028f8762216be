//! Plugin state and dead letters of the embedded broker, for whoever reads them.
//!
//! Writing them is part of settling.

use async_trait::async_trait;
use tokio::sync::MappedMutexGuard;

use super::EmbeddedBackend;
use crate::backend::paging::Paging;
use crate::store::sqlite::{Failure, Reader};
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone,
    ReplayTo, Store, StoreError, Versioned,
};

impl EmbeddedBackend {
    async fn reader(&self) -> Result<MappedMutexGuard<'_, Reader>, StoreError> {
        let reader = self.shared.reader.lock().await;
        tokio::sync::MutexGuard::try_map(reader, Option::as_mut)
            .map_err(|_| StoreError::Unavailable("the broker is closed".to_owned()))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.0)
    }
}

#[async_trait]
impl Store for EmbeddedBackend {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        loop {
            let forgotten = {
                let mut inner = self.shared.lock();
                if let Some(known) = inner.states.get(plugin, key) {
                    return Ok(known);
                }
                inner.states.forgotten()
            };
            let value = self.reader().await?.state(plugin, key).await?;
            let mut inner = self.shared.lock();
            if let Some(known) = inner.states.get(plugin, key) {
                return Ok(known);
            }
            // Otherwise it may have been written, committed and forgotten while we read the value before that.
            if inner.states.forgotten() == forgotten {
                return Ok(inner.states.fill(plugin, key, value));
            }
        }
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut paging = Paging::new(prefix, after, limit);
        while let Some((first, excluded)) = paging.next() {
            let pending = self.shared.lock().states.pending(plugin, prefix);
            let page = self
                .reader()
                .await?
                .state_keys(plugin, first, excluded, limit)
                .await?;
            paging.add(page, pending);
        }
        Ok(paging.found())
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        let unwritten = self.shared.lock().states.unwritten(plugin);
        let mut reader = self.reader().await?;
        Ok(Some(reader.state_size(plugin, unwritten).await?))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let letters = self.reader().await?.dead_letters(limit).await?;
        let readable = letters.into_iter().filter_map(|letter| match letter {
            Ok(letter) => Some(letter),
            Err(error) => {
                tracing::error!(error, "it stays in the database");
                None
            }
        });
        Ok(readable.collect())
    }

    async fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        self.shared.letter_page(filter, before, limit).await
    }

    async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        self.shared.letter(id).await
    }

    async fn count_letters(&self, filter: &LetterFilter) -> Result<LetterCounts, StoreError> {
        self.shared.count_letters(filter).await
    }

    async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        self.shared.replay_letters(part, to).await
    }

    async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        self.shared.purge_letters(part).await
    }
}
