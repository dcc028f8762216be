//! One transaction with everything that waits: messages, settlements, state and dead letters.
//!
//! It is all or nothing, and it does not know why.

use std::sync::Arc;

use bytes::Bytes;

use super::row::{Columns, history_column};
use super::{Database, Failure};
use crate::store::{History, KeptLetter};

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) inserts: Vec<NewRow>,
    pub(crate) deletes: Vec<u64>,
    pub(crate) retries: Vec<RetryRow>,
    /// The last write of a key is the one that counts.
    pub(crate) state: Vec<StateRow>,
    pub(crate) dead: Vec<KeptLetter>,
    /// Dead letters that are none any more.
    pub(crate) undead: Vec<u64>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty()
            && self.deletes.is_empty()
            && self.retries.is_empty()
            && self.state.is_empty()
            && self.dead.is_empty()
            && self.undead.is_empty()
    }

    /// Whether one statement writes all of it, which then is a transaction by itself.
    fn is_one_statement(&self) -> bool {
        let rest = self.retries.len() + self.state.len() + self.dead.len() + self.undead.len();
        rest == 0 && (self.inserts.is_empty() || self.inserts.len() == 1 && self.deletes.is_empty())
    }
}

/// A new message in a queue (0: kept in its topic).
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) id: u64,
    pub(crate) queue: i64,
    pub(crate) due: i64,
    pub(crate) at_ms: i64,
    pub(crate) columns: Arc<Columns>,
}

/// A message that is to be delivered again.
#[derive(Debug, Clone)]
pub(crate) struct RetryRow {
    pub(crate) id: u64,
    pub(crate) due: i64,
    pub(crate) attempts: u32,
    pub(crate) history: Arc<History>,
}

/// A new value, or none.
#[derive(Debug, Clone)]
pub(crate) struct StateRow {
    pub(crate) plugin: Arc<str>,
    pub(crate) key: Arc<str>,
    pub(crate) value: Option<Bytes>,
}

impl Database {
    /// Writes a batch. After an error nothing of it was written, and [`Database::recover`] must be called.
    pub(crate) async fn apply(&mut self, batch: &Batch) -> Result<(), Failure> {
        match self.try_apply(batch).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn try_apply(&mut self, batch: &Batch) -> Result<(), sqlx::Error> {
        let connection = &mut self.connection;
        // A statement more is two changes of threads more.
        let alone = batch.is_one_statement();
        if !alone {
            sqlx::query("BEGIN IMMEDIATE")
                .execute(&mut *connection)
                .await?;
        }
        let bind = |query: super::bulk::Binding, row: &NewRow| {
            let columns = &row.columns;
            query
                .bind(row.id.cast_signed())
                .bind(row.queue)
                .bind(row.due)
                .bind(row.at_ms)
                .bind(columns.topic.as_str().to_owned())
                .bind(columns.key.as_deref().map(str::to_owned))
                .bind(columns.meta.clone())
                .bind(columns.body.to_vec())
        };
        self.bulks
            .messages
            .write(connection, &batch.inserts, bind)
            .await?;
        if !batch.deletes.is_empty() {
            sqlx::query("DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))")
                .bind(list(batch.deletes.iter().map(u64::to_string)))
                .execute(&mut *connection)
                .await?;
        }
        if !batch.retries.is_empty() {
            let rows = batch.retries.iter().map(|row| {
                let history = history_column(&row.history);
                format!("[{},{},{},{history}]", row.id, row.due, row.attempts)
            });
            sqlx::query(
                "UPDATE messages SET due = value ->> 1, attempts = value ->> 2, history = value -> 3 \
                 FROM json_each(?) WHERE messages.id = value ->> 0",
            )
            .bind(list(rows))
            .execute(&mut *connection)
            .await?;
        }
        if !batch.state.is_empty() {
            self.bulks.write_state(connection, &batch.state).await?;
        }
        if !batch.dead.is_empty() {
            self.bulks.write_dead(connection, &batch.dead).await?;
        }
        if !batch.undead.is_empty() {
            sqlx::query("DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))")
                .bind(list(batch.undead.iter().map(u64::to_string)))
                .execute(&mut *connection)
                .await?;
        }
        if !alone {
            sqlx::query("COMMIT").execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// A JSON list.
fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for item in items {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&item);
    }
    text.push(']');
    text
}
