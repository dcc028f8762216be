//! Messages that are only in the database, page by page.
//!
//! Nothing is claimed here: who has what is known in memory.

use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Database, Failure, row};
use crate::message::Message;
use crate::store::History;

/// A message as it is stored.
#[derive(Debug)]
pub(crate) struct StoredRow {
    pub(crate) id: u64,
    pub(crate) attempts: u32,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) message: Message,
    pub(crate) route: Option<u32>,
    /// When it was published.
    pub(crate) at_ms: i64,
    pub(crate) history: Option<History>,
}

/// Some messages in their order.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: Vec<StoredRow>,
    /// Where the next page begins: after this (due, number).
    pub(crate) last: Option<Due>,
    /// There is nothing behind this page.
    pub(crate) end: bool,
}

/// A place in the order of what is due: the moment, and the number of the message.
pub(crate) type Due = (i64, u64);

impl Database {
    /// Messages that are ready, after a number.
    pub(crate) async fn ready_page(
        &mut self,
        queue: i64,
        after: u64,
        rows: usize,
        bytes: usize,
    ) -> Result<Page, Failure> {
        let sql = "SELECT id, due, attempts, topic, key, meta, body, at, history FROM messages \
                   WHERE queue = ? AND queue <> 0 AND due = 0 AND id > ? ORDER BY id";
        let query = sqlx::query(sql).bind(queue).bind(after.cast_signed());
        let page = page(query.fetch(&mut self.connection), rows, bytes).await;
        page.map_err(|error| self.failure(&error))
    }

    /// Messages that are due by now, after a place.
    pub(crate) async fn due_page(
        &mut self,
        queue: i64,
        after: Due,
        now: i64,
        rows: usize,
        bytes: usize,
    ) -> Result<Page, Failure> {
        let sql = "SELECT id, due, attempts, topic, key, meta, body, at, history FROM messages \
                   WHERE queue = ? AND queue <> 0 AND due > 0 AND due <= ? AND (due, id) > (?, ?) \
                   ORDER BY due, id";
        let query = sqlx::query(sql)
            .bind(queue)
            .bind(now)
            .bind(after.0)
            .bind(after.1.cast_signed());
        let page = page(query.fetch(&mut self.connection), rows, bytes).await;
        page.map_err(|error| self.failure(&error))
    }

    /// When the next message after a place is due.
    pub(crate) async fn next_due(
        &mut self,
        queue: i64,
        after: Due,
    ) -> Result<Option<i64>, Failure> {
        let sql = "SELECT due FROM messages \
                   WHERE queue = ? AND queue <> 0 AND due > 0 AND (due, id) > (?, ?) ORDER BY due, id LIMIT 1";
        let query = sqlx::query_scalar(sql)
            .bind(queue)
            .bind(after.0)
            .bind(after.1.cast_signed());
        let due = query.fetch_optional(&mut self.connection).await;
        due.map_err(|error| self.failure(&error))
    }

    /// The messages that wait for a retry and hold their key: (queue, key, number).
    pub(crate) async fn held_keys(&mut self) -> Result<Vec<(i64, String, u64)>, Failure> {
        let sql = "SELECT queue, key, id FROM messages \
                   WHERE due > 0 AND queue <> 0 AND attempts > 0 AND key IS NOT NULL ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| self.failure(&error))?;
        let held = |row: &SqliteRow| -> Result<(i64, String, u64), sqlx::Error> {
            Ok((
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get::<i64, _>(2)?.cast_unsigned(),
            ))
        };
        let held: Result<Vec<_>, _> = rows.iter().map(held).collect();
        held.map_err(|error| self.failure(&error))
    }
}

/// Reads until there are enough rows or bytes. A row that cannot be read is left where it is, with a complaint.
async fn page(
    mut stream: futures_util::stream::BoxStream<'_, Result<SqliteRow, sqlx::Error>>,
    rows: usize,
    bytes: usize,
) -> Result<Page, sqlx::Error> {
    let (mut page, mut size) = (Page::default(), 0);
    while page.rows.len() < rows && size < bytes {
        let Some(row) = stream.try_next().await? else {
            page.end = true;
            break;
        };
        let id = row.try_get::<i64, _>(0)?.cast_unsigned();
        page.last = Some((row.try_get(1)?, id));
        match stored(id, &row) {
            Ok(row) => {
                size += row.message.payload.content.len();
                page.rows.push(row);
            }
            Err(error) => tracing::error!(
                id,
                error,
                "a stored message cannot be read; it stays in the database"
            ),
        }
    }
    Ok(page)
}

fn stored(id: u64, row: &SqliteRow) -> Result<StoredRow, String> {
    let columns = || -> Result<_, sqlx::Error> {
        let attempts = u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(u32::MAX);
        let key: Option<String> = row.try_get(4)?;
        let parts: (String, String, Vec<u8>) = (row.try_get(3)?, row.try_get(5)?, row.try_get(6)?);
        let past: (i64, Option<String>) = (row.try_get(7)?, row.try_get(8)?);
        Ok((attempts, key, parts, past))
    };
    let (attempts, key, (topic, meta, body), (at_ms, history)) =
        columns().map_err(|error| error.to_string())?;
    let (message, route) = row::message(&topic, &meta, body)?;
    Ok(StoredRow {
        id,
        attempts,
        key: key.map(Into::into),
        message,
        route,
        at_ms,
        history: history.as_deref().and_then(row::history),
    })
}
