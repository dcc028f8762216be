//! The message that a handler was called with, and what is known about it. Not the way to answer it: see `response`.

use std::convert::Infallible;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::content::decode;
use crate::error::{Error, Result};
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

impl Meta {
    pub(crate) fn user(&self) -> Option<Uuid> {
        self.headers.get("user")?.parse().ok()
    }
}

/// A whole message, for handlers that want more than its decoded content: the seed's `BrokerRequest`.
///
/// ```
/// use sandbar_guest::testing::Host;
/// use sandbar_guest::{Request, Result, Uuid, command};
///
/// #[command("user.rename")]
/// fn rename(request: Request) -> Result<String> {
///     assert!(request.has_content() && request.user().is_some());
///     assert_eq!((request.attempt(), request.header("trace")), (1, Some("abc")));
///     // Parameters are those of a path; only a request over HTTP has a path.
///     assert!(!request.has_params() && request.params().is_err_and(|error| error.is_failed()));
///     request.json()
/// }
///
/// sandbar_guest::plugin!(rename);
///
/// # fn main() {
/// let mut host = Host::new(PLUGIN);
/// let message = host.message("user.rename", "\"Ann\"").header("trace", "abc");
/// assert_eq!(message.user(Uuid::from_u128(1)).send().text(), "Ann");
/// # }
/// ```
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

    /// Whether there are any bytes.
    #[must_use]
    pub fn has_content(&self) -> bool {
        !self.content.is_empty()
    }

    /// The bytes of the message, read as JSON.
    ///
    /// # Errors
    /// [`Error::rejected`] with the path of the field that is wrong.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        decode(&self.content).map_err(Error::rejected)
    }

    /// Whether there are parameters: never, they belong to the path of a request over HTTP.
    #[must_use]
    pub fn has_params(&self) -> bool {
        false
    }

    /// The parameters of a path.
    ///
    /// # Errors
    /// Always [`Error::failed`], so that a handler that needs them ends with 500, as in the seed.
    pub fn params(&self) -> Result<Infallible> {
        Err(Error::failed("a message has no params"))
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

    /// The user on whose behalf the message was sent: the header `user`.
    #[must_use]
    pub fn user(&self) -> Option<Uuid> {
        self.meta.user()
    }

    /// 1 at the first delivery of the message to this handler.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.meta.attempt
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
