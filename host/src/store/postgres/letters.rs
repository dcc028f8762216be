//! Selections of dead letters: what a filter means in SQL, a page of a list, the numbers of some, and their counts.
//!
//! It only reads, but for purging a part.

use sqlx::{Postgres, QueryBuilder, Row};

use super::dead::letter;
use super::{Failure, Tx};
use crate::store::letter::{COLUMNS, Found, PART_BYTES, reason, summary};
use crate::store::{KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart};
use crate::topic::Pattern;

/// Columns of a letter without its message.
const SUMMARY: &str = "id, at_ms, topic, reason, plugin, error, queue, attempts, history, \
                       meta::json ->> 'id' AS identifier, octet_length(body)::bigint AS bytes";

/// A query for a selection.
fn select(columns: &str, filter: &LetterFilter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!("SELECT {columns} FROM dead_letters WHERE true"));
    if !filter.ids.is_empty() {
        let ids: Vec<i64> = filter.ids.iter().copied().map(bound).collect();
        query.push(" AND id = ANY (").push_bind(ids).push(")");
    }
    if let Some(identifier) = filter.identifier {
        query.push(" AND meta::json ->> 'id' = ");
        query.push_bind(identifier.to_string());
    }
    if let Some(topic) = &filter.topic {
        match topic.exact() {
            Some(topic) => query.push(" AND topic = ").push_bind(topic.to_string()),
            None => query.push(" AND topic ~ ").push_bind(expression(topic)),
        };
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

/// What a pattern of topics is as a regular expression.
fn expression(pattern: &Pattern) -> String {
    let token = |token: &str| match token {
        "*" => "[^.]+".to_owned(),
        ">" => "[^.]+([.][^.]+)*".to_owned(),
        text => {
            let mut escaped = String::with_capacity(text.len());
            for character in text.chars() {
                if character.is_ascii_punctuation() {
                    escaped.push('\\');
                }
                escaped.push(character);
            }
            escaped
        }
    };
    let tokens: Vec<String> = pattern.as_str().split('.').map(token).collect();
    format!("^{}$", tokens.join("[.]"))
}

/// A number that whoever asks has made up; no letter has one beyond the greatest.
fn bound(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn part(columns: &str, part: &LetterPart) -> QueryBuilder<Postgres> {
    let mut query = select(columns, &part.filter);
    query.push(" AND id > ").push_bind(bound(part.after));
    query.push(" AND id <= ").push_bind(bound(part.until));
    query
        .push(" ORDER BY id LIMIT ")
        .push_bind(limit(part.limit));
    query
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Tx<'_> {
    /// A page of a list, the newest first.
    pub(crate) async fn letter_page(
        &mut self,
        filter: &LetterFilter,
        before: Option<u64>,
        most: usize,
    ) -> Result<LetterPage, Failure> {
        let mut query = select(SUMMARY, filter);
        if let Some(before) = before {
            query.push(" AND id < ").push_bind(bound(before));
        }
        query.push(" ORDER BY id DESC LIMIT ");
        query.push_bind(limit(most.saturating_add(1)));
        let rows = self.built(&mut query).await?;
        let mut page = LetterPage::default();
        for row in rows.iter().take(most) {
            match summary(row) {
                Ok(letter) => page.letters.push(letter),
                Err(error) => tracing::error!(error, "a dead letter cannot be read; it stays"),
            }
        }
        if rows.len() > most {
            page.next = page.letters.last().map(|letter| letter.id);
        }
        Ok(page)
    }

    /// The letters of a part with their messages, and a complaint about each that cannot be read.
    pub(crate) async fn letters_of(
        &mut self,
        wanted: &LetterPart,
    ) -> Result<Found<(u64, Result<KeptLetter, String>)>, Failure> {
        let sizes = part("id, octet_length(body)::bigint", wanted);
        let (mut until, mut bytes, mut next) = (0, 0, None);
        for (position, row) in self.built(&mut { sizes }).await?.iter().enumerate() {
            let (id, size): (i64, i64) = (self.read(row.try_get(0))?, self.read(row.try_get(1))?);
            until = id.cast_unsigned();
            bytes += size.unsigned_abs();
            if bytes >= PART_BYTES as u64 || position + 1 >= wanted.limit {
                next = Some(until);
                break;
            }
        }
        let wanted = LetterPart {
            until,
            ..wanted.clone()
        };
        let rows = self.built(&mut part(COLUMNS, &wanted)).await?;
        let read = |row: &_| -> Result<_, sqlx::Error> {
            Ok((
                Row::try_get::<i64, _>(row, "id")?.cast_unsigned(),
                letter(row),
            ))
        };
        let letters: Result<Vec<_>, _> = rows.iter().map(read).collect();
        Ok(Found {
            letters: self.read(letters)?,
            next,
        })
    }

    /// Removes the letters of a part; their numbers.
    pub(crate) async fn purge_letters(
        &mut self,
        wanted: &LetterPart,
    ) -> Result<Found<u64>, Failure> {
        let rows = self.built(&mut part("id", wanted)).await?;
        let ids: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let ids = self.read(ids)?;
        let full = ids.len() >= wanted.limit;
        let next = ids.last().filter(|_| full).map(|id| id.cast_unsigned());
        let gone = self.unbury(&ids).await?;
        Ok(Found {
            letters: gone.into_iter().map(i64::cast_unsigned).collect(),
            next,
        })
    }

    /// How many there are of a selection.
    pub(crate) async fn count_letters(
        &mut self,
        filter: &LetterFilter,
    ) -> Result<LetterCounts, Failure> {
        let mut query = select("reason, count(*), max(id)", filter);
        query.push(" GROUP BY reason ORDER BY 2 DESC, 1");
        let mut counts = LetterCounts::default();
        for row in self.built(&mut query).await? {
            let count = self.read(row.try_get::<i64, _>(1))?.cast_unsigned();
            let last = self.read(row.try_get::<i64, _>(2))?.cast_unsigned();
            counts.last = counts.last.max(Some(last));
            match reason(self.read(row.try_get(0))?) {
                Ok(reason) => counts.reasons.push((reason, count)),
                Err(error) => tracing::error!(error, count, "dead letters cannot be read"),
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_expressions() {
        for (pattern, expected) in [
            ("a.*", "^a[.][^.]+$"),
            ("a.*.b-c", "^a[.][^.]+[.]b\\-c$"),
            ("_x.>", "^\\_x[.][^.]+([.][^.]+)*$"),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(expression(&pattern), expected);
        }
    }
}
