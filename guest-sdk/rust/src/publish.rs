//! Sending messages and asking other handlers. Nothing leaves before the handler has succeeded: the host holds back
//! what is published until then.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::backend;
use crate::content::{self, IntoResponse};
use crate::error::Error;
use crate::headers::Headers;
use crate::response::{Response, Status};

/// Who receives a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// One consumer of one group.
    #[default]
    Unicast,
    /// Every subscribed group gets a copy.
    Multicast,
}

/// Why a message could not be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// The operator has not granted this topic.
    Forbidden(String),
    /// Topic, header, key, identifier or content is malformed.
    Invalid(String),
    /// A limit of this plugin is used up.
    Limit(String),
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// The operator has not granted this topic.
    Forbidden(String),
    /// Topic, header or content is malformed.
    Invalid(String),
    /// A limit of this plugin is used up.
    Limit(String),
    /// No answer came in time.
    Timeout,
    /// The broker or the other handler can't be reached.
    Unavailable(String),
}

/// A message with all that a sender can say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) payload: Response,
    pub(crate) strategy: Strategy,
    pub(crate) key: Option<String>,
    pub(crate) delay: Option<Duration>,
    pub(crate) id: Option<String>,
    pub(crate) reply_topic: Option<String>,
}

/// A message on its way out, until [`Publish::publish`] hands it to the host. Made by
/// [`Context::message`](crate::Context::message).
///
/// ```
/// # use sandbar_guest::{Context, Json, PublishError};
/// # use std::time::Duration;
/// # fn remind(ctx: &Context) -> Result<(), PublishError> {
/// ctx.message("order.reminder", Json("o-1"))
///     .multicast()
///     .key("o-1")
///     .delay(Duration::from_secs(3600))
///     .header("reason", "unpaid")
///     .publish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is published before `publish` is called"]
pub struct Publish {
    outgoing: Result<Outgoing, Error>,
}

impl Publish {
    pub(crate) fn new(topic: &str, content: impl IntoResponse) -> Self {
        let outgoing = content.into_response().map(|payload| Outgoing {
            topic: topic.to_owned(),
            payload: payload.unwrap_or_default(),
            strategy: Strategy::default(),
            key: None,
            delay: None,
            id: None,
            reply_topic: None,
        });
        Self { outgoing }
    }

    fn with(mut self, change: impl FnOnce(&mut Outgoing)) -> Self {
        if let Ok(outgoing) = &mut self.outgoing {
            change(outgoing);
        }
        self
    }

    /// Every subscribed group gets a copy, instead of one consumer of one group.
    pub fn multicast(self) -> Self {
        self.strategy(Strategy::Multicast)
    }

    /// Who receives it.
    pub fn strategy(self, strategy: Strategy) -> Self {
        self.with(|it| it.strategy = strategy)
    }

    /// Messages with the same key stay in order.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|it| it.key = Some(key.into()))
    }

    /// Not delivered before this much time has passed (counted in milliseconds).
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|it| it.delay = Some(delay))
    }

    /// The identifier, a UUID; the host makes one otherwise.
    pub fn id(self, id: impl ToString) -> Self {
        self.with(|it| it.id = Some(id.to_string()))
    }

    /// Where the answer shall go.
    pub fn reply_topic(self, topic: impl Into<String>) -> Self {
        self.with(|it| it.reply_topic = Some(topic.into()))
    }

    /// Sets a header. Trace headers and `user` are taken from the handled message unless they are set here.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|it| it.payload = std::mem::take(&mut it.payload).header(name, value))
    }

    /// Sets the status.
    pub fn status(self, status: Status) -> Self {
        self.with(|it| it.payload.status = status)
    }

    /// Hands the message to the host, which sends it when the handler has succeeded.
    ///
    /// # Errors
    /// See [`PublishError`]; content that can't be encoded is [`PublishError::Invalid`].
    pub fn publish(self) -> Result<(), PublishError> {
        let outgoing = self
            .outgoing
            .map_err(|error| PublishError::Invalid(error.text().to_owned()))?;
        backend::publish(outgoing)
    }
}

/// Asks and waits.
pub(crate) fn request(
    topic: &str,
    content: impl IntoResponse,
    timeout: Duration,
) -> Result<Reply, RequestError> {
    let payload = content
        .into_response()
        .map_err(|error| RequestError::Invalid(error.text().to_owned()))?
        .unwrap_or_default();
    backend::request(topic, payload, millis_u32(timeout))
}

fn millis_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// What another handler answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub(crate) content: Vec<u8>,
    pub(crate) headers: Headers,
    pub(crate) status: Status,
}

impl Reply {
    /// How it ended there.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The bytes.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The bytes, without copying them.
    #[must_use]
    pub fn into_content(self) -> Vec<u8> {
        self.content
    }

    /// The bytes as text; what isn't UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// The content as a value.
    ///
    /// # Errors
    /// [`Error::failed`] with the path of the field that doesn't fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        content::decode(&self.content).map_err(Error::failed)
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// One header; case doesn't matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(text) => write!(f, "publish forbidden: {text}"),
            Self::Invalid(text) => write!(f, "publish invalid: {text}"),
            Self::Limit(text) => write!(f, "publish limit: {text}"),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(text) => write!(f, "request forbidden: {text}"),
            Self::Invalid(text) => write!(f, "request invalid: {text}"),
            Self::Limit(text) => write!(f, "request limit: {text}"),
            Self::Timeout => f.write_str("request timed out"),
            Self::Unavailable(text) => write!(f, "request unavailable: {text}"),
        }
    }
}

impl std::error::Error for PublishError {}
impl std::error::Error for RequestError {}
