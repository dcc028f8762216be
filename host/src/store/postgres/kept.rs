//! Messages without a queue: kept in their topic, moved to the first queue that is bound to it, forgotten after a time.
//!
//! How many may be kept is decided by whoever publishes.

use std::time::Duration;

use sqlx::Row;

use super::keyed::Keys;
use super::{Failure, Tx};
use crate::topic::{Pattern, TopicName};

/// Messages that one statement moves.
const CHUNK: i64 = 50_000;

impl Tx<'_> {
    /// Moves what the topics of a queue have kept into it, in its order; how much that was.
    pub(crate) async fn take_kept(
        &mut self,
        queue: i64,
        patterns: &[Pattern],
    ) -> Result<u64, Failure> {
        let selected = |topic: &String| match topic.parse::<TopicName>() {
            Ok(topic) => patterns.iter().any(|pattern| pattern.matches(&topic)),
            Err(_) => false,
        };
        let mut topics = self.kept_topics().await?;
        topics.retain(selected);
        if topics.is_empty() {
            return Ok(0);
        }
        let (mut moved, mut keys) = (0, Keys::default());
        loop {
            let (more, of) = self.take_some(queue, &topics).await?;
            if more == 0 {
                break;
            }
            moved += more;
            of.iter().for_each(|key| keys.add(queue, key));
        }
        if !keys.is_empty() {
            self.promote(&keys).await?;
        }
        Ok(moved)
    }

    async fn take_some(
        &mut self,
        queue: i64,
        topics: &[String],
    ) -> Result<(u64, Vec<Vec<u8>>), Failure> {
        let sql = "WITH next AS MATERIALIZED (
                SELECT ctid AS place FROM kept WHERE topic = ANY ($2) ORDER BY id LIMIT $3
            ), gone AS (
                DELETE FROM kept k USING next n WHERE k.ctid = n.place RETURNING k.*
            ), named AS MATERIALIZED (
                SELECT nextval('message_ids') AS number, g.* FROM (SELECT * FROM gone ORDER BY id) g
            ), entered AS (
                INSERT INTO messages (queue, id, ready_at, at, fence, attempts, topic, meta, body)
                SELECT $1, number, '-infinity', at, 0, 0, topic, meta, body FROM named
                WHERE key IS NULL AND due <= statement_timestamp()
            ), behind AS (
                INSERT INTO parked (queue, key, id, at, topic, meta, body)
                SELECT $1, key, number, at, topic, meta, body FROM named
                WHERE key IS NOT NULL AND due <= statement_timestamp() RETURNING key
            ), delayed AS (
                INSERT INTO later (due, id, queue, at, attempts, topic, key, meta, body)
                SELECT due, number, $1, at, 0, topic, key, meta, body FROM named
                WHERE due > statement_timestamp()
            )
            SELECT (SELECT count(*) FROM named), (SELECT array_agg(DISTINCT key) FROM behind)";
        let query = self.query(sql).bind(queue).bind(topics).bind(CHUNK);
        let rows = self.rows(query).await?;
        let Some(row) = rows.first() else {
            return Ok((0, Vec::new()));
        };
        let count: i64 = self.read(row.try_get(0))?;
        let keys: Option<Vec<Vec<u8>>> = self.read(row.try_get(1))?;
        Ok((count.unsigned_abs(), keys.unwrap_or_default()))
    }

    /// The topics in which something is kept, found by one look into the index for each.
    async fn kept_topics(&mut self) -> Result<Vec<String>, Failure> {
        let sql = "WITH RECURSIVE found (topic) AS (
                (SELECT topic FROM kept ORDER BY topic LIMIT 1)
                UNION ALL
                SELECT (SELECT k.topic FROM kept k WHERE k.topic > found.topic ORDER BY k.topic LIMIT 1)
                FROM found WHERE found.topic IS NOT NULL
            )
            SELECT topic FROM found WHERE topic IS NOT NULL";
        let query = self.query(sql);
        let rows = self.rows(query).await?;
        let topics: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        self.read(topics)
    }

    /// Forgets what a topic kept.
    pub(crate) async fn delete_topic(&mut self, topic: &TopicName) -> Result<(), Failure> {
        let query = self.query("DELETE FROM kept WHERE topic = $1");
        self.execute(query.bind(topic.as_str())).await.map(drop)
    }

    /// Forgets what was kept for so long.
    pub(crate) async fn forget_kept(&mut self, time: Duration) -> Result<u64, Failure> {
        let sql = "DELETE FROM kept WHERE at < statement_timestamp() - $1 * interval '1 second'";
        let query = self.query(sql).bind(time.as_secs_f64().min(1e10));
        self.execute(query).await
    }

    /// How many messages are kept; beyond `most` nobody counts.
    pub(crate) async fn count_kept(&mut self, most: i64) -> Result<u64, Failure> {
        let query = self.query("SELECT count(*) FROM (SELECT FROM kept LIMIT $1) few");
        let count: i64 = self.one(query.bind(most)).await?;
        Ok(count.unsigned_abs())
    }
}
