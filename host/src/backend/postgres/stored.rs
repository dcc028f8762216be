//! Plugin state and dead letters of the postgres broker, for whoever reads them.
//!
//! Writing them is part of settling.

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::PostgresBackend;
use super::overlay::ABSENT;
use super::reader::{List, Page, Read, Value};
use crate::backend::paging::Paging;
use crate::store::postgres::{Failure, Kind};
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone,
    ReplayTo, Store, StoreError, Versioned,
};

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.to_string())
    }
}

impl PostgresBackend {
    async fn read(&self, plugin: &str, key: &str) -> Result<Value, StoreError> {
        let (caller, done) = oneshot::channel();
        let key = (plugin.into(), key.into());
        let read = Read { key, caller };
        self.shared.open().map_err(closed)?.reads.values.push(read);
        self.shared.reading.notify_one();
        done.await.map_err(closed)?
    }

    async fn list(&self, page: Page) -> Result<Vec<String>, StoreError> {
        let (caller, done) = oneshot::channel();
        let list = List { page, caller };
        self.shared.open().map_err(closed)?.reads.lists.push(list);
        self.shared.reading.notify_one();
        done.await.map_err(closed)?
    }
}

fn closed<T>(_: T) -> StoreError {
    StoreError::Unavailable("the broker is closed".to_owned())
}

#[async_trait]
impl Store for PostgresBackend {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        let decided = |shared: &super::shared::Shared| shared.lock().states.get(plugin, key);
        if let Some(decided) = decided(&self.shared) {
            return Ok(decided);
        }
        let value = self.read(plugin, key).await?;
        if let Some(decided) = decided(&self.shared) {
            return Ok(decided);
        }
        let (value, version) =
            value.map_or((None, ABSENT), |(value, version)| (Some(value), version));
        Ok(Versioned {
            value,
            version: version.cast_unsigned(),
        })
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
            let page = Page {
                plugin: plugin.into(),
                first: first.to_owned(),
                excluded,
                limit,
            };
            let page = self.list(page).await?;
            paging.add(page, pending);
        }
        Ok(paging.found())
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        let unwritten = self.shared.lock().states.unwritten(plugin);
        let mut session = self.shared.session.lock().await;
        let mut tx = session.begin(Kind::Read).await?;
        let size = tx.state_size(plugin, unwritten).await?;
        tx.end().await;
        Ok(Some(size))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let mut session = self.shared.session.lock().await;
        let mut tx = session.begin(Kind::Read).await?;
        let letters = tx.dead_letters(limit).await?;
        tx.end().await;
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
