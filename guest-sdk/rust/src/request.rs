//! The message that a handler was called with, and what is known about it. Not the way to answer it: see `response`.

use std::rc::Rc;

use crate::headers::Headers;
use crate::publish::Strategy;
use crate::response::Status;

/// Everything about a message except its content. Shared by the request and the context of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) reply_topic: Option<String>,
    pub(crate) strategy: Strategy,
    pub(crate) headers: Headers,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    pub(crate) budget_ms: u32,
}

/// A whole message, for handlers that want more than its decoded content.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) meta: Rc<Meta>,
    pub(crate) content: Vec<u8>,
}

impl Request {
    /// The bytes of the message, at most 1 MiB.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The bytes of the message, without copying them.
    #[must_use]
    pub fn into_content(self) -> Vec<u8> {
        self.content
    }

    /// What the bytes are, as far as the sender said so.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.meta.headers.get("content-type")
    }

    /// The UUID of the message; the reply carries the same.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.meta.id
    }

    /// The topic it came on: never a pattern.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.meta.topic
    }

    /// Where a reply is wanted, if at all.
    #[must_use]
    pub fn reply_topic(&self) -> Option<&str> {
        self.meta.reply_topic.as_deref()
    }

    /// Who else gets this message.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.meta.strategy
    }

    /// The status that the sender gave it: other than [`Status::Success`] only if the message is itself a reply.
    #[must_use]
    pub fn status(&self) -> Status {
        self.meta.status
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.meta.headers
    }

    /// One header; case doesn't matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.meta.headers.get(name)
    }
}
