//! What became of a message so far: the attempts that failed, kept with it until it succeeds or becomes a dead letter.
//!
//! Pure data, bounded in number and size. When there is another attempt is decided elsewhere.

use serde::{Deserialize, Serialize};

use super::{Reason, Report};

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// 1 for the first time.
    pub attempt: u32,
    /// When it ended, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Why.
    pub reason: Reason,
    /// What exactly, for people; at most [`LONGEST`](Self::LONGEST) bytes.
    pub error: String,
}

impl FailedAttempt {
    /// The most bytes of an error that are kept.
    pub const LONGEST: usize = 1024;

    /// An attempt with as much of its error as is kept.
    #[must_use]
    pub fn new(attempt: u32, at_ms: i64, reason: Reason, error: &str) -> Self {
        Self {
            attempt,
            at_ms,
            reason,
            error: cut(error, Self::LONGEST),
        }
    }
}

/// The attempts of a message that failed: when the first one did, and the last ones in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When the first attempt failed, milliseconds since 1970-01-01 UTC.
    pub first_ms: i64,
    /// The last attempts, at most [`MOST`](Self::MOST), the oldest first.
    pub last: Vec<FailedAttempt>,
    /// What the last one left behind; kept with dead letters only.
    #[serde(default)]
    pub report: Option<Box<Report>>,
}

impl History {
    /// The most attempts that are kept.
    pub const MOST: usize = 10;

    /// What there is after another attempt.
    #[must_use]
    pub fn after(before: Option<&Self>, failed: FailedAttempt) -> Self {
        let Some(before) = before else {
            return Self {
                first_ms: failed.at_ms,
                last: vec![failed],
                report: None,
            };
        };
        let skipped = (before.last.len() + 1).saturating_sub(Self::MOST);
        let mut last: Vec<FailedAttempt> = before.last.iter().skip(skipped).cloned().collect();
        last.push(failed);
        Self {
            first_ms: before.first_ms,
            last,
            report: None,
        }
    }
}

/// The beginning of a text, marked if there is more.
pub(crate) fn cut(text: &str, most: usize) -> String {
    const MORE: char = '…';
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(MORE.len_utf8()));
    let mut beginning = text.get(..end).unwrap_or_default().to_owned();
    beginning.push(MORE);
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_errors_are_cut_between_characters() {
        for (text, most, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "lo…"),
            ("ääää", 7, "ää…"),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, most), expected);
        }
        let failed = FailedAttempt::new(1, 0, Reason::Trap, &"x".repeat(5000));
        assert_eq!(failed.error.len(), FailedAttempt::LONGEST);
    }

    #[test]
    fn the_first_moment_and_the_last_attempts_are_kept() {
        let mut history: Option<History> = None;
        for attempt in 1..=25 {
            let failed = FailedAttempt::new(attempt, i64::from(attempt), Reason::Retry, "no");
            history = Some(History::after(history.as_ref(), failed));
        }
        let history = history.unwrap();
        let attempts: Vec<u32> = history.last.iter().map(|failed| failed.attempt).collect();
        assert_eq!(history.first_ms, 1);
        assert_eq!(attempts, (16..=25).collect::<Vec<_>>());
    }
}
