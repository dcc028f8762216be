//! What outlives a message besides the message itself: plugin state and dead letters.
//!
//! The trait is what the pipeline and the operator's verbs need; SQL for it is under `store/` and nowhere else. A
//! backend that owns its store ([`crate::backend::Capabilities::transactional`]) implements both and commits them
//! together.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::Packet;

#[doc(hidden)]
pub mod bare;
mod history;
mod journal;
mod letter;
mod letters;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod recorded;
mod report;
mod row;
mod spec;
pub(crate) mod sqlite;

pub use history::{FailedAttempt, History};
pub use journal::{
    Answer, Blob, BodyEnd, FetchFailure, FetchFailureKind, Fetched, Journal, Parting, Step,
};
pub use letters::{
    KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LetterSummary, LettersDone,
    ReplayTo, Retention,
};
#[cfg(feature = "postgres")]
#[doc(hidden)]
pub use postgres::bare as bare_postgres;
pub(crate) use recorded::Recorded;
pub use report::{Frame, Report, Used};

/// Plugin state and dead letters.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The value of a key as far as it is decided (settled, if perhaps not yet on disk), and its version.
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError>;

    /// Up to `limit` keys with a prefix, in byte order, after the key `after`.
    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Bytes of all keys and values of a plugin, as far as they are decided. Cheap: it is asked before a write that may be
    /// too much. `None` from a store that does not know; nothing is limited then.
    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        let _ = plugin;
        Ok(None)
    }

    /// Dead letters, the newest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// Up to `limit` dead letters of a selection without their messages, the newest first, those with smaller numbers
    /// than `before` only. A store may give fewer at once; the page says where the next one begins.
    async fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let _ = (filter, before, limit);
        Err(StoreError::unsupported())
    }

    /// A dead letter with everything that is kept of it.
    async fn letter(&self, id: u64) -> Result<Option<KeptLetter>, StoreError> {
        let _ = id;
        Err(StoreError::unsupported())
    }

    /// How many dead letters a selection has.
    async fn count_letters(&self, filter: &LetterFilter) -> Result<LetterCounts, StoreError> {
        let _ = filter;
        Err(StoreError::unsupported())
    }

    /// Makes messages of dead letters again, as they were, with no attempt counted. Each letter is removed in the
    /// transaction that publishes its message; one that is refused stays.
    async fn replay_letters(
        &self,
        part: &LetterPart,
        to: &ReplayTo,
    ) -> Result<LettersDone, StoreError> {
        let _ = (part, to);
        Err(StoreError::unsupported())
    }

    /// Removes dead letters for good.
    async fn purge_letters(&self, part: &LetterPart) -> Result<LettersDone, StoreError> {
        let _ = part;
        Err(StoreError::unsupported())
    }
}

/// A value with the version that a later write may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// `None`: the key has no value.
    pub value: Option<Bytes>,
    /// Differs whenever the value may have changed; says nothing else.
    pub version: u64,
}

/// What one call did to the state of its plugin. Valid only while every key that was read still has the version that
/// was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEffects {
    /// Whose state.
    pub plugin: Arc<str>,
    /// Keys with the versions that were read.
    pub reads: Vec<(Arc<str>, u64)>,
    /// Keys with their new values; `None` deletes.
    pub writes: Vec<(Arc<str>, Option<Bytes>)>,
}

/// A message that will not be delivered again, with what an operator needs to decide about it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The message as it arrived.
    pub packet: Packet,
    /// Why.
    pub reason: Reason,
    /// What exactly, for people.
    pub error: String,
    /// The plugin that it was for, if one was found.
    pub plugin: Option<String>,
    /// The digest of that plugin's component.
    pub digest: Option<String>,
    /// The queue that it waited in.
    pub queue: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it ended, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// What the last attempt left behind; moves to the [history](History::report) when the letter is kept.
    pub report: Option<Box<Report>>,
}

/// Why a message became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The handler said that the message is wrong (400).
    Rejected,
    /// The handler said that it cannot do it (500).
    Failed,
    /// Retries were used up.
    Attempts,
    /// The last attempt took longer than allowed.
    Timeout,
    /// The last attempt crashed the guest.
    Trap,
    /// The last attempt wanted more memory than allowed.
    Memory,
    /// It cannot be decoded, or a header that the host reads is malformed.
    Malformed,
    /// Nothing handles its topic.
    NoHandler,
    /// Its content or headers exceed a limit.
    TooLarge,
    /// The plugin may not do what it tried.
    Forbidden,
    /// The handler asked to be tried again; the reason of an attempt, never of a dead letter.
    Retry,
    /// It hit a limit that has no reason of its own; the error says which.
    Limit,
}

impl Reason {
    /// The word that is stored and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Attempts => "attempts",
            Self::Timeout => "timeout",
            Self::Trap => "trap",
            Self::Memory => "memory",
            Self::Malformed => "malformed",
            Self::NoHandler => "no-handler",
            Self::TooLarge => "too-large",
            Self::Forbidden => "forbidden",
            Self::Limit => "limit",
            Self::Retry => "retry",
        }
    }
}

impl Reason {
    /// Every reason that a dead letter can have.
    pub const ALL: [Self; 11] = [
        Self::Rejected,
        Self::Failed,
        Self::Attempts,
        Self::Timeout,
        Self::Trap,
        Self::Memory,
        Self::Malformed,
        Self::NoHandler,
        Self::TooLarge,
        Self::Forbidden,
        Self::Limit,
    ];
}

impl std::str::FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        known.ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is not the reason of a dead letter; use one of {all}")
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("{0}")]
    Corrupt(String),
    /// This store cannot do it.
    #[error("{0}")]
    Unsupported(String),
}

impl StoreError {
    /// What a store says that keeps dead letters and does nothing else with them.
    fn unsupported() -> Self {
        Self::Unsupported(
            "this store does not work on dead letters; use the tools of its broker".to_owned(),
        )
    }
}
