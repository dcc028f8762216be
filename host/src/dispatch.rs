//! Which action handles a message, and what its outcome means: the seed's `BrokerDispatcher`.
//!
//! Plugins and native Rust closures are actions alike. The dispatcher knows no broker: it turns an outcome into a verdict
//! and effects, and the pipeline commits them. Native actions with hooks, checks and middleware are declared in
//! [`enroute`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::call::Call;
use crate::message::Payload;
use crate::store::Reason;

mod conclude;
pub mod enroute;
mod guarded;
mod native;
mod request;
mod response;
mod table;

pub use conclude::{Circumstances, Conclusion, conclude, refuse};
pub use guarded::guarded;
pub use native::Callback;
pub use request::Request;
pub use response::{Answer, Response, ResponseError};
pub use table::{ActionNotFound, Conflict, Dispatcher, Route};

/// Something that handles messages.
#[async_trait]
pub trait Action: Send + Sync + fmt::Debug {
    /// Handles one message. What the call did counts only when the outcome is [`Outcome::Done`].
    async fn call(&self, call: Call) -> (Call, Outcome);

    /// The plugin's name and the digest of its component, for dead letters and logs.
    fn identity(&self) -> Identity;

    /// There is a newer version: whatever waits for its turn ends with [`Outcome::Superseded`], and so does whatever comes
    /// later if this one is `over`. What runs goes on.
    fn supersede(&self, over: bool) {
        let _ = over;
    }
}

/// Who handled a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The plugin's name.
    pub plugin: Option<Arc<str>>,
    /// The digest of its component.
    pub digest: Option<Arc<str>>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A payload whose headers are changes on top of the request's, or an empty success.
    Done(Option<Payload>),
    /// The message is wrong: 400, never retried.
    Rejected(String),
    /// The handler cannot do it: 500, never retried.
    Failed(String),
    /// Try again later.
    Retry {
        /// Why.
        reason: String,
        /// Instead of the policy's next delay.
        after: Option<Duration>,
    },
    /// It has not begun, and another version of the plugin is to handle the message.
    Superseded,
    /// The guest broke a limit or itself.
    Crashed {
        /// [`Reason::Trap`], [`Reason::Timeout`] or [`Reason::Memory`].
        reason: Reason,
        /// For the operator; never sent to the requester.
        error: String,
    },
}

impl Outcome {
    /// What it says, if it says something.
    pub(crate) fn text_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Done(_) | Self::Superseded => None,
            Self::Rejected(text)
            | Self::Failed(text)
            | Self::Retry { reason: text, .. }
            | Self::Crashed { error: text, .. } => Some(text),
        }
    }
}

/// What a route promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Changes something and may reply; one handler per topic.
    Command,
    /// Asks something and replies; one handler per topic.
    Query,
    /// Tells that something happened; every handler gets it and nobody replies.
    Event,
    /// Is to be done at certain times; no topic leads to it and nobody replies.
    Periodic,
}

impl Kind {
    /// Whether somebody may get what the handler returns; then a topic has one handler.
    #[must_use]
    pub fn replies(self) -> bool {
        matches!(self, Self::Command | Self::Query)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Query => "query",
            Self::Event => "event",
            Self::Periodic => "periodic",
        })
    }
}
