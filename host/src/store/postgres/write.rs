//! Messages come and go: many rows in one statement each, in the transaction of whoever decided so.
//!
//! What depends on keys and on time has files of its own.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::claim::{Hold, Holds};
use super::session::Statement;
use super::{Columns, Failure, Tx};
use crate::store::History;
use crate::store::row::history_column;

/// A longer delay is as good as this one, and moments don't overflow: a hundred years.
const LONGEST_MS: i64 = 100 * 366 * 24 * 60 * 60 * 1000;

/// A message whose lease was extended between the beginning of a statement and its turn has another place by then, and is
/// found by the next statement. Leases are extended every few seconds at most, so twice is enough.
pub(super) const LOOKS: usize = 2;

/// A new message in a queue (0: kept in its topic).
#[derive(Debug, Clone)]
pub(crate) struct NewRow {
    pub(crate) queue: i64,
    pub(crate) delay_ms: i64,
    pub(crate) columns: Arc<Columns>,
}

/// A delivery whose message is to be delivered again.
#[derive(Debug, Clone)]
pub(crate) struct RetryRow {
    pub(crate) hold: Hold,
    pub(crate) after_ms: i64,
    /// The attempts so far.
    pub(crate) history: History,
}

/// The least number of those messages of a queue that became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) queue: i64,
    pub(crate) id: i64,
}

/// New messages as columns.
#[derive(Debug, Default)]
struct Rows<'a> {
    queues: Vec<i64>,
    delays: Vec<i64>,
    topics: Vec<&'a str>,
    keys: Vec<Option<&'a [u8]>>,
    metas: Vec<&'a str>,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Rows<'a> {
    fn new(rows: &[&'a NewRow]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.queues.push(row.queue);
            columns.delays.push(row.delay_ms.min(LONGEST_MS));
            columns.topics.push(row.columns.topic.as_str());
            columns
                .keys
                .push(row.columns.key.as_deref().map(str::as_bytes));
            columns.metas.push(&row.columns.meta);
            columns.bodies.push(&row.columns.body);
        }
        columns
    }
}

