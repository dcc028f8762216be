//! Cron expressions of five fields in UTC, and the times that they name.
//!
//! Pure: the time is passed in. Reading and reckoning are croner's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// When something is due.
///
/// ```
/// use sandbar::periodic::Schedule;
/// let schedule: Schedule = "*/5 * * * *".parse()?;
/// assert_eq!(schedule.next(0), Some(300_000));
/// # Ok::<(), sandbar::periodic::ScheduleError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    text: Arc<str>,
    cron: Box<Cron>,
}

impl Schedule {
    /// The first time after `after_ms`; both are milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        let after = DateTime::<Utc>::from_timestamp_millis(after_ms)?;
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp_millis())
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        // Names such as `@daily` are one word; they would be read as well.
        if text.split_whitespace().count() != 5 {
            return Err(ScheduleError::Fields(shown(text)));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(text)
            .map_err(|error| ScheduleError::Malformed {
                schedule: shown(text),
                error: error.to_string(),
            })?;
        let schedule = Self {
            text: text.into(),
            cron: Box::new(cron),
        };
        match schedule.next(0) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(shown(text))),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It has not five fields.
    #[error(
        "schedule {0:?} is malformed; write minute, hour, day of month, month and day of week, as in `*/5 * * * *`"
    )]
    Fields(String),
    /// One of its fields.
    #[error("schedule {schedule:?} is malformed: {error}")]
    Malformed {
        /// The schedule.
        schedule: String,
        /// What is wrong.
        error: String,
    },
    /// The 30th of February.
    #[error("schedule {0:?} never comes due; there is no such day")]
    Never(String),
}

/// As much of it as one wants to read.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A time as text, to the second.
pub(super) fn rfc3339(ms: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The time that a text says.
pub(super) fn from_rfc3339(text: &str) -> Option<i64> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_after_the_given_one() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            (
                "*/5 * * * *",
                "2026-01-01T00:04:59Z",
                "2026-01-01T00:05:00Z",
            ),
            (
                "*/5 * * * *",
                "2026-01-01T00:05:00Z",
                "2026-01-01T00:10:00Z",
            ),
            ("0 3 * * *", "2026-12-31T03:00:01Z", "2027-01-01T03:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            (
                "30 8 * * MON-FRI",
                "2026-07-03T08:30:00Z",
                "2026-07-06T08:30:00Z",
            ),
            ("0 0 * * 7", "2026-07-01T00:00:00Z", "2026-07-05T00:00:00Z"),
            // Either day fits, as ever with cron.
            (
                "0 0 13 * FRI",
                "2026-01-01T00:00:00Z",
                "2026-01-02T00:00:00Z",
            ),
            (
                "15,45 1-2 1 JAN,JUL *",
                "2026-01-01T01:15:00Z",
                "2026-01-01T01:45:00Z",
            ),
        ] {
            let parsed: Schedule = schedule.parse().unwrap();
            let next = parsed.next(from_rfc3339(after).unwrap()).map(rfc3339);
            assert_eq!(next.as_deref(), Some(expected), "{schedule} after {after}");
        }
        let every: Schedule = "* * * * *".parse().unwrap();
        assert_eq!(every.next(59_999), Some(60_000));
        assert_eq!(every.next(i64::MAX), None);
    }

    #[test]
    fn malformed_schedules_say_why() {
        for (wrong, part) in [
            ("", "write minute, hour"),
            ("* * * *", "write minute, hour"),
            ("0 * * * * *", "write minute, hour"),
            ("@daily", "write minute, hour"),
            ("60 * * * *", "out of bounds"),
            ("* * * * MO", "illegal"),
            ("0 0 30 2 *", "never comes due"),
        ] {
            let error = wrong.parse::<Schedule>().map(drop).unwrap_err().to_string();
            assert!(error.contains(part), "{wrong:?}: {error}");
        }
    }
}
