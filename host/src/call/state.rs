//! What a call reads and writes of the state of its plugin: buffered, and checked before it is.
//!
//! Reading what the store holds is up to who executes the call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::record::Did;
use super::{Call, Refusal};
use crate::plugin::{Grant, Hits, Limit};
use crate::store::Versioned;

impl Call {
    /// What this call already knows of a key: its own write, or what it read before.
    ///
    /// # Errors
    /// A [`Refusal`] when state is not granted.
    pub fn state_known(&mut self, key: &str) -> Result<Option<Option<Bytes>>, Refusal> {
        self.check_state()?;
        let done = self.done();
        let own = done.writes.get(key).cloned();
        Ok(own.or_else(|| done.reads.get(key).map(|read| read.value.clone())))
    }

    /// Remembers what the store said of a key, so that the commit can check that it still holds.
    pub fn state_read(&mut self, key: &str, versioned: Versioned) {
        let key: Arc<str> = key.into();
        let done = self.doing();
        done.did.push(Did::Read(key.clone()));
        done.reads.entry(key).or_insert(versioned);
    }

    /// Buffers a write; `None` deletes. What the plugin keeps in all is checked by who can ask the store.
    ///
    /// # Errors
    /// A [`Refusal`] when state is not granted or a limit is exceeded.
    pub fn state_write(&mut self, key: &str, value: Option<Bytes>) -> Result<(), Refusal> {
        self.state_check(key, value.as_ref())?;
        let key: Arc<str> = key.into();
        let done = self.done.get_or_insert_default();
        done.did.push(Did::Wrote(key.clone(), value.clone()));
        let size = size(&key, value.as_ref());
        let before = done.writes.insert(key.clone(), value);
        let before = before.map_or(0, |before| self::size(&key, before.as_ref()));
        done.written.change(&self.access.hits, before, size);
        Ok(())
    }

    /// Whether a write may be.
    ///
    /// # Errors
    /// As [`Self::state_write`].
    pub(crate) fn state_check(&mut self, key: &str, value: Option<&Bytes>) -> Result<(), Refusal> {
        self.check_state()?;
        let limits = &self.access.limits;
        let legal = !key.is_empty() && key.len() <= 255 && !key.chars().any(char::is_control);
        if !legal {
            return Err(Refusal::Invalid(
                "a state key has 1 to 255 bytes and no control characters".to_owned(),
            ));
        }
        if value.is_some_and(|value| value.len() > limits.state_value) {
            let text = format!(
                "a state value has at most {} bytes; raise `limits.state_value` of plugin `{}`",
                limits.state_value, self.access.plugin
            );
            return Err(self.exceeded(Limit::StateValue, text));
        }
        let writes = &self.done().writes;
        if writes.len() >= limits.state_writes && !writes.contains_key(key) {
            let text = format!(
                "one call may write {} state keys; raise `limits.state_writes` of plugin `{}`",
                limits.state_writes, self.access.plugin
            );
            return Err(self.exceeded(Limit::StateWrites, text));
        }
        Ok(())
    }

    /// Whether there is certainly room for this value, without asking the store.
    pub(crate) fn state_fits(&self, key: &str, value: &Bytes) -> bool {
        let access = &self.access;
        let more = size(key, Some(value));
        access.hits.kept().fits(more, access.limits.state_total)
    }

    /// The keys that this call writes, this one included, of which it is not known yet how much they hold in the store.
    pub(crate) fn state_unknown(&self, key: &str) -> Vec<Arc<str>> {
        let written = self.done().writes.keys().cloned();
        let keys = written.chain([Arc::from(key)]);
        keys.filter(|key| self.state_held(key).is_none()).collect()
    }

    /// The store holds this value for a key.
    pub(crate) fn state_holds(&mut self, key: Arc<str>, value: Option<&Bytes>) {
        let size = size(&key, value);
        self.doing().written.held.insert(key, size);
    }

