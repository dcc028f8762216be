//! The state of a plugin as another attempt found it: the one that failed, or that of the live version.
//!
//! Only read: what is written stays in the call that wrote it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{DeadLetter, Journal, Step, Store, StoreError, Versioned};

/// Answers with what was recorded; what was not asked then is answered with what is there now.
#[derive(Debug)]
pub(crate) struct Recorded {
    steps: Vec<Step>,
    now: Arc<dyn Store>,
}

impl Recorded {
    pub(crate) fn new(journal: &Journal, now: Arc<dyn Store>) -> Self {
        let steps = journal.steps.iter();
        let answers = |step: &&Step| matches!(step, Step::Read { .. } | Step::Listed { .. });
        Self {
            steps: steps.filter(answers).cloned().collect(),
            now,
        }
    }
}

#[async_trait]
impl Store for Recorded {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        let recorded = self.steps.iter().find_map(|step| match step {
            Step::Read { key: read, value } if read == key => Some(value),
            _ => None,
        });
        match recorded {
            // Nothing is committed, so that no version is ever compared with it.
            Some(value) => Ok(Versioned {
                value: value.as_ref().map(|value| Bytes::from(value.0.clone())),
                version: 0,
            }),
            None => self.now.state_get(plugin, key).await,
        }
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let recorded = self.steps.iter().find_map(|step| match step {
            Step::Listed {
                prefix: of,
                after: from,
                keys,
            } if of == prefix && from.as_deref() == after => Some(keys.clone()),
            _ => None,
        });
        match recorded {
            Some(keys) => Ok(keys),
            None => self.now.state_keys(plugin, prefix, after, limit).await,
        }
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        self.now.state_size(plugin).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.now.dead_letters(limit).await
    }
}
