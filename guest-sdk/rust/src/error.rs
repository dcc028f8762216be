//! How a handler fails. Not a bag for causes: the three cases are what the host does next.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::publish::RequestError;
use crate::state::StateError;

/// The result of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a message was not handled, by what the host does about it.
///
/// `?` turns any error that implements [`std::error::Error`] into [`Error::failed`], except for those of the host's
/// that pass by themselves: state or another handler that is not available, and a request without an answer in time.
/// These become [`Error::retry`].
///
/// Whatever the handler published or stored before it failed is discarded.
///
/// ```
/// use sandbar_guest::{Error, Result};
///
/// fn total(text: &str) -> Result<u32> {
///     let total = text.trim().parse::<u32>()?;
///     if total == 0 {
///         return Err(Error::rejected("total: must be at least 1"));
///     }
///     Ok(total)
/// }
///
/// assert_eq!(total("x"), Err(Error::failed("invalid digit found in string")));
/// ```
// It does not implement `std::error::Error`: the conversion from everything that does would overlap with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub(crate) Failure);

/// The cases of [`Error`], for those who look inside: tests, mostly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Rejected(String),
    Failed(String),
    Retry {
        reason: String,
        after: Option<Duration>,
    },
}

impl Error {
    /// The message is wrong and will never be right: status 400 with this text, no second attempt.
    #[must_use]
    pub fn rejected(text: impl Into<String>) -> Self {
        Self(Failure::Rejected(text.into()))
    }

    /// The message can't be handled: status 500 with this text, no second attempt.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self(Failure::Failed(text.into()))
    }

    /// Something is missing for now: the message comes again as the retry policy says (unless the operator changed
    /// it, up to 5 attempts, 200 ms apart at first and twice as long each time, up to a minute).
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self(Failure::Retry {
            reason: reason.into(),
            after: None,
        })
    }

    /// Like [`Error::retry`], but with the time until the next attempt (counted in milliseconds).
    #[must_use]
    pub fn retry_after(reason: impl Into<String>, after: Duration) -> Self {
        Self(Failure::Retry {
            reason: reason.into(),
            after: Some(after),
        })
    }

    /// Whether the message was found wrong (400).
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self.0, Failure::Rejected(_))
    }

    /// Whether the message couldn't be handled (500).
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.0, Failure::Failed(_))
    }

    /// Whether the message shall come again.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        matches!(self.0, Failure::Retry { .. })
    }

    /// The time until the next attempt, if the handler chose it.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        match &self.0 {
            Failure::Retry { after, .. } => *after,
            Failure::Rejected(_) | Failure::Failed(_) => None,
        }
    }

    /// The text that goes with it.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.0 {
            Failure::Rejected(text) | Failure::Failed(text) => text,
            Failure::Retry { reason, .. } => reason,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Failure::Rejected(_) => "rejected",
            Failure::Failed(_) => "failed",
            Failure::Retry { .. } => "retry",
        };
        write!(f, "{kind}: {}", self.text())
    }
}

impl<E: StdError + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let text = error.to_string();
        if passes(&error) {
            Self::retry(text)
        } else {
            Self::failed(text)
        }
    }
}

/// Whether an error is one of the host's that may be gone at the next attempt.
fn passes(error: &dyn Any) -> bool {
    let state = error.downcast_ref::<StateError>();
    let request = error.downcast_ref::<RequestError>();
    matches!(state, Some(StateError::Unavailable(_)))
        || matches!(
            request,
            Some(RequestError::Timeout | RequestError::Unavailable(_))
        )
}
