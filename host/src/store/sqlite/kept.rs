//! Messages without a queue: kept in their topic, moved to the first queue that is bound to it, forgotten after a time.
//!
//! How many may be kept is decided by whoever publishes.

use sqlx::Row;

use super::{Database, Failure};
use crate::backend::QueueSpec;
use crate::topic::TopicName;

/// What declaring a queue did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared {
    pub(crate) id: i64,
    pub(crate) dead_letter: Option<i64>,
    /// How many kept messages are in the queue now.
    pub(crate) moved: u64,
}

impl Database {
    /// Declares a queue, and its dead-letter queue if that one is given; moves kept messages of its topics into it, in
    /// their order. They get numbers from `first` on, which nobody else uses; those due until `now` are due at once.
    pub(crate) async fn declare(
        &mut self,
        spec: &QueueSpec,
        dead_letter: Option<&QueueSpec>,
        first: Option<u64>,
        now: i64,
    ) -> Result<Declared, Failure> {
        self.execute("BEGIN IMMEDIATE").await?;
        let dead_letter = match dead_letter {
            Some(spec) => Some(self.put_queue(spec).await?),
            None => None,
        };
        let id = self.put_queue(spec).await?;
        let mut moved = 0;
        if let Some(first) = first {
            let topics = self.kept_topics().await?;
            let topics: Vec<String> = topics
                .into_iter()
                .filter(|topic| match topic.parse::<TopicName>() {
                    Ok(topic) => spec.topics.iter().any(|pattern| pattern.matches(&topic)),
                    Err(_) => false,
                })
                .collect();
            if !topics.is_empty() {
                moved = self.take_kept(id, &topics, first, now).await?;
            }
        }
        self.execute("COMMIT").await?;
        Ok(Declared {
            id,
            dead_letter,
            moved,
        })
    }

    /// The topics in which something is kept, found by one look into the index for each.
    async fn kept_topics(&mut self) -> Result<Vec<String>, Failure> {
        let sql = "WITH RECURSIVE kept (topic) AS (
                       SELECT min(topic) FROM messages WHERE queue = 0
                       UNION ALL
                       SELECT (SELECT min(topic) FROM messages WHERE queue = 0 AND topic > kept.topic)
                       FROM kept WHERE kept.topic IS NOT NULL
                   )
                   SELECT topic FROM kept WHERE topic IS NOT NULL";
        let topics = sqlx::query_scalar(sql)
            .fetch_all(&mut self.connection)
            .await;
        topics.map_err(|error| self.failure(&error))
    }

    async fn take_kept(
        &mut self,
        queue: i64,
        topics: &[String],
        first: u64,
        now: i64,
    ) -> Result<u64, Failure> {
        let topics = serde_json::to_string(topics).unwrap_or_default();
        let copy = sqlx::query(
            "INSERT INTO messages (id, queue, due, attempts, at, topic, key, meta, body)
             SELECT ? + row_number() OVER (ORDER BY id) - 1, ?, iif(due <= ?, 0, due),
                    attempts, at, topic, key, meta, body
             FROM messages WHERE queue = 0 AND topic IN (SELECT value FROM json_each(?))",
        );
        let copy = copy
            .bind(first.cast_signed())
            .bind(queue)
            .bind(now)
            .bind(topics.clone());
        let copied = copy
            .execute(&mut self.connection)
            .await
            .map_err(|error| self.failure(&error))?;
        self.drop_kept(topics).await?;
        Ok(copied.rows_affected())
    }

    async fn drop_kept(&mut self, topics: String) -> Result<(), Failure> {
        let sql =
            "DELETE FROM messages WHERE queue = 0 AND topic IN (SELECT value FROM json_each(?))";
        let dropped = sqlx::query(sql)
            .bind(topics)
            .execute(&mut self.connection)
            .await;
        dropped.map(|_| ()).map_err(|error| self.failure(&error))
    }

    /// Forgets what a topic kept.
    pub(crate) async fn delete_topic(&mut self, topic: &TopicName) -> Result<(), Failure> {
        let topics = serde_json::to_string(&[topic.as_str()]).unwrap_or_default();
        self.drop_kept(topics).await
    }

    /// Forgets what was published before a moment and kept ever since.
    pub(crate) async fn forget_kept(&mut self, before: i64) -> Result<u64, Failure> {
        let sql = "DELETE FROM messages WHERE queue = 0 AND at < ?";
        let done = sqlx::query(sql)
            .bind(before)
            .execute(&mut self.connection)
            .await;
        done.map(|done| done.rows_affected())
            .map_err(|error| self.failure(&error))
    }

    /// How many messages are kept, and the greatest number of any message.
    pub(crate) async fn counts(&mut self) -> Result<(u64, u64), Failure> {
        let sql = "SELECT (SELECT count(*) FROM messages WHERE queue = 0), (SELECT max(id) FROM messages)";
        let row = self.fetch_one(sql).await?;
        let counts = || -> Result<(i64, Option<i64>), sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?))
        };
        let (kept, last) = counts().map_err(|error| self.failure(&error))?;
        Ok((kept.cast_unsigned(), last.unwrap_or(0).cast_unsigned()))
    }
}
