//! Why a connection is of no use any more, in the words of each seam.

use crate::backend::{BackendError, PublishError, SettleError};
use crate::store::StoreError;

/// The connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Lost {
    /// It was closed on this side.
    Closed,
    /// The owner ended it, with a sentence about it.
    Gone(String),
}

impl Lost {
    pub(super) fn gone(place: &str) -> Self {
        Self::Gone(format!(
            "the host of `{place}` has gone; start it again, or connect again when it runs"
        ))
    }

    pub(super) fn illegible(place: &str, error: &str) -> Self {
        Self::Gone(format!(
            "the host of `{place}` cannot be understood: {error}; use the same release of sandbar for both"
        ))
    }
}

impl From<Lost> for BackendError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Closed,
            Lost::Gone(text) => Self::Unavailable(text),
        }
    }
}

impl From<Lost> for PublishError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Closed,
            Lost::Gone(text) => Self::Unavailable(text),
        }
    }
}

impl From<Lost> for SettleError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Closed,
            Lost::Gone(text) => Self::Unavailable(text),
        }
    }
}

impl From<Lost> for StoreError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Unavailable("the connection to the host is closed".to_owned()),
            Lost::Gone(text) => Self::Unavailable(text),
        }
    }
}
