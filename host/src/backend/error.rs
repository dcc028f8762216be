//! Why a broker refused or failed, by what the caller does next.

use super::QueueName;
use crate::store::Reason;
use crate::topic::TopicName;

/// Why a call to a backend failed, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// It will never work this way.
    #[error("{0}")]
    Invalid(String),
    /// There is no such queue.
    #[error("there is no queue `{0}`; declare it first")]
    UnknownQueue(QueueName),
    /// The backend was closed.
    #[error("the broker connection is closed")]
    Closed,
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Larger than this backend takes; nothing was sent.
    #[error(
        "the content has {size} bytes and the broker takes {limit}; send less, or a reference to it"
    )]
    TooLarge {
        /// Bytes of the content.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// It will never work this way.
    #[error("{0}")]
    Invalid(String),
    /// A mandatory message without a queue for it.
    #[error("no queue is bound to topic `{0}`")]
    Unroutable(TopicName),
    /// The queue that was named does not exist.
    #[error("there is no queue `{0}`; declare it first")]
    UnknownQueue(QueueName),
    /// A bounded queue is full; try again later.
    #[error("queue `{0}` is full; wait until its consumers catch up")]
    Full(QueueName),
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The backend was closed.
    #[error("the broker connection is closed")]
    Closed,
}

impl PublishError {
    /// Why the message will never be accepted, if that is so.
    pub(crate) fn for_good(&self) -> Option<Reason> {
        match self {
            Self::TooLarge { .. } => Some(Reason::TooLarge),
            Self::Invalid(_) => Some(Reason::Malformed),
            Self::Unroutable(_) | Self::UnknownQueue(_) => Some(Reason::NoHandler),
            Self::Full(_) | Self::Unavailable(_) | Self::Closed => None,
        }
    }
}

/// Why a delivery was not settled; it will be delivered again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The lease ran out, or the token is of another delivery.
    #[error("the delivery was not settled in time and belongs to another attempt")]
    Stale,
    /// State that the handler read has changed since.
    #[error("state changed while the message was handled; it is handled again")]
    Conflict,
    /// Something that it publishes was refused.
    #[error("a message that it publishes was refused: {0}")]
    Refused(PublishError),
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The backend was closed.
    #[error("the broker connection is closed")]
    Closed,
}
