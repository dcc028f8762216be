//! What goes wrong between us and RabbitMQ, in words that an operator can act upon.
//!
//! It decides nothing: whether to try again is the caller's business.

use std::time::Duration;

use lapin::ErrorKind;

use crate::backend::{BackendError, PublishError, SettleError};

/// How long one exchange of words with the server may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The server's reasons that somebody here acts upon: <https://www.rabbitmq.com/amqp-0-9-1-reference#constants>.
mod code {
    pub(super) const ACCESS_REFUSED: u16 = 403;
    pub(super) const NOT_FOUND: u16 = 404;
    pub(super) const RESOURCE_LOCKED: u16 = 405;
    pub(super) const PRECONDITION_FAILED: u16 = 406;
    pub(super) const NOT_ALLOWED: u16 = 530;
}

/// Something did not happen, or it is unknown whether it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    /// The server's own code, if it was the server that refused.
    code: Option<u16>,
    /// The server said nothing at all.
    silence: bool,
    text: String,
}

impl Failure {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            code: None,
            silence: false,
            text: text.into(),
        }
    }

    /// Whether the server didn't answer in time.
    pub(super) fn is_silence(&self) -> bool {
        self.silence
    }

    /// Whether the queue that was named doesn't exist.
    pub(super) fn no_queue(&self) -> bool {
        self.not_found() && self.text.contains("no queue")
    }

    pub(super) fn not_found(&self) -> bool {
        self.code == Some(code::NOT_FOUND)
    }

    pub(super) fn locked(&self) -> bool {
        self.code == Some(code::RESOURCE_LOCKED)
    }

    /// Whether the server said no for a reason that stays.
    pub(super) fn refused(&self) -> bool {
        matches!(
            self.code,
            Some(code::ACCESS_REFUSED | code::PRECONDITION_FAILED | code::NOT_ALLOWED)
        )
    }
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => Self {
                code: Some(refusal.get_id()),
                silence: false,
                text: format!("RabbitMQ says: {}", refusal.get_message()),
            },
            ErrorKind::IOError(error) => {
                Self::new(format!("the connection to RabbitMQ failed: {error}"))
            }
            ErrorKind::MissingHeartbeatError => {
                Self::new("RabbitMQ has been silent for two heartbeats; the connection is given up")
            }
            ErrorKind::InvalidChannel(_)
            | ErrorKind::InvalidChannelState(..)
            | ErrorKind::InvalidConnectionState(_) => {
                Self::new("the connection to RabbitMQ has ended")
            }
            _ => Self::new(format!("RabbitMQ: {error}")),
        }
    }
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        if failure.refused() {
            Self::Invalid(failure.text)
        } else {
            Self::Unavailable(failure.text)
        }
    }
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.text)
    }
}

impl From<Failure> for SettleError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.text)
    }
}

/// Waits for the server, but not for ever.
pub(super) async fn answer<T>(
    question: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure {
            silence: true,
            ..Failure::new(format!("RabbitMQ has not answered for {ANSWER:?}"))
        }),
    }
}
