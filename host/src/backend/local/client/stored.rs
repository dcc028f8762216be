//! The store of the owner: plugin state and dead letters.

use async_trait::async_trait;

use super::super::answer::Answer;
use super::super::connection::Unsent;
use super::super::protocol::Call;
use super::LocalBackend;
use crate::store::{DeadLetter, Store, StoreError, Versioned};

impl LocalBackend {
    async fn look(&self, call: Call<'_>) -> Result<Answer, StoreError> {
        let _share = self.requests.share(0).await;
        let ticket = self.connection.ask(call).map_err(|unsent| match unsent {
            Unsent::Lost(lost) => lost.into(),
            Unsent::TooLong(error) => StoreError::Unavailable(error.to_string()),
        })?;
        Ok(ticket.wait().await?)
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
}

fn number(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
