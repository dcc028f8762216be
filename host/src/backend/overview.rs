//! What waits in a broker, for an operator who looks.
//!
//! Numbers of one moment, and not all of them of the same one; nothing is decided by them.

use super::{BackendError, QueueSpec};

/// The queues of a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// Each of them, by name.
    pub queues: Vec<QueueStatus>,
    /// Messages that wait in topics to which no queue is bound.
    pub kept: u64,
    /// Messages wait elsewhere too, and where that can be seen; `None`: this is everything.
    pub beyond: Option<String>,
}

/// What waits in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// What it is.
    pub spec: QueueSpec,
    /// Messages that the next receiver gets.
    pub ready: u64,
    /// Messages that were delivered and are not settled.
    pub in_flight: u64,
    /// Messages that were published for later and never tried.
    pub delayed: u64,
    /// Messages that failed and wait for another attempt.
    pub retrying: u64,
    /// Messages that wait for an earlier one of their key, as far as the broker has read them.
    pub parked: u64,
    /// When the oldest of all these was published, milliseconds since 1970-01-01 UTC.
    pub oldest_ms: Option<i64>,
    /// Receivers that wait for a message at this moment. With none, and messages in flight, all of them are busy.
    pub receivers: u64,
}

impl QueueStatus {
    /// All messages that it has.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.waiting() + self.in_flight
    }

    /// Those that purging would remove: all but what is in flight.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.ready + self.delayed + self.retrying + self.parked
    }
}

/// What a broker says that has its own tools for this.
pub(super) fn unsupported(kind: &str) -> BackendError {
    BackendError::Invalid(format!(
        "broker `{kind}` does not tell what waits in it; look with the tools of the broker itself"
    ))
}
