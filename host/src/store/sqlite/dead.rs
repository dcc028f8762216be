//! Dead letters.
//!
//! Written with the settlement that caused them; nothing here deletes one.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::bulk::Bulks;
use super::row::{packet, packet_columns};
use super::{Failure, Reader};
use crate::store::{DeadLetter, Reason};

impl Bulks {
    pub(super) async fn write_dead(
        &self,
        connection: &mut SqliteConnection,
        letters: &[DeadLetter],
    ) -> Result<(), sqlx::Error> {
        self.dead_letters
            .write(connection, letters, |query, letter| {
                let (topic, meta, body) = packet_columns(&letter.packet);
                query
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
        let sql = "SELECT id, at_ms, topic, reason, plugin, digest, error, queue, attempts, meta, body \
                   FROM dead_letters ORDER BY id DESC LIMIT ?";
        let rows = sqlx::query(sql)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| Failure::new(&self.folder, &error))?;
        let letter = |row: &SqliteRow| {
            let id = row.try_get::<i64, _>("id").unwrap_or_default();
            letter(row).map_err(|error| format!("dead letter {id} cannot be read: {error}"))
        };
        Ok(rows.iter().map(letter).collect())
    }
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, String> {
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
