//! Selections of dead letters: what a filter means in SQL, a page of a list, the numbers of some, and their counts.
//!
//! It only reads. Patterns of topics are matched outside of SQL, so a page may look at many rows to find a few.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::dead::letter;
use super::{Failure, Reader};
use crate::store::letter::{COLUMNS, Found, PART_BYTES, reason, summary};
use crate::store::{KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, Reason};
use crate::topic::TopicName;

/// A query for a selection, without the pattern of its topics.
fn select(columns: &str, filter: &LetterFilter) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(format!("SELECT {columns} FROM dead_letters WHERE 1 = 1"));
    if !filter.ids.is_empty() {
        let ids = serde_json::to_string(&filter.ids).unwrap_or_default();
        query.push(" AND id IN (SELECT value FROM json_each(");
        query.push_bind(ids).push("))");
    }
    if let Some(identifier) = filter.identifier {
        query.push(" AND meta ->> '$.id' = ");
        query.push_bind(identifier.to_string());
    }
    if let Some(topic) = filter.topic.as_ref().and_then(|topic| topic.exact()) {
        query.push(" AND topic = ").push_bind(topic.to_string());
    }
    let texts = [
        ("plugin", filter.plugin.clone()),
        ("reason", filter.reason.map(|reason| reason.to_string())),
        ("queue", filter.queue.clone()),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            query.push(format!(" AND {column} = ")).push_bind(text);
        }
    }
    let moments = [("<", filter.before_ms), (">=", filter.since_ms)];
    for (comparison, moment) in moments {
        if let Some(moment) = moment {
            query.push(format!(" AND at_ms {comparison} "));
            query.push_bind(moment);
        }
    }
    query
}

/// A number that whoever asks has made up; no letter has one beyond the greatest.
fn bound(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Whether the topic of a row is one of those wanted.
fn wanted(filter: &LetterFilter, row: &SqliteRow) -> Result<bool, sqlx::Error> {
    let Some(pattern) = &filter.topic else {
        return Ok(true);
    };
    let topic: String = row.try_get("topic")?;
    Ok(topic
        .parse::<TopicName>()
        .is_ok_and(|topic| pattern.matches(&topic)))
}

impl Reader {
    /// A page of a list, the newest first.
    pub(crate) async fn letter_page(
        &mut self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, Failure> {
        let columns = "id, at_ms, topic, reason, plugin, error, queue, attempts, history, \
                       meta ->> '$.id' AS identifier, length(body) AS bytes";
        let mut query = select(columns, filter);
        if let Some(before) = before {
            query.push(" AND id < ").push_bind(bound(before));
        }
        query.push(" ORDER BY id DESC");
        let mut page = LetterPage::default();
        let found = async {
            let mut rows = query.build().fetch(&mut self.connection);
            while let Some(row) = rows.try_next().await? {
                if !wanted(filter, &row)? {
                    continue;
                }
                if page.letters.len() == limit {
                    page.next = page.letters.last().map(|letter| letter.id);
                    break;
                }
                match summary(&row) {
                    Ok(letter) => page.letters.push(letter),
                    Err(error) => {
                        tracing::error!(error, "a dead letter cannot be read; it stays");
                    }
                }
            }
            Ok(())
        };
        let found: Result<(), sqlx::Error> = found.await;
        found.map_err(|error| self.failure(&error))?;
        Ok(page)
    }

    /// The letters of a part with their messages, and a complaint about each that cannot be read.
    pub(crate) async fn letters_of(
        &mut self,
        part: &LetterPart,
    ) -> Result<Found<(u64, Result<KeptLetter, String>)>, Failure> {
        let mut size = 0;
        let read = |row: &SqliteRow| {
            let bytes = row.try_get::<&[u8], _>("body").map_or(0, <[u8]>::len);
            size += bytes;
            (letter(row), size < PART_BYTES)
        };
        self.part(COLUMNS, part, read).await
    }

    /// The numbers of the letters of a part.
    pub(crate) async fn letter_ids(&mut self, part: &LetterPart) -> Result<Found<u64>, Failure> {
        let found = self.part("id, topic", part, |_| ((), true)).await?;
        Ok(Found {
            letters: found.letters.into_iter().map(|(id, ())| id).collect(),
            next: found.next,
        })
    }

    /// Reads a part, the oldest letter first; `read` says whether there is room for another one.
    async fn part<T>(
        &mut self,
        columns: &str,
        part: &LetterPart,
        mut read: impl FnMut(&SqliteRow) -> (T, bool),
    ) -> Result<Found<(u64, T)>, Failure> {
        let mut query = select(columns, &part.filter);
        query.push(" AND id > ").push_bind(bound(part.after));
        query.push(" AND id <= ").push_bind(bound(part.until));
        query.push(" ORDER BY id");
        let mut letters = Vec::new();
        let mut next = None;
        let found = async {
            let mut rows = query.build().fetch(&mut self.connection);
            while let Some(row) = rows.try_next().await? {
                if !wanted(&part.filter, &row)? {
                    continue;
                }
                let id = row.try_get::<i64, _>("id")?.cast_unsigned();
                let (letter, room) = read(&row);
                letters.push((id, letter));
                if letters.len() >= part.limit || !room {
                    next = Some(id);
                    break;
                }
            }
            Ok(())
        };
        let found: Result<(), sqlx::Error> = found.await;
        found.map_err(|error| self.failure(&error))?;
        Ok(Found { letters, next })
    }

    /// How many there are of a selection.
    pub(crate) async fn count_letters(
        &mut self,
        filter: &LetterFilter,
    ) -> Result<LetterCounts, Failure> {
        let mut query = select("topic, reason, count(*), max(id)", filter);
        query.push(" GROUP BY topic, reason");
        let mut reasons: BTreeMap<&str, (Reason, u64)> = BTreeMap::new();
        let mut last = None;
        let counted = async {
            let mut rows = query.build().fetch(&mut self.connection);
            while let Some(row) = rows.try_next().await? {
                if !wanted(filter, &row)? {
                    continue;
                }
                let count = row.try_get::<i64, _>(2)?.cast_unsigned();
                last = last.max(Some(row.try_get::<i64, _>(3)?.cast_unsigned()));
                match reason(row.try_get("reason")?) {
                    Ok(reason) => reasons.entry(reason.as_str()).or_insert((reason, 0)).1 += count,
                    Err(error) => tracing::error!(error, count, "dead letters cannot be read"),
                }
            }
            Ok(())
        };
        let counted: Result<(), sqlx::Error> = counted.await;
        counted.map_err(|error| self.failure(&error))?;
        let mut reasons: Vec<(Reason, u64)> = reasons.into_values().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(LetterCounts { reasons, last })
    }
}
