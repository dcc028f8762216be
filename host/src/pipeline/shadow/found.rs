//! The state of a plugin as the live version found it, for the version that gets a copy.
//!
//! Only read: what is written stays in the call that wrote it, and is dropped with it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{DeadLetter, Journal, Step, Store, StoreError, Versioned};

/// Answers with what the live version got; what it did not ask is answered as it is now.
#[derive(Debug)]
pub(super) struct Found {
    steps: Vec<Step>,
    now: Arc<dyn Store>,
}

impl Found {
    pub(super) fn new(journal: &Journal, now: Arc<dyn Store>) -> Self {
        let steps = journal.steps.clone();
        Self { steps, now }
    }
}

#[async_trait]
impl Store for Found {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        for step in &self.steps {
            if let Step::Read { key: read, value } = step
                && read == key
            {
                let value = value.as_ref().map(|value| Bytes::from(value.0.clone()));
                return Ok(Versioned { value, version: 0 });
            }
        }
        self.now.state_get(plugin, key).await
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        for step in &self.steps {
            if let Step::Listed {
                prefix: of,
                after: from,
                keys,
            } = step
                && of == prefix
                && from.as_deref() == after
            {
                return Ok(keys.clone());
            }
        }
        self.now.state_keys(plugin, prefix, after, limit).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.now.dead_letters(limit).await
    }
}