impl Tx<'_> {
    /// Adds messages that are ready and have no key.
    pub(crate) async fn insert(&mut self, rows: &[&NewRow]) -> Result<Vec<First>, Failure> {
        let sql = "WITH new AS (
                INSERT INTO messages (queue, id, ready_at, at, fence, attempts, topic, meta, body)
                SELECT n.queue, nextval('message_ids'), '-infinity', statement_timestamp(), 0, 0,
                    n.topic, n.meta, n.body
                FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[])
                    WITH ORDINALITY AS n (queue, topic, meta, body, place)
                ORDER BY n.place RETURNING queue, id
            )
            SELECT queue, min(id) FROM new GROUP BY queue";
        let Rows {
            queues,
            topics,
            metas,
            bodies,
            ..
        } = Rows::new(rows);
        let query = self.query(sql).bind(queues).bind(topics);
        self.firsts(query.bind(metas).bind(bodies)).await
    }

    /// Adds messages behind those of their key, even if there are none; see [`Tx::promote`].
    pub(crate) async fn park(&mut self, rows: &[&NewRow]) -> Result<(), Failure> {
        let sql = "INSERT INTO parked (queue, key, id, at, topic, meta, body)
            SELECT n.queue, n.key, nextval('message_ids'), statement_timestamp(), n.topic, n.meta, n.body
            FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bytea[])
                WITH ORDINALITY AS n (queue, topic, key, meta, body, place)
            ORDER BY n.place";
        let columns = Rows::new(rows);
        let query = self.query(sql).bind(columns.queues).bind(columns.topics);
        let query = query.bind(columns.keys).bind(columns.metas);
        self.execute(query.bind(columns.bodies)).await.map(drop)
    }

    /// Adds messages that are not ready before their time.
    pub(crate) async fn delay(&mut self, rows: &[&NewRow]) -> Result<(), Failure> {
        let sql = "INSERT INTO later (due, id, queue, at, attempts, topic, key, meta, body)
            SELECT statement_timestamp() + n.delay * interval '1 millisecond', nextval('message_ids'),
                n.queue, statement_timestamp(), 0, n.topic, n.key, n.meta, n.body
            FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::text[], $6::bytea[])
                WITH ORDINALITY AS n (queue, delay, topic, key, meta, body, place)
            ORDER BY n.place";
        let columns = Rows::new(rows);
        let query = self.query(sql).bind(columns.queues).bind(columns.delays);
        let query = query.bind(columns.topics).bind(columns.keys);
        let query = query.bind(columns.metas).bind(columns.bodies);
        self.execute(query).await.map(drop)
    }

    /// Adds messages to their topics.
    pub(crate) async fn keep(&mut self, rows: &[&NewRow]) -> Result<(), Failure> {
        let sql = "INSERT INTO kept (topic, id, at, due, key, meta, body)
            SELECT n.topic, nextval('message_ids'), statement_timestamp(),
                statement_timestamp() + n.delay * interval '1 millisecond', n.key, n.meta, n.body
            FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bytea[])
                WITH ORDINALITY AS n (delay, topic, key, meta, body, place)
            ORDER BY n.place";
        let columns = Rows::new(rows);
        let query = self.query(sql).bind(columns.delays).bind(columns.topics);
        let query = query.bind(columns.keys).bind(columns.metas);
        self.execute(query.bind(columns.bodies)).await.map(drop)
    }

    /// Removes messages whose claims still hold; their numbers.
    pub(crate) async fn finish(&mut self, holds: &[Hold]) -> Result<HashSet<i64>, Failure> {
        // An array takes a quarter less of the server's time than a join, and this is the statement of every message. The
        // fences once more, for servers that take a row by its place whatever became of it while they waited for it.
        let sql = "DELETE FROM messages WHERE ctid = ANY (ARRAY(
                SELECT m.place FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS h (queue, id, fence)
                CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM messages WHERE queue = h.queue AND id = h.id AND fence = h.fence LIMIT 1
                ) m
            )) AND fence = ANY ($4) RETURNING id";
        let mut done = HashSet::with_capacity(holds.len());
        for _ in 0..LOOKS {
            let left: Vec<&Hold> = holds.iter().filter(|it| !done.contains(&it.id)).collect();
            if left.is_empty() {
                break;
            }
            let Holds {
                queues,
                ids,
                fences,
            } = Holds::new(left);
            let mut different = fences.clone();
            different.sort_unstable();
            different.dedup();
            let query = self.query(sql).bind(queues).bind(ids).bind(fences);
            done.extend(self.ids(query.bind(different)).await?);
        }
        Ok(done)
    }

    /// Has messages come again whose claims still hold, with the attempt counted: those without a delay in their place,
    /// the others later; their numbers.
    pub(crate) async fn retry(&mut self, rows: &[RetryRow]) -> Result<HashSet<i64>, Failure> {
        let mut done = HashSet::with_capacity(rows.len());
        for _ in 0..LOOKS {
            let left = rows.iter().filter(|row| !done.contains(&row.hold.id));
            let (now, later): (Vec<&RetryRow>, Vec<&RetryRow>) =
                left.partition(|row| row.after_ms == 0);
            if !now.is_empty() {
                done.extend(self.retry_now(&now).await?);
            }
            if !later.is_empty() {
                done.extend(self.retry_later(&later).await?);
            }
        }
        Ok(done)
    }

    async fn retry_now(&mut self, rows: &[&RetryRow]) -> Result<HashSet<i64>, Failure> {
        let sql = "WITH held AS MATERIALIZED (
                SELECT m.place, h.fence, h.history
                FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS h (queue, id, fence, history)
                CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM messages WHERE queue = h.queue AND id = h.id AND fence = h.fence LIMIT 1
                ) m
            )
            UPDATE messages m
            SET ready_at = '-infinity', fence = 0, attempts = m.attempts + 1, history = h.history
            FROM held h WHERE m.ctid = h.place AND m.fence = h.fence RETURNING m.id";
        let holds = Holds::new(rows.iter().map(|row| &row.hold));
        let query = self.query(sql).bind(holds.queues).bind(holds.ids);
        let query = query.bind(holds.fences).bind(histories(rows));
        self.ids(query).await
    }

    async fn retry_later(&mut self, rows: &[&RetryRow]) -> Result<HashSet<i64>, Failure> {
        let sql = "WITH held AS MATERIALIZED (
                SELECT m.place, h.fence, h.delay, h.history
                FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
                    AS h (queue, id, fence, delay, history)
                CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM messages WHERE queue = h.queue AND id = h.id AND fence = h.fence LIMIT 1
                ) m
            ), gone AS (
                DELETE FROM messages m USING held h WHERE m.ctid = h.place AND m.fence = h.fence
                RETURNING m.id, m.queue, m.at, m.attempts, m.topic, m.key, m.meta, m.body, h.delay, h.history
            )
            INSERT INTO later (due, id, queue, at, attempts, topic, key, meta, body, history)
            SELECT statement_timestamp() + delay * interval '1 millisecond', id, queue, at, attempts + 1,
                topic, key, meta, body, history
            FROM gone RETURNING id";
        let holds = Holds::new(rows.iter().map(|row| &row.hold));
        let delays = rows.iter().map(|row| row.after_ms.min(LONGEST_MS));
        let delays: Vec<i64> = delays.collect();
        let query = self.query(sql).bind(holds.queues).bind(holds.ids);
        let query = query.bind(holds.fences).bind(delays);
        self.ids(query.bind(histories(rows))).await
    }

    /// Reads numbers.
    pub(super) async fn ids(&mut self, query: Statement<'_>) -> Result<HashSet<i64>, Failure> {
        let rows = self.rows(query).await?;
        let ids: Result<HashSet<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        self.read(ids)
    }

    /// Reads (queue, number) pairs.
    pub(super) async fn firsts(&mut self, query: Statement<'_>) -> Result<Vec<First>, Failure> {
        let rows = self.rows(query).await?;
        let first = |row: &PgRow| -> Result<First, sqlx::Error> {
            Ok(First {
                queue: row.try_get(0)?,
                id: row.try_get(1)?,
            })
        };
        let firsts: Result<Vec<First>, _> = rows.iter().map(first).collect();
        self.read(firsts)
    }
}

fn histories(rows: &[&RetryRow]) -> Vec<String> {
    let column = |row: &&RetryRow| history_column(&row.history);
    rows.iter().map(column).collect()
}