    /// Bytes that the store holds for a key, if that is known.
    fn state_held(&self, key: &str) -> Option<u64> {
        let done = self.done();
        let read = done.reads.get(key);
        let read = read.map(|read| size(key, read.value.as_ref()));
        read.or_else(|| done.written.held.get(key).copied())
    }

    /// Whether there is room for this value in a plugin that keeps `stored` bytes.
    ///
    /// # Errors
    /// [`Refusal::Limit`] with the line to change.
    pub(crate) fn state_room(
        &mut self,
        key: &str,
        value: &Bytes,
        stored: u64,
    ) -> Result<(), Refusal> {
        let total = self.access.limits.state_total;
        let others = self
            .access
            .hits
            .kept()
            .pending()
            .saturating_sub(self.done().written.bytes);
        let (new, held) = (size(key, Some(value)), self.state_held(key).unwrap_or(0));
        let mut after = stored.saturating_add(others).saturating_add(new);
        let mut gone = held;
        for (other, value) in self
            .done()
            .writes
            .iter()
            .filter(|(other, _)| ***other != *key)
        {
            after = after.saturating_add(size(other, value.as_ref()));
            gone = gone.saturating_add(self.state_held(other).unwrap_or(0));
        }
        // Whoever keeps too much already may keep less.
        if after.saturating_sub(gone) <= total || new <= held {
            return Ok(());
        }
        let plugin = &self.access.plugin;
        let text = format!(
            "plugin `{plugin}` keeps {stored} bytes of state and may keep {total}; delete what is not needed, or raise `limits.state_total` of plugin `{plugin}`"
        );
        Err(self.exceeded(Limit::StateTotal, text))
    }

    /// Merges a page of stored keys with what this call wrote itself in the same range: after `after`, and up to
    /// `until` when there are further pages.
    #[must_use]
    pub fn state_merge_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        until: Option<&str>,
        stored: Vec<String>,
    ) -> Vec<String> {
        let mut keys: BTreeSet<String> = stored.into_iter().collect();
        for (key, value) in &self.done().writes {
            let here = after.is_none_or(|after| &**key > after)
                && until.is_none_or(|until| &**key <= until);
            if value.is_none() {
                keys.remove(&**key);
            } else if here && key.starts_with(prefix) {
                keys.insert(key.to_string());
            }
        }
        keys.into_iter().collect()
    }

    /// Refuses state to who was not granted it.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] with the line to add.
    pub fn check_state(&mut self) -> Result<(), Refusal> {
        if self.access.grants.state {
            return Ok(());
        }
        let plugin = &self.access.plugin;
        tracing::warn!(plugin = %plugin, message_id = %self.message.identifier, "refused: state is not granted; add `state = true` under [plugins.{plugin}]");
        let text = format!(
            "state is not granted to plugin `{plugin}`; add `state = true` under [plugins.{plugin}]"
        );
        Err(self.refuse(Grant::State, text))
    }
}

/// Bytes of a key with its value; none without one.
fn size(key: &str, value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| (key.len() + value.len()) as u64)
}

/// How much a call has written so far. It is pending until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: u64,
    /// Nothing for calls that write nothing.
    hits: Option<Arc<Hits>>,
    /// Bytes that the store holds for keys that were not read; asked for only where room is short.
    held: BTreeMap<Arc<str>, u64>,
}

impl Written {
    fn change(&mut self, hits: &Arc<Hits>, less: u64, more: u64) {
        let before = self.bytes;
        self.bytes = before.saturating_sub(less).saturating_add(more);
        let hits = self.hits.get_or_insert_with(|| hits.clone());
        hits.kept().pend(before, self.bytes);
    }

    /// What was written is being committed.
    pub(super) fn commit(&mut self) {
        if let Some(hits) = &self.hits {
            hits.kept().commit(self.bytes);
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(hits) = &self.hits {
            hits.kept().pend(self.bytes, 0);
        }
    }
}
