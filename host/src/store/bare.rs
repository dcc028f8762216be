//! The statements of the embedded broker without the broker: the limit that benchmarks compare it with.
//!
//! For nothing else, and no part of the interface: no queues, no receipts, one caller. The writer and its statements are
//! the very same.

use std::path::Path;
use std::sync::Arc;

use super::StoreError;
use super::sqlite::{Batch, Columns, Database, Folder, NewRow};
use crate::backend::OpenError;
use crate::message::Message;

/// A database of messages.
#[derive(Debug)]
pub struct Bare(Database);

/// What one transaction writes.
#[derive(Debug)]
pub struct Transaction(Batch);

impl Bare {
    /// Opens or creates the database of a folder that nobody else uses, with the settings of the embedded broker.
    ///
    /// # Errors
    /// [`OpenError`], as for the broker.
    pub async fn open(folder: &Path) -> Result<Self, OpenError> {
        Database::open(Folder::take(folder).await?).await.map(Self)
    }

    /// Returns when the transaction is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; the database is of no more use then.
    pub async fn write(&mut self, transaction: &Transaction) -> Result<(), StoreError> {
        Ok(self.0.apply(&transaction.0).await?)
    }

    /// The greatest number of all messages that are stored, 0 if there are none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub async fn last(&mut self) -> Result<u64, StoreError> {
        Ok(self.0.counts().await?.1)
    }

    /// Ends as the broker does.
    ///
    /// # Errors
    /// [`StoreError`] when the write-ahead log cannot be moved into the database.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.0.close().await?)
    }
}

impl Transaction {
    /// Inserts messages under numbers that are not taken, and deletes those of other numbers.
    #[must_use]
    pub fn new<'a>(
        inserts: impl IntoIterator<Item = (u64, &'a Message)>,
        deletes: Vec<u64>,
    ) -> Self {
        let inserts = inserts.into_iter().map(|(id, message)| NewRow {
            id,
            queue: 1,
            due: 0,
            at_ms: crate::clock::now_ms(),
            columns: Arc::new(Columns::new(message, None, None)),
        });
        Self(Batch {
            inserts: inserts.collect(),
            deletes,
            ..Batch::default()
        })
    }
}
