//! A dead letter out of its columns, in whichever database.
//!
//! It knows no SQL. What cannot be read is reported; what an earlier release did not write is left out.

use std::sync::Arc;

use sqlx::{ColumnIndex, Decode, Row, Type};

use super::row::{history, packet};
use super::{DeadLetter, History, KeptLetter, LetterSummary, Reason};

/// What [`read`] reads, and the key.
pub(super) const COLUMNS: &str = "id, at_ms, topic, reason, plugin, digest, error, queue, attempts, \
                                  meta, body, key, route, published_ms, history";

/// The most content of one part that is replayed.
pub(super) const PART_BYTES: usize = 8 << 20;

/// Some letters, and where the next ones begin.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub(crate) letters: Vec<T>,
    pub(crate) next: Option<u64>,
}

/// A row with all [`COLUMNS`], whose key has been read, or why it cannot be read.
pub(super) fn letter<R: Row>(row: &R, key: Option<Arc<str>>) -> Result<KeptLetter, String>
where
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let id = row.try_get::<i64, _>("id").unwrap_or_default();
    let letter = read(id.cast_unsigned(), row, key);
    letter.map_err(|error| format!("dead letter {id} cannot be read: {error}"))
}

fn read<R: Row>(id: u64, row: &R, key: Option<Arc<str>>) -> Result<KeptLetter, String>
where
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = |error: sqlx::Error| error.to_string();
    let get = |name: &str| row.try_get::<String, _>(name).map_err(text);
    let maybe = |name: &str| row.try_get::<Option<String>, _>(name).map_err(text);
    let number = |name: &str| row.try_get::<Option<i64>, _>(name).map_err(text);
    let body = row.try_get::<Vec<u8>, _>("body").map_err(text)?;
    let letter = DeadLetter {
        packet: packet(get("topic")?, &get("meta")?, body)?,
        reason: reason(get("reason")?)?,
        error: get("error")?,
        plugin: maybe("plugin")?,
        digest: maybe("digest")?,
        queue: get("queue")?,
        attempts: attempts(number("attempts")?),
        at_ms: number("at_ms")?.unwrap_or_default(),
        report: None,
    };
    let past = maybe("history")?.as_deref().and_then(history);
    let at_ms = letter.at_ms;
    Ok(KeptLetter {
        id,
        letter,
        key,
        route: number("route")?.and_then(|route| u32::try_from(route).ok()),
        published_ms: number("published_ms")?.unwrap_or(at_ms),
        // Those of an earlier release have none.
        history: past.unwrap_or(History {
            first_ms: at_ms,
            ..History::default()
        }),
    })
}

/// A row without the message, but with the `identifier` of it and its size in `bytes`.
pub(super) fn summary<R: Row>(row: &R) -> Result<LetterSummary, String>
where
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = |error: sqlx::Error| error.to_string();
    let get = |name: &str| row.try_get::<String, _>(name).map_err(text);
    let maybe = |name: &str| row.try_get::<Option<String>, _>(name).map_err(text);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(text);
    let at_ms = number("at_ms")?;
    Ok(LetterSummary {
        id: number("id")?.cast_unsigned(),
        at_ms,
        first_ms: maybe("history")?
            .as_deref()
            .and_then(history)
            .map_or(at_ms, |history| history.first_ms),
        reason: reason(get("reason")?)?,
        error: LetterSummary::error_of(&get("error")?),
        topic: get("topic")?,
        identifier: maybe("identifier")?.and_then(|identifier| identifier.parse().ok()),
        bytes: number("bytes")?.cast_unsigned(),
        plugin: maybe("plugin")?,
        queue: get("queue")?,
        attempts: attempts(Some(number("attempts")?)),
    })
}

pub(super) fn reason(column: String) -> Result<Reason, String> {
    serde_json::from_value(column.into()).map_err(|error| error.to_string())
}

fn attempts(column: Option<i64>) -> u32 {
    u32::try_from(column.unwrap_or_default()).unwrap_or(u32::MAX)
}
