//! Statements that write many rows at once, in a few fixed sizes so that each is prepared only once.
//!
//! A statement per row is what costs, not the bytes.

use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

/// Rows per statement, the largest first. The last one is 1, so that every number of rows is a sum of them.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// The bulk statements of this database.
#[derive(Debug)]
pub(super) struct Bulks {
    pub(super) messages: Bulk,
    pub(super) state: Bulk,
    pub(super) forget: Bulk,
    pub(super) dead_letters: Bulk,
}

impl Bulks {
    pub(super) fn new() -> Self {
        Self {
            messages: Bulk::new(
                "INSERT INTO messages (id, queue, due, attempts, at, topic, key, meta, body) VALUES ",
                "(?, ?, ?, 0, ?, ?, ?, ?, ?)",
                "",
            ),
            state: Bulk::new(
                "INSERT INTO state (plugin, key, value) VALUES ",
                "(?, ?, ?)",
                // What a trigger counts would not see what is replaced.
                " ON CONFLICT (plugin, key) DO UPDATE SET value = excluded.value",
            ),
            forget: Bulk::new(
                "DELETE FROM state WHERE (plugin, key) IN (VALUES ",
                "(?, ?)",
                ")",
            ),
            dead_letters: Bulk::new(
                "INSERT INTO dead_letters \
                 (id, at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body, \
                 key, route, published_ms, history) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "",
            ),
        }
    }
}

/// One statement in every size.
#[derive(Debug)]
pub(super) struct Bulk([(usize, Arc<str>); SIZES.len()]);

/// A statement whose values are being bound.
pub(super) type Binding = Query<'static, Sqlite, SqliteArguments>;

impl Bulk {
    fn new(head: &str, row: &str, tail: &str) -> Self {
        Self(SIZES.map(|size| {
            let rows = vec![row; size].join(", ");
            (size, format!("{head}{rows}{tail}").into())
        }))
    }

    /// Writes all rows; `bind` binds the values of one.
    pub(super) async fn write<T>(
        &self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bind: impl Fn(Binding, &T) -> Binding,
    ) -> Result<(), sqlx::Error> {
        for (size, sql) in &self.0 {
            while let Some((chunk, rest)) = rows.split_at_checked(*size) {
                rows = rest;
                let query = sqlx::query(AssertSqlSafe(sql.clone()));
                chunk
                    .iter()
                    .fold(query, &bind)
                    .execute(&mut *connection)
                    .await?;
            }
        }
        Ok(())
    }
}
