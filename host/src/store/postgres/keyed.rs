//! Keys: of the messages of one key in a queue at most one is in `messages`, or waits in `later` for another attempt;
//! the others are parked in the order of their numbers.
//!
//! Who changes which message of a key has the turn holds the lock of that key until the commit, on whichever host.

use super::session::Statement;
use super::{Failure, First, Tx};

/// Keys of queues as columns.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keys {
    queues: Vec<i64>,
    keys: Vec<Vec<u8>>,
}

impl Keys {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Binds both columns, one after the other.
    pub(super) fn bind<'s>(&self, query: Statement<'s>) -> Statement<'s> {
        query.bind(&self.queues).bind(&self.keys)
    }

    pub(crate) fn add(&mut self, queue: i64, key: &[u8]) {
        self.queues.push(queue);
        self.keys.push(key.to_vec());
    }
}

impl Tx<'_> {
    /// Takes the locks of keys, always in the same order. There are 64 for each queue, for the server has room for some
    /// thousands only.
    pub(crate) async fn lock_keys(&mut self, keys: &Keys) -> Result<(), Failure> {
        let sql = "SELECT count(pg_advisory_xact_lock(hashtextextended(current_schema() || ':key', lock))) FROM (
                SELECT DISTINCT queue * 64 + (hashtextextended(encode(key, 'hex'), queue) & 63) AS lock
                FROM unnest($1::bigint[], $2::bytea[]) AS k (queue, key) ORDER BY 1
            ) locks";
        let query = keys.bind(self.query(sql));
        self.one::<i64>(query).await.map(drop)
    }

    /// Takes the locks of all keys of a queue.
    pub(crate) async fn lock_all_keys(&mut self, queue: i64) -> Result<(), Failure> {
        let sql = "SELECT count(pg_advisory_xact_lock(hashtextextended(current_schema() || ':key', lock))) FROM (
                SELECT $1::bigint * 64 + place AS lock FROM generate_series(0, 63) AS s (place) ORDER BY 1
            ) locks";
        let query = self.query(sql).bind(queue);
        self.one::<i64>(query).await.map(drop)
    }

    /// Gives the turn to the first parked message of each key of which no other message has it.
    pub(crate) async fn promote(&mut self, keys: &Keys) -> Result<Vec<First>, Failure> {
        let sql = "WITH keys AS (
                SELECT DISTINCT queue, key FROM unnest($1::bigint[], $2::bytea[]) AS k (queue, key)
            ), next AS MATERIALIZED (
                SELECT p.place FROM keys k CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM parked WHERE queue = k.queue AND key = k.key ORDER BY id LIMIT 1
                ) p
                WHERE (SELECT true FROM messages m WHERE m.queue = k.queue AND m.key = k.key LIMIT 1) IS NULL
                    AND (
                        SELECT true FROM later l WHERE l.queue = k.queue AND l.key = k.key AND l.attempts > 0 LIMIT 1
                    ) IS NULL
            ), gone AS (
                DELETE FROM parked p USING next n WHERE p.ctid = n.place RETURNING p.*
            ), entered AS (
                INSERT INTO messages (queue, id, ready_at, at, fence, attempts, topic, key, meta, body)
                SELECT queue, id, '-infinity', at, 0, 0, topic, key, meta, body FROM gone RETURNING queue, id
            )
            SELECT queue, min(id) FROM entered GROUP BY queue";
        let query = keys.bind(self.query(sql));
        self.firsts(query).await
    }
}
