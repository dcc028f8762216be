//! State and dead letters of this host, which are in its own store; a replayed letter is a message on the server.
//!
//! What is written together with the end of a message is in `beside`.

use std::collections::HashMap;

use async_trait::async_trait;

use super::outgoing::Parcel;
use super::shared::Shared;
use super::{RabbitMqBackend, declare};
use crate::backend::table::REPLIES;
use crate::backend::{BackendError, Destination, PublishError, QueueName, again};
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone,
    ReplayTo, Store, StoreError, Versioned,
};

#[async_trait]
impl Store for RabbitMqBackend {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        self.shared.ledger.store()?.state_get(plugin, key).await
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let store = self.shared.ledger.store()?;
        store.state_keys(plugin, prefix, after, limit).await
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        self.shared.ledger.store()?.state_size(plugin).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.shared.ledger.store()?.dead_letters(limit).await
    }

    async fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let store = self.shared.ledger.store()?;
        store.letters(filter, before, limit).await
    }

    async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        self.shared.ledger.store()?.letter(id).await
    }

    async fn count_letters(&self, filter: &LetterFilter) -> Result<LetterCounts, StoreError> {
        self.shared.ledger.store()?.count_letters(filter).await
    }

    /// Messages are published, then their letters are removed: a crash in between leaves letters that were replayed.
    async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        let replayed = self.shared.replay(part, to).await;
        replayed.map_err(|error| match error {
            Trouble::Store(error) => error,
            Trouble::Broker(error) => StoreError::Unavailable(error.to_string()),
        })
    }

    async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        self.shared.ledger.store()?.purge_letters(part).await
    }
}

/// On which side something went wrong.
enum Trouble {
    Store(StoreError),
    Broker(BackendError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<BackendError> for Trouble {
    fn from(error: BackendError) -> Self {
        Self::Broker(error)
    }
}

impl Shared {
    async fn replay(&self, part: &LetterPart, to: &ReplayTo) -> Result<LettersDone, Trouble> {
        // Two at a time would replay the same.
        let _turn = self.letters.lock().await;
        let store = self.ledger.store()?;
        let (letters, next) = store.letters_of(part).await?;
        let mut done = LettersDone {
            next,
            ..LettersDone::default()
        };
        let (mut ids, mut parcels) = (Vec::new(), Vec::new());
        let mut queues = HashMap::new();
        for (id, letter) in letters {
            let parcel = match letter {
                Ok(letter) => self.parcel(&letter, to, &mut queues).await?,
                Err(error) => Err(error),
            };
            match parcel {
                Ok(parcel) => {
                    ids.push(id);
                    parcels.push(parcel);
                }
                Err(error) => done.refused.push((id, error)),
            }
        }
        let published = self.publisher.publish(&parcels).await;
        let mut gone = LetterPart {
            until: u64::MAX,
            limit: ids.len(),
            ..LetterPart::default()
        };
        for (id, published) in ids.into_iter().zip(published) {
            match published {
                Ok(_) => gone.filter.ids.push(id),
                Err(PublishError::Unroutable(topic)) => {
                    done.refused.push((id, again::nobody_waits(&topic)));
                }
                Err(error) => done.refused.push((id, error.to_string())),
            }
        }
        if !gone.filter.ids.is_empty() {
            done.done = store.purge_letters(&gone).await?.done;
        }
        Ok(done)
    }

    /// The message of a letter on its way, or why there is none.
    async fn parcel(
        &self,
        letter: &KeptLetter,
        to: &ReplayTo,
        queues: &mut HashMap<QueueName, bool>,
    ) -> Result<Result<Parcel, String>, BackendError> {
        if let Ok(queue) = letter.letter.queue.parse::<QueueName>()
            && !queues.contains_key(&queue)
        {
            let exists = declare::exists(&*self.ready().await?, &queue).await?;
            queues.insert(queue, exists);
        }
        let exists = |queue: &QueueName| queues.get(queue) == Some(&true);
        let outgoing = again::outgoing(letter, to, exists);
        Ok(outgoing.and_then(|mut outgoing| {
            let topic = &outgoing.message.topic;
            let reply = topic.as_str().starts_with(REPLIES);
            // Nobody would get it later either.
            outgoing.mandatory = reply && outgoing.to == Destination::Topic;
            Parcel::new(&outgoing).map_err(|error| error.to_string())
        }))
    }
}
