//! How much waits in the queues, for whoever asks, and removing it.
//!
//! What is in flight is known in memory alone.

use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Database, Due, Failure, Reader, place};

/// What the database has of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Everything, what is in flight included.
    pub(crate) all: u64,
    /// Not due yet, and never tried.
    pub(crate) delayed: u64,
    /// Not due yet, and tried before.
    pub(crate) retrying: u64,
    /// When the oldest message was published.
    pub(crate) oldest_ms: Option<i64>,
}

impl Reader {
    /// What waits in a queue. Counts by the indexes; of what is due later every row is looked at.
    pub(crate) async fn waiting(&mut self, queue: i64, now: i64) -> Result<Waiting, Failure> {
        let ready = "SELECT count(*), (SELECT at FROM messages WHERE queue = ?1 AND queue <> 0 AND due = 0 \
                     ORDER BY id LIMIT 1) \
                     FROM messages WHERE queue = ?1 AND queue <> 0 AND due = 0";
        let ready = sqlx::query(ready).bind(queue);
        let ready = ready.fetch_one(&mut self.connection).await;
        let ready = ready.map_err(|error| self.failure(&error))?;
        let later = "SELECT count(*), min(at), \
                     coalesce(sum(due > ?2 AND attempts = 0), 0), coalesce(sum(due > ?2 AND attempts > 0), 0) \
                     FROM messages WHERE queue = ?1 AND queue <> 0 AND due > 0";
        let later = sqlx::query(later).bind(queue).bind(now);
        let later = later.fetch_one(&mut self.connection).await;
        let later = later.map_err(|error| self.failure(&error))?;
        read(&ready, &later).map_err(|error| self.failure(&error))
    }

    /// How many messages wait in topics without a queue.
    pub(crate) async fn kept(&mut self) -> Result<u64, Failure> {
        let sql = "SELECT count(*) FROM messages WHERE queue = 0";
        let kept = sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&mut self.connection)
            .await;
        kept.map(i64::cast_unsigned)
            .map_err(|error| self.failure(&error))
    }
}

fn read(ready: &SqliteRow, later: &SqliteRow) -> Result<Waiting, sqlx::Error> {
    let count = |row: &SqliteRow, at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned);
    let oldest: [Option<i64>; 2] = [ready.try_get(1)?, later.try_get(1)?];
    Ok(Waiting {
        all: count(ready, 0)? + count(later, 0)?,
        delayed: count(later, 2)?,
        retrying: count(later, 3)?,
        oldest_ms: oldest.into_iter().flatten().min(),
    })
}

/// What is to leave a queue: some messages by their numbers, and those that are only in the database.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) queue: i64,
    pub(crate) ids: Vec<u64>,
    /// Of those that are ready, the ones with greater numbers; `None`: none.
    pub(crate) ready_after: Option<u64>,
    /// Of those that are due later, the ones behind this place.
    pub(crate) due_after: Due,
}

impl Database {
    /// Deletes messages of a queue; how many, and those of the ones behind a place in it that have a key.
    pub(crate) async fn purge(
        &mut self,
        gone: &Gone,
    ) -> Result<(u64, Vec<(u64, Arc<str>)>), Failure> {
        self.execute("BEGIN IMMEDIATE").await?;
        let purged = self.delete(gone).await;
        let purged = purged.map_err(|error| self.failure(&error))?;
        self.execute("COMMIT").await?;
        Ok(purged)
    }

    async fn delete(&mut self, gone: &Gone) -> Result<(u64, Vec<(u64, Arc<str>)>), sqlx::Error> {
        let mut count = 0;
        let ids = serde_json::to_string(&gone.ids).unwrap_or_default();
        let listed = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))";
        let done = sqlx::query(listed).bind(ids);
        count += done.execute(&mut self.connection).await?.rows_affected();
        if let Some(after) = gone.ready_after {
            let ready =
                "DELETE FROM messages WHERE queue = ? AND queue <> 0 AND due = 0 AND id > ?";
            let done = sqlx::query(ready)
                .bind(gone.queue)
                .bind(after.cast_signed());
            count += done.execute(&mut self.connection).await?.rows_affected();
        }
        let later = "DELETE FROM messages WHERE queue = ? AND queue <> 0 AND due > 0 AND (due, id) > (?, ?) \
                     RETURNING id, key";
        let rows = sqlx::query(later)
            .bind(gone.queue)
            .bind(gone.due_after.0)
            .bind(gone.due_after.1.cast_signed());
        let mut rows = rows.fetch(&mut self.connection);
        let mut keys = Vec::new();
        while let Some(row) = rows.try_next().await? {
            count += 1;
            if let Some(key) = row.try_get::<Option<String>, _>(1)? {
                keys.push((row.try_get::<i64, _>(0)?.cast_unsigned(), key.into()));
            }
        }
        Ok((count, keys))
    }

    /// Writes a little, to see whether it can.
    pub(crate) async fn probe(&mut self) -> Result<(), Failure> {
        place::try_writing(self.folder.path()).await?;
        self.execute(super::SET_SCHEMA).await
    }
}
