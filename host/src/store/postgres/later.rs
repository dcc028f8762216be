//! Messages whose time comes: found by when they are due, moved to those that are ready.
//!
//! Any host does it for all of them; what one is at is left to it by the others.

use std::time::Duration;

use sqlx::Row;

use super::keyed::Keys;
use super::{Failure, First, Tx};

impl Tx<'_> {
    /// How long until the next message is due; `None`: there is none.
    pub(crate) async fn next_due(&mut self) -> Result<Option<Duration>, Failure> {
        let sql = "SELECT extract(epoch FROM min(due) - statement_timestamp())::float8 FROM later";
        let query = self.query(sql);
        let seconds: Option<f64> = self.one(query).await?;
        Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
    }

    /// Moves what is due, some of it at a time: what has no key or holds it becomes ready, the rest stands behind the
    /// others of its key.
    pub(crate) async fn move_due(&mut self, most: i64) -> Result<Vec<First>, Failure> {
        let sql = "SELECT DISTINCT queue, key FROM (
                SELECT queue, key, attempts FROM later WHERE due <= statement_timestamp() ORDER BY due, id LIMIT $1
            ) l WHERE key IS NOT NULL AND attempts = 0";
        let query = self.query(sql).bind(most);
        let rows = self.rows(query).await?;
        let mut keys = Keys::default();
        for row in &rows {
            let key: Vec<u8> = self.read(row.try_get(1))?;
            keys.add(self.read(row.try_get(0))?, &key);
        }
        let sql = "WITH due AS MATERIALIZED (
                SELECT ctid AS place FROM later
                WHERE due <= statement_timestamp() AND (key IS NULL OR attempts > 0)
                ORDER BY due, id LIMIT $1 FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM later l USING due d WHERE l.ctid = d.place RETURNING l.*
            ), entered AS (
                INSERT INTO messages (queue, id, ready_at, at, fence, attempts, topic, key, meta, body, history)
                SELECT queue, id, '-infinity', at, 0, attempts, topic, key, meta, body, history FROM gone
                RETURNING queue, id
            )
            SELECT queue, min(id) FROM entered GROUP BY queue";
        if keys.is_empty() {
            let query = self.query(sql).bind(most);
            return self.firsts(query).await;
        }
        self.lock_keys(&keys).await?;
        let query = self.query(sql).bind(most);
        let mut firsts = self.firsts(query).await?;
        let sql = "WITH due AS MATERIALIZED (
                SELECT l.place FROM unnest($2::bigint[], $3::bytea[]) AS k (queue, key) CROSS JOIN LATERAL (
                    SELECT ctid AS place, due, id FROM later WHERE queue = k.queue AND key = k.key AND attempts = 0
                    OFFSET 0 FOR UPDATE SKIP LOCKED
                ) l
                WHERE l.due <= statement_timestamp() ORDER BY l.due, l.id LIMIT $1
            ), gone AS (
                DELETE FROM later l USING due d WHERE l.ctid = d.place RETURNING l.*
            )
            INSERT INTO parked (queue, key, id, at, topic, meta, body)
            SELECT queue, key, id, at, topic, meta, body FROM gone";
        let query = keys.bind(self.query(sql).bind(most));
        self.execute(query).await?;
        firsts.extend(self.promote(&keys).await?);
        Ok(firsts)
    }
}
