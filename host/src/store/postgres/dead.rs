//! Dead letters as rows: written with the settlement that caused them, read one by one or as a list, removed when they
//! were kept long enough or become messages again.
//!
//! Which are replayed or purged is decided by whoever asks.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::claim::key_of;
use super::{Failure, Tx};
use crate::store::letter::{self, COLUMNS};
use crate::store::row::{history_column, packet_columns};
use crate::store::{DeadLetter, KeptLetter};

impl Tx<'_> {
    pub(crate) async fn bury(&mut self, letters: &[KeptLetter]) -> Result<(), Failure> {
        let sql = "INSERT INTO dead_letters
                (at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body, key, route, published_ms,
                    history)
            SELECT l.at_ms, l.topic, l.reason, l.plugin, l.digest, l.error, l.queue, l.attempts, l.meta, l.body,
                l.key, l.route, l.published, l.history
            FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                    $8::bigint[], $9::text[], $10::bytea[], $11::bytea[], $12::bigint[], $13::bigint[], $14::text[])
                WITH ORDINALITY AS l (at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body,
                    key, route, published, history, place)
            ORDER BY l.place";
        let (mut topics, mut metas, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for KeptLetter { letter, .. } in letters {
            let (topic, meta, body) = packet_columns(&letter.packet);
            topics.push(plain(&topic));
            metas.push(meta);
            bodies.push(body);
        }
        fn column<'a, T>(letters: &'a [KeptLetter], of: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
            letters.iter().map(|kept| of(&kept.letter)).collect()
        }
        fn about<'a, T>(letters: &'a [KeptLetter], of: impl Fn(&'a KeptLetter) -> T) -> Vec<T> {
            letters.iter().map(of).collect()
        }
        let query = self
            .query(sql)
            .bind(column(letters, |letter| letter.at_ms))
            .bind(topics)
            .bind(column(letters, |letter| letter.reason.as_str()))
            .bind(column(letters, |letter| {
                letter.plugin.as_deref().map(plain)
            }))
            .bind(column(letters, |letter| {
                letter.digest.as_deref().map(plain)
            }))
            .bind(column(letters, |letter| plain(&letter.error)))
            .bind(column(letters, |letter| plain(&letter.queue)))
            .bind(column(letters, |letter| i64::from(letter.attempts)))
            .bind(metas)
            .bind(bodies)
            .bind(about(letters, |kept| {
                kept.key.as_deref().map(str::as_bytes)
            }))
            .bind(about(letters, |kept| kept.route.map(i64::from)))
            .bind(about(letters, |kept| kept.published_ms))
            .bind(about(letters, |kept| history_column(&kept.history)));
        self.execute(query).await.map(drop)
    }

    /// The newest dead letters, and a complaint about each that cannot be read.
    pub(crate) async fn dead_letters(
        &mut self,
        limit: usize,
    ) -> Result<Vec<Result<DeadLetter, String>>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM dead_letters ORDER BY id DESC LIMIT $1");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = self.made(sql).bind(limit);
        let rows = self.rows(query).await?;
        Ok(rows.iter().map(|row| Ok(letter(row)?.letter)).collect())
    }

    /// A dead letter, if there is one of that number.
    pub(crate) async fn dead_letter(
        &mut self,
        id: u64,
    ) -> Result<Option<Result<KeptLetter, String>>, Failure> {
        let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = $1");
        let query = self.made(sql).bind(id.cast_signed());
        Ok(self.rows(query).await?.first().map(letter))
    }

    /// Removes dead letters; those that were there, and that nobody else removes at the moment.
    pub(crate) async fn unbury(&mut self, ids: &[i64]) -> Result<HashSet<i64>, Failure> {
        let sql = "WITH held AS MATERIALIZED (
                SELECT d.place FROM unnest($1::bigint[]) AS w (id) CROSS JOIN LATERAL (
                    SELECT ctid AS place FROM dead_letters WHERE id = w.id LIMIT 1 FOR UPDATE SKIP LOCKED
                ) d
            )
            DELETE FROM dead_letters d USING held h WHERE d.ctid = h.place RETURNING d.id";
        let query = self.query(sql).bind(ids);
        self.ids(query).await
    }

    /// Removes up to `limit` dead letters that ended before a moment, then up to `limit` of the oldest beyond `most`.
    /// Returns how many of each.
    pub(crate) async fn prune_letters(
        &mut self,
        before_ms: i64,
        most: u64,
        limit: u64,
    ) -> Result<(u64, u64), Failure> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let sql = "SELECT id FROM dead_letters WHERE at_ms < $1 ORDER BY at_ms LIMIT $2";
        let query = self.query(sql).bind(before_ms).bind(number(limit));
        let old: Vec<i64> = self.ids(query).await?.into_iter().collect();
        let old = self.unbury(&old).await?.len();
        let sql = "SELECT id FROM dead_letters WHERE id <= \
                   (SELECT id FROM dead_letters ORDER BY id DESC OFFSET $1 LIMIT 1) ORDER BY id LIMIT $2";
        let query = self.query(sql).bind(number(most)).bind(number(limit));
        let many: Vec<i64> = self.ids(query).await?.into_iter().collect();
        let many = self.unbury(&many).await?.len();
        Ok((old as u64, many as u64))
    }
}

/// PostgreSQL takes any character in a text but this one, which errors of a guest may contain.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A row with all [`COLUMNS`], or why it cannot be read.
pub(super) fn letter(row: &PgRow) -> Result<KeptLetter, String> {
    let key = row.try_get::<Option<&[u8]>, _>("key");
    let key = key_of(key.map_err(|error| error.to_string())?)?;
    letter::letter(row, key)
}
