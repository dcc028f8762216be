//! Dead letters.
//!
//! Written with the settlement that caused them; nothing here deletes one.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Failure, Tx};
use crate::store::row::{packet, packet_columns};
use crate::store::{DeadLetter, Reason};

impl Tx<'_> {
    pub(crate) async fn bury(&mut self, letters: &[&DeadLetter]) -> Result<(), Failure> {
        let sql = "INSERT INTO dead_letters
                (at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body)
            SELECT l.at_ms, l.topic, l.reason, l.plugin, l.digest, l.error, l.queue, l.attempts, l.meta, l.body
            FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                    $8::bigint[], $9::text[], $10::bytea[])
                WITH ORDINALITY AS l (at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body, place)
            ORDER BY l.place";
        let (mut topics, mut metas, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for letter in letters {
            let (topic, meta, body) = packet_columns(&letter.packet);
            topics.push(plain(&topic));
            metas.push(meta);
            bodies.push(body);
        }
        fn column<'a, T>(letters: &[&'a DeadLetter], of: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
            letters.iter().map(|letter| of(letter)).collect()
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
            .bind(bodies);
        self.execute(query).await.map(drop)
    }

    /// The newest dead letters, and a complaint about each that cannot be read.
    pub(crate) async fn dead_letters(
        &mut self,
        limit: usize,
    ) -> Result<Vec<Result<DeadLetter, String>>, Failure> {
        let sql = "SELECT id, at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body \
                   FROM dead_letters ORDER BY id DESC LIMIT $1";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = self.query(sql).bind(limit);
        let rows = self.rows(query).await?;
        let letter = |row: &PgRow| {
            let id = row.try_get::<i64, _>("id").unwrap_or_default();
            letter(row).map_err(|error| format!("dead letter {id} cannot be read: {error}"))
        };
        Ok(rows.iter().map(letter).collect())
    }
}

/// PostgreSQL takes any character in a text but this one, which errors of a guest may contain.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn letter(row: &PgRow) -> Result<DeadLetter, String> {
    let columns = || -> Result<_, sqlx::Error> {
        let packet = (
            row.try_get("topic")?,
            row.try_get::<String, _>("meta")?,
            row.try_get("body")?,
        );
        let reason = row.try_get::<String, _>("reason")?;
        let letter = |packet, reason| -> Result<DeadLetter, sqlx::Error> {
            Ok(DeadLetter {
                packet,
                reason,
                error: row.try_get("error")?,
                plugin: row.try_get("plugin")?,
                digest: row.try_get("digest")?,
                queue: row.try_get("queue")?,
                attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
                at_ms: row.try_get("at_ms")?,
            })
        };
        Ok((packet, reason, letter))
    };
    let ((topic, meta, body), reason, letter) = columns().map_err(|error| error.to_string())?;
    let reason: Reason =
        serde_json::from_value(reason.into()).map_err(|error| error.to_string())?;
    letter(packet(topic, &meta, body)?, reason).map_err(|error| error.to_string())
}
