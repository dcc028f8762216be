//! Who has which message: claims, their leases by the time of the database, and giving back.
//!
//! Nothing here waits for the lock of a row: what another transaction is at is left to it.
//!
//! Rows are found one by one with LATERAL and changed by their place (`ctid`), here and beside. For a join of a list with
//! a table the planner chooses which of them it goes through, and for a table that it believes to be empty it goes through
//! all of that for each statement. With LATERAL and LIMIT, and with a condition on the place alone, there is no other plan.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::write::LOOKS;
use super::{Failure, First, Tx};
use crate::message::Message;
use crate::store::{History, row};

/// Bytes of content that one claim takes of one queue; one message is always taken.
pub(crate) const CLAIM_BYTES: usize = 32 << 20;

/// Messages of a queue that somebody wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) queue: i64,
    /// No lesser number is looked at.
    pub(crate) first: i64,
    pub(crate) most: i64,
    pub(crate) lease_ms: i64,
    /// What makes this claim different from every other one.
    pub(crate) fence: i64,
}

/// A message that was claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) queue: i64,
    pub(crate) id: u64,
    pub(crate) attempts: u32,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) message: Message,
    pub(crate) route: Option<u32>,
    /// When it was published.
    pub(crate) at_ms: i64,
    pub(crate) history: Option<History>,
}

impl Claimed {
    /// Bytes of its content.
    pub(crate) fn size(&self) -> usize {
        self.message.payload.content.len()
    }
}

/// A claim on a message; of no effect once somebody else has claimed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) queue: i64,
    pub(crate) id: i64,
    pub(crate) fence: i64,
}

/// Claims as columns.
#[derive(Debug, Default)]
pub(super) struct Holds {
    pub(super) queues: Vec<i64>,
    pub(super) ids: Vec<i64>,
    pub(super) fences: Vec<i64>,
}

impl Holds {
    pub(super) fn new<'a>(holds: impl IntoIterator<Item = &'a Hold>) -> Self {
        let mut columns = Self::default();
        for hold in holds {
            columns.queues.push(hold.queue);
            columns.ids.push(hold.id);
            columns.fences.push(hold.fence);
        }
        columns
    }
}

