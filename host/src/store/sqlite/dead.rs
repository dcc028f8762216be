//! Dead letters as rows: written with the settlement that caused them, read one by one or as a list, removed when they
//! were kept long enough.
//!
//! Which are replayed or purged is decided by whoever asks; those leave with the transaction that they belong to.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::bulk::Bulks;
use super::row::{history_column, packet_columns};
use super::{Database, Failure, Reader};
use crate::store::letter::COLUMNS;
use crate::store::{self, DeadLetter, KeptLetter};

impl Bulks {
    pub(super) async fn write_dead(
        &self,
        connection: &mut SqliteConnection,
        letters: &[KeptLetter],
    ) -> Result<(), sqlx::Error> {
        self.dead_letters
            .write(connection, letters, |query, kept| {
                let letter = &kept.letter;
                let (topic, meta, body) = packet_columns(&letter.packet);
                query
                    .bind(kept.id.cast_signed())
                    .bind(letter.at_ms)
                    .bind(topic)
                    .bind(letter.reason.as_str())
                    .bind(letter.plugin.clone())
                    .bind(letter.digest.clone())
                    .bind(letter.error.clone())
                    .bind(letter.queue.clone())
                    .bind(i64::from(letter.attempts))
                    .bind(meta)
                    .bind(body)
                    .bind(kept.key.as_deref().map(str::to_owned))
                    .bind(kept.route.map(i64::from))
                    .bind(kept.published_ms)
                    .bind(history_column(&kept.history))
            })
            .await
    }
}

impl Reader {
    /// The newest dead letters, and a complaint about each that cannot be read.
    pub(crate) async fn dead_letters(
        &mut self,
        limit: usize,
    ) -> Result<Vec<Result<DeadLetter, String>>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM dead_letters ORDER BY id DESC LIMIT ?");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| self.failure(&error))?;
        Ok(rows.iter().map(|row| Ok(letter(row)?.letter)).collect())
    }

    /// A dead letter, if there is one of that number.
    pub(crate) async fn dead_letter(
        &mut self,
        id: u64,
    ) -> Result<Option<Result<KeptLetter, String>>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.cast_signed())
            .fetch_optional(&mut self.connection)
            .await
            .map_err(|error| self.failure(&error))?;
        Ok(row.as_ref().map(letter))
    }
}

impl Database {
    /// The greatest number that a dead letter ever had.
    pub(crate) async fn last_letter(&mut self) -> Result<u64, Failure> {
        let sql = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'), 0), \
                   coalesce((SELECT max(id) FROM dead_letters), 0))";
        let row = self.fetch_one(sql).await?;
        let last: Result<i64, _> = row.try_get(0);
        last.map(i64::cast_unsigned)
            .map_err(|error| self.failure(&error))
    }

    /// Removes up to `limit` dead letters that ended before a moment, then up to `limit` of the oldest beyond `most`.
    /// Returns how many of each.
    pub(crate) async fn prune_letters(
        &mut self,
        before_ms: i64,
        most: u64,
        limit: u64,
    ) -> Result<(u64, u64), Failure> {
        let old = "DELETE FROM dead_letters WHERE id IN \
                   (SELECT id FROM dead_letters WHERE at_ms < ? ORDER BY at_ms LIMIT ?)";
        let too_many = "DELETE FROM dead_letters WHERE id IN \
                        (SELECT id FROM dead_letters ORDER BY id \
                         LIMIT min(?, max(0, (SELECT count(*) FROM dead_letters) - ?)))";
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let old = sqlx::query(old).bind(before_ms).bind(number(limit));
        let too_many = sqlx::query(too_many).bind(number(limit)).bind(number(most));
        let mut removed = [0; 2];
        for (removed, query) in removed.iter_mut().zip([old, too_many]) {
            let done = query.execute(&mut self.connection).await;
            *removed = done.map_err(|error| self.failure(&error))?.rows_affected();
        }
        Ok((removed[0], removed[1]))
    }
}

/// A row with all [`COLUMNS`], or why it cannot be read.
pub(super) fn letter(row: &SqliteRow) -> Result<KeptLetter, String> {
    let key = row.try_get::<Option<String>, _>("key");
    let key = key.map_err(|error| error.to_string())?;
    store::letter::letter(row, key.map(Into::into))
}
