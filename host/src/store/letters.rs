//! Dead letters as an operator deals with them: what is kept of each, how some are selected, and what became of them.
//!
//! Data only. Where they are kept is the store's business, and how they look is that of the command line.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::history::cut;
use super::{DeadLetter, FailedAttempt, History, Reason};
use crate::topic::{Pattern, TopicName};

/// The most bytes of the error of a dead letter.
const LONGEST_ERROR: usize = 16 << 10;

/// A dead letter as it is kept: what the settlement said, and what the broker knew of the message.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptLetter {
    /// Its number, greater than that of every earlier one, never given twice.
    pub id: u64,
    /// The message with why it ended here.
    pub letter: DeadLetter,
    /// The key whose order the message kept.
    pub key: Option<Arc<str>>,
    /// The route of the plugin that it was meant for alone.
    pub route: Option<u32>,
    /// When the message was published, milliseconds since 1970-01-01 UTC.
    pub published_ms: i64,
    /// Its failed attempts, the last of which made it a dead letter.
    pub history: History,
}

impl KeptLetter {
    /// What is kept of a letter whose message failed `before`.
    pub(crate) fn new(id: u64, mut letter: DeadLetter, before: Option<&History>) -> Self {
        letter.error = cut(&letter.error, LONGEST_ERROR);
        let (attempts, at_ms, reason) = (letter.attempts, letter.at_ms, letter.reason);
        let last = FailedAttempt::new(attempts, at_ms, reason, &letter.error);
        let report = letter.report.take();
        Self {
            id,
            letter,
            key: None,
            route: None,
            published_ms: 0,
            history: History {
                report,
                ..History::after(before, last)
            },
        }
    }
}

/// A dead letter without its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterSummary {
    /// Its number.
    pub id: u64,
    /// When the last attempt ended, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// When the first attempt ended.
    pub first_ms: i64,
    /// Why it ended.
    pub reason: Reason,
    /// The beginning of what exactly, for people.
    pub error: String,
    /// The topic of the message.
    pub topic: String,
    /// The identifier of the message, if it has one.
    pub identifier: Option<Uuid>,
    /// Bytes of its content.
    pub bytes: u64,
    /// The plugin that it was for.
    pub plugin: Option<String>,
    /// The queue that it waited in.
    pub queue: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl LetterSummary {
    pub(crate) fn error_of(error: &str) -> String {
        cut(error, FailedAttempt::LONGEST)
    }
}

/// Some dead letters, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterPage {
    /// The letters.
    pub letters: Vec<LetterSummary>,
    /// Where the next page begins: before this number. `None`: this was the last page.
    pub next: Option<u64>,
}

/// Which dead letters; one that says nothing selects all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterFilter {
    /// Only these numbers; empty: any.
    pub ids: Vec<u64>,
    /// Only this message.
    pub identifier: Option<Uuid>,
    /// Only messages of these topics.
    #[serde(with = "as_text")]
    pub topic: Option<Pattern>,
    /// Only those for this plugin.
    pub plugin: Option<String>,
    /// Only those that ended for this reason.
    pub reason: Option<Reason>,
    /// Only those that waited in this queue.
    pub queue: Option<String>,
    /// Only those that ended before this moment, milliseconds since 1970-01-01 UTC.
    pub before_ms: Option<i64>,
    /// Only those that ended at this moment or later.
    pub since_ms: Option<i64>,
}

impl LetterFilter {
    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A part of a selection, worked on from the oldest letter to the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterPart {
    /// Which.
    pub filter: LetterFilter,
    /// Only greater numbers.
    pub after: u64,
    /// No greater number than this.
    pub until: u64,
    /// At most so many; a store may do fewer at once.
    pub limit: usize,
}

/// Where a replayed message goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayTo {
    /// To the queue that it came from, or to its topic when that queue is gone.
    #[default]
    Origin,
    /// To the queues that are bound to its topic now.
    Topic,
    /// To another topic.
    Other(#[serde(with = "as_text")] TopicName),
}

/// What became of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LettersDone {
    /// How many were replayed or purged.
    pub done: u64,
    /// Those that were not, with the reason; they stay.
    pub refused: Vec<(u64, String)>,
    /// Where the next part begins: after this number. `None`: this was the last one.
    pub next: Option<u64>,
}

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterCounts {
    /// By reason, the most frequent first.
    pub reasons: Vec<(Reason, u64)>,
    /// The greatest number of one of them.
    pub last: Option<u64>,
}

impl LetterCounts {
    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.reasons.iter().map(|(_, count)| count).sum()
    }
}

/// How long dead letters are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older ones are removed.
    pub keep: Duration,
    /// The oldest beyond this number are removed, not at once but soon.
    pub most: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(30 * 24 * 60 * 60),
            most: 1_000_000,
        }
    }
}

/// Topics and patterns as their text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) trait Text: Sized {
        fn write(&self) -> Option<String>;
        fn read(text: Option<String>) -> Result<Self, String>;
    }

    impl Text for crate::topic::TopicName {
        fn write(&self) -> Option<String> {
            Some(self.to_string())
        }

        fn read(text: Option<String>) -> Result<Self, String> {
            parse(&text.unwrap_or_default())
        }
    }

    impl Text for Option<crate::topic::Pattern> {
        fn write(&self) -> Option<String> {
            self.as_ref().map(ToString::to_string)
        }

        fn read(text: Option<String>) -> Result<Self, String> {
            text.as_deref().map(parse).transpose()
        }
    }

    fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|error| format!("{error}"))
    }

    pub(super) fn serialize<T: Text, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.write().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::read(Option::deserialize(from)?).map_err(D::Error::custom)
    }
}