impl Tx<'_> {
    /// Claims messages that are ready, the oldest of each queue first; not necessarily returned in this order. One that
    /// cannot be read is left alone until its lease ends, with a complaint.
    pub(crate) async fn claim(&mut self, wanted: &[Wanted]) -> Result<Vec<Claimed>, Failure> {
        let sql = "WITH wanted AS (
                SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                    AS w (queue, first, most, lease, fence)
            ), picked AS MATERIALIZED (
                SELECT m.place, m.queue, m.id, m.bytes, w.lease, w.fence FROM wanted w CROSS JOIN LATERAL (
                    SELECT ctid AS place, queue, id, octet_length(body) AS bytes FROM messages
                    WHERE queue = w.queue AND id >= w.first AND ready_at <= statement_timestamp()
                    ORDER BY id LIMIT w.most FOR UPDATE SKIP LOCKED
                ) m
            ), next AS MATERIALIZED (
                SELECT place, lease, fence FROM (
                    SELECT *, sum(bytes) OVER (PARTITION BY queue ORDER BY id) - bytes AS before FROM picked
                ) p WHERE before < $6
            )
            UPDATE messages m
            SET ready_at = statement_timestamp() + n.lease * interval '1 millisecond', fence = n.fence
            FROM next n WHERE m.ctid = n.place
            RETURNING m.queue, m.id, m.attempts, m.topic, m.key, m.meta, m.body,
                (date_part('epoch', m.at) * 1000)::bigint, m.history";
        let column = |of: fn(&Wanted) -> i64| wanted.iter().map(of).collect::<Vec<i64>>();
        let query = self
            .query(sql)
            .bind(column(|wanted| wanted.queue))
            .bind(column(|wanted| wanted.first))
            .bind(column(|wanted| wanted.most))
            .bind(column(|wanted| wanted.lease_ms))
            .bind(column(|wanted| wanted.fence))
            .bind(i64::try_from(CLAIM_BYTES).unwrap_or(i64::MAX));
        let rows = self.rows(query).await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            match read(row) {
                Ok(message) => claimed.push(message),
                Err(error) => {
                    let id = row.try_get::<i64, _>(1).unwrap_or_default();
                    let place = self.place().name();
                    tracing::error!(
                        id,
                        error,
                        place,
                        "a stored message cannot be read; it stays there"
                    );
                }
            }
        }
        Ok(claimed)
    }

    /// The least number that is ready in each of these queues.
    pub(crate) async fn first_ready(&mut self, queues: &[i64]) -> Result<Vec<First>, Failure> {
        let sql = "SELECT m.queue, m.id FROM unnest($1::bigint[]) AS w (queue) CROSS JOIN LATERAL (
                SELECT queue, id FROM messages
                WHERE queue = w.queue AND ready_at <= statement_timestamp() ORDER BY id LIMIT 1
            ) m";
        let query = self.query(sql).bind(queues);
        self.firsts(query).await
    }

    /// Makes messages ready again whose claims still hold, after so many milliseconds each.
    pub(crate) async fn release(&mut self, holds: &[(Hold, i64)]) -> Result<(), Failure> {
        let sql = "WITH held AS MATERIALIZED (
                SELECT m.place, h.delay
                FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS h (queue, id, fence, delay)
                CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM messages WHERE queue = h.queue AND id = h.id AND fence = h.fence
                    LIMIT 1 FOR UPDATE SKIP LOCKED
                ) m
            )
            UPDATE messages m SET fence = 0, ready_at = CASE h.delay WHEN 0 THEN '-infinity'
                ELSE statement_timestamp() + h.delay * interval '1 millisecond' END
            FROM held h WHERE m.ctid = h.place";
        let delays: Vec<i64> = holds.iter().map(|(_, delay)| *delay).collect();
        let holds = Holds::new(holds.iter().map(|(hold, _)| hold));
        // What was released no longer holds, so that the next look is for the rest.
        let (mut released, all) = (0, holds.ids.len() as u64);
        for _ in 0..LOOKS {
            if released < all {
                let query = self.query(sql).bind(&holds.queues).bind(&holds.ids);
                let query = query.bind(&holds.fences).bind(&delays);
                released += self.execute(query).await?;
            }
        }
        Ok(())
    }

    /// Moves the ends of leases to so much later than now; the messages whose claims still hold.
    pub(crate) async fn extend(
        &mut self,
        holds: &[Hold],
        lease_ms: i64,
    ) -> Result<HashSet<i64>, Failure> {
        let sql = "WITH held AS MATERIALIZED (
                SELECT m.place FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS h (queue, id, fence)
                CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM messages WHERE queue = h.queue AND id = h.id AND fence = h.fence
                    LIMIT 1 FOR UPDATE SKIP LOCKED
                ) m
            )
            UPDATE messages m SET ready_at = statement_timestamp() + $4 * interval '1 millisecond'
            FROM held h WHERE m.ctid = h.place RETURNING m.id";
        let holds = Holds::new(holds);
        let query = self
            .query(sql)
            .bind(holds.queues)
            .bind(holds.ids)
            .bind(holds.fences)
            .bind(lease_ms);
        let rows = self.rows(query).await?;
        let ids: Result<HashSet<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        self.read(ids)
    }
}

fn read(row: &PgRow) -> Result<Claimed, String> {
    let columns = || -> Result<_, sqlx::Error> {
        let (queue, id): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let attempts = row.try_get::<i32, _>(2)?;
        let (topic, key): (&str, Option<&[u8]>) = (row.try_get(3)?, row.try_get(4)?);
        let (meta, body): (&str, Vec<u8>) = (row.try_get(5)?, row.try_get(6)?);
        let past: (i64, Option<&str>) = (row.try_get(7)?, row.try_get(8)?);
        Ok((queue, id, attempts, key, (topic, meta, body), past))
    };
    let (queue, id, attempts, key, (topic, meta, body), (at_ms, history)) =
        columns().map_err(|error| error.to_string())?;
    let (message, route) = row::message(topic, meta, body)?;
    let key = key_of(key)?;
    Ok(Claimed {
        queue,
        id: id.cast_unsigned(),
        attempts: attempts.unsigned_abs(),
        key,
        message,
        route,
        at_ms,
        history: history.and_then(row::history),
    })
}

/// A key out of its column.
pub(super) fn key_of(column: Option<&[u8]>) -> Result<Option<Arc<str>>, String> {
    column
        .map(|key| std::str::from_utf8(key).map(Arc::from))
        .transpose()
        .map_err(|error| format!("column key: {error}"))
}
