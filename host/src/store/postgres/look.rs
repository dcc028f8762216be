//! How much waits in the queues, for whoever asks, and removing it.
//!
//! What is counted is of one moment; receivers are those that the other hosts spoke of last.

use std::collections::HashMap;

use sqlx::Row;

use super::keyed::Keys;
use super::{Failure, Tx};

/// What there is of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) queue: i64,
    pub(crate) ready: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
    pub(crate) retrying: u64,
    pub(crate) parked: u64,
    /// When the oldest message was published.
    pub(crate) oldest_ms: Option<i64>,
}

impl Tx<'_> {
    /// What waits in each queue, by name. Every message is looked at.
    pub(crate) async fn waiting(&mut self) -> Result<Vec<Waiting>, Failure> {
        let sql = "SELECT q.id, m.ready + l.ready, m.flying, l.delayed, l.retrying + m.refused, p.parked,
                (date_part('epoch', least(m.oldest, l.oldest, p.oldest)) * 1000)::bigint
            FROM queues q
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE ready_at <= statement_timestamp()) AS ready,
                    count(*) FILTER (WHERE ready_at > statement_timestamp() AND fence <> 0) AS flying,
                    count(*) FILTER (WHERE ready_at > statement_timestamp() AND fence = 0) AS refused,
                    min(at) AS oldest
                FROM messages WHERE queue = q.id
            ) m
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE due <= statement_timestamp()) AS ready,
                    count(*) FILTER (WHERE due > statement_timestamp() AND attempts = 0) AS delayed,
                    count(*) FILTER (WHERE due > statement_timestamp() AND attempts > 0) AS retrying,
                    min(at) AS oldest
                FROM later WHERE queue = q.id
            ) l
            CROSS JOIN LATERAL (SELECT count(*) AS parked, min(at) AS oldest FROM parked WHERE queue = q.id) p
            WHERE q.name IS NOT NULL";
        let query = self.query(sql);
        let rows = self.rows(query).await?;
        let mut queues = Vec::with_capacity(rows.len());
        for row in &rows {
            let count = |at: usize| row.try_get::<i64, _>(at).map(i64::unsigned_abs);
            let waiting = || -> Result<Waiting, sqlx::Error> {
                Ok(Waiting {
                    queue: row.try_get(0)?,
                    ready: count(1)?,
                    in_flight: count(2)?,
                    delayed: count(3)?,
                    retrying: count(4)?,
                    parked: count(5)?,
                    oldest_ms: row.try_get(6)?,
                })
            };
            queues.push(self.read(waiting())?);
        }
        Ok(queues)
    }

    /// How many receivers of all other hosts waited when they last said so, by the number of the queue.
    pub(crate) async fn receivers(&mut self, host: &str) -> Result<HashMap<i64, u64>, Failure> {
        let sql = "SELECT r.key::bigint, sum(r.value::bigint)::bigint \
                   FROM hosts h CROSS JOIN LATERAL json_each_text(h.receivers::json) AS r (key, value) \
                   WHERE h.until > statement_timestamp() AND h.id <> $1 GROUP BY 1";
        let query = self.query(sql).bind(host);
        let mut receivers = HashMap::new();
        for row in self.rows(query).await? {
            let count: i64 = self.read(row.try_get(1))?;
            receivers.insert(self.read(row.try_get(0))?, count.unsigned_abs());
        }
        Ok(receivers)
    }

    /// The greatest number that a message has had so far.
    pub(crate) async fn last_message(&mut self) -> Result<i64, Failure> {
        let query = self.query("SELECT last_value FROM message_ids");
        self.one(query).await
    }

    /// Removes up to `most` messages of each kind up to a number that wait in a queue; how many. What is in flight stays.
    pub(crate) async fn purge_queue(
        &mut self,
        queue: i64,
        until: i64,
        most: i64,
    ) -> Result<u64, Failure> {
        // Whoever holds a key is about to go, and somebody else gets its turn.
        self.lock_all_keys(queue).await?;
        let (mut gone, mut keys) = (0, Keys::default());
        for sql in [
            "DELETE FROM parked WHERE queue = $1 AND (key, id) IN
                (SELECT key, id FROM parked WHERE queue = $1 AND id <= $2 LIMIT $3) RETURNING NULL::bytea",
            "WITH gone AS MATERIALIZED (
                SELECT due, id FROM later WHERE queue = $1 AND id <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED
            )
            DELETE FROM later l USING gone g WHERE l.due = g.due AND l.id = g.id RETURNING l.key",
            "WITH gone AS MATERIALIZED (
                SELECT id FROM messages WHERE queue = $1 AND id <= $2
                    AND (ready_at <= statement_timestamp() OR fence = 0)
                ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
            )
            DELETE FROM messages m USING gone g WHERE m.queue = $1 AND m.id = g.id RETURNING m.key",
        ] {
            let query = self.query(sql).bind(queue).bind(until).bind(most);
            let rows = self.rows(query).await?;
            gone += rows.len() as u64;
            for row in &rows {
                if let Some(key) = self.read(row.try_get::<Option<&[u8]>, _>(0))? {
                    keys.add(queue, key);
                }
            }
        }
        if !keys.is_empty() {
            self.promote(&keys).await?;
        }
        Ok(gone)
    }
}
