//! The statements of the postgres broker without the broker: the limit that benchmarks compare it with.
//!
//! For nothing else, and no part of the interface: no receipts, no leases, one caller for each connection. Transactions
//! and statements are the very same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Columns, Failure, Hold, Kind, NewRow, Place, Session, StateKey, StateRow, Wanted};
use crate::backend::{OpenError, QueueSpec};
use crate::message::Message;
use crate::store::StoreError;

/// Whose values are written.
const PLUGIN: &str = "bare";

/// A connection.
#[derive(Debug)]
pub struct Bare {
    session: Session,
    fence: i64,
}

/// A message that was claimed.
#[derive(Debug)]
pub struct BareDelivery {
    /// The message.
    pub message: Message,
    hold: Hold,
}

impl Bare {
    /// Connects to a schema that nobody else uses, and makes it.
    ///
    /// # Errors
    /// [`OpenError`], as for the broker.
    pub async fn open(url: &str, schema: &str) -> Result<Self, OpenError> {
        let place = Place::new(url, schema, false, Duration::from_secs(60))?;
        let session = Session::recorded(Arc::new(place), "");
        session.migrate().await?;
        Ok(Self { session, fence: 0 })
    }

    /// Adds a queue; its number.
    ///
    /// # Errors
    /// [`StoreError`] when that fails.
    pub async fn queue(&mut self, spec: &QueueSpec) -> Result<i64, StoreError> {
        let mut tx = self.session.begin(Kind::Change).await?;
        let (id, _) = tx.put_queue(spec, "").await?;
        tx.commit().await.map_err(Failure::from)?;
        Ok(id)
    }

    /// Publishes messages.
    ///
    /// # Errors
    /// [`StoreError`] when that fails.
    pub async fn publish<'a>(
        &mut self,
        queue: i64,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), StoreError> {
        self.settle(&[], queue, messages).await
    }

    /// Claims messages.
    ///
    /// # Errors
    /// [`StoreError`] when that fails.
    pub async fn claim(
        &mut self,
        queue: i64,
        most: usize,
    ) -> Result<Vec<BareDelivery>, StoreError> {
        self.fence += 1;
        let fence = self.fence;
        let wanted = Wanted {
            queue,
            first: 0,
            most: i64::try_from(most).unwrap_or(i64::MAX),
            lease_ms: 30_000,
            fence,
        };
        let mut tx = self.session.begin(Kind::Fast).await?;
        let claimed = tx.claim(&[wanted]).await?;
        tx.commit().await.map_err(Failure::from)?;
        let delivery = |one: super::Claimed| BareDelivery {
            hold: Hold {
                queue: one.queue,
                id: one.id.cast_signed(),
                fence,
            },
            message: one.message,
        };
        Ok(claimed.into_iter().map(delivery).collect())
    }

    /// Removes messages that were claimed and publishes others in the same transaction.
    ///
    /// # Errors
    /// [`StoreError`] when that fails.
    pub async fn settle<'a>(
        &mut self,
        done: &[BareDelivery],
        queue: i64,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), StoreError> {
        self.settle_with(done, queue, messages, &[]).await
    }

    /// The same, and writes values of a plugin that had none, which is looked up before and in the transaction.
    ///
    /// # Errors
    /// [`StoreError`] when that fails, or a key has a value.
    pub async fn settle_with<'a>(
        &mut self,
        done: &[BareDelivery],
        queue: i64,
        messages: impl IntoIterator<Item = &'a Message>,
        state: &[(Arc<str>, Bytes)],
    ) -> Result<(), StoreError> {
        let row = |message| NewRow {
            queue,
            delay_ms: 0,
            columns: Arc::new(Columns::new(message, None, None)),
        };
        let rows: Vec<NewRow> = messages.into_iter().map(row).collect();
        let plugin: Arc<str> = Arc::from(PLUGIN);
        let keys = state.iter().map(|(key, _)| (plugin.clone(), key.clone()));
        let keys: Vec<StateKey> = keys.collect();
        if !keys.is_empty() {
            let mut tx = self.session.begin(Kind::Read).await?;
            let values = tx.values(&keys).await?;
            tx.end().await;
            absent(values.len())?;
        }
        let mut tx = self.session.begin(Kind::Write).await?;
        if !keys.is_empty() {
            tx.lock_state(&[PLUGIN]).await?;
            absent(tx.versions(&keys).await?.len())?;
        }
        if !done.is_empty() {
            let holds: Vec<Hold> = done.iter().map(|one| one.hold).collect();
            tx.finish(&holds).await?;
        }
        if !rows.is_empty() {
            tx.insert(&rows.iter().collect::<Vec<_>>()).await?;
        }
        if !keys.is_empty() {
            let values = state.iter().map(|(_, value)| value.clone());
            let row = |(key, value)| StateRow {
                key,
                version: 1,
                value: Some(value),
            };
            let rows: Vec<StateRow> = keys.into_iter().zip(values).map(row).collect();
            tx.add_state(&rows.iter().collect::<Vec<_>>()).await?;
        }
        Ok(tx.commit().await.map_err(Failure::from)?)
    }
}

fn absent(found: usize) -> Result<(), StoreError> {
    match found {
        0 => Ok(()),
        _ => Err(StoreError::Corrupt(format!("{found} keys have a value"))),
    }
}
