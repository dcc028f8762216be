//! Plugin state and dead letters of the memory broker, for whoever reads them.

use async_trait::async_trait;

use super::{MemoryBackend, Shared};
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone,
    ReplayTo, Store, StoreError, Versioned,
};

#[async_trait]
impl Store for MemoryBackend {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        Ok(self.shared.lock().state.get(plugin, key))
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        Ok(self.shared.lock().state.keys(plugin, prefix, after, limit))
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        Ok(Some(self.shared.lock().state.size(plugin)))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.shared.lock().letters.newest(limit))
    }

    async fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let inner = self.shared.lock();
        Ok(inner.letters.page(filter, before, limit.max(1)))
    }

    async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        Ok(self.shared.lock().letters.get(id).cloned())
    }

    async fn count_letters(&self, filter: &LetterFilter) -> Result<LetterCounts, StoreError> {
        Ok(self.shared.lock().letters.count(filter))
    }

    async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        let mut inner = self.shared.lock();
        let done = inner.replay(part, to, self.shared.clock.now_ms());
        let wakeups = inner.table.wakeups();
        Shared::wake(wakeups, inner);
        Ok(done)
    }

    async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        Ok(self.shared.lock().letters.purge(part))
    }
}
