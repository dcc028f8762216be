//! What a native action answers, and how it fails. The same words as in the Rust SDK for plugins.
//!
//! What becomes of either is decided in `dispatch/conclude.rs`.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::call::Refusal;
use crate::message::{CONTENT_TYPE, Headers, Payload, Status};

/// What a native action ends with.
pub type Answer = Result<Response, ResponseError>;

/// What a native action returns: the seed's `BrokerResponse`. Content with a status and changes to the headers.
///
/// A reply carries the headers of its request; those set here are put on top of them, and an empty value removes one. A
/// header that is not legal refuses the whole reply: the requester gets 500, and the message is kept as a dead letter.
///
/// ```
/// use sandbar::dispatch::Response;
/// use sandbar::message::{Payload, Status};
///
/// let response = Response::text("nothing left")
///     .status(Status::Error)
///     .header("retry-hint", "tomorrow")
///     .remove_header("trace");
/// assert_eq!(&response.content()[..], b"nothing left");
/// assert_eq!(response.current_status(), Status::Error);
/// assert_eq!(response.headers().get("trace"), Some(""), "to be removed");
///
/// // A payload is a response, and so is none.
/// assert_eq!(Response::from(Payload::text("x")), Response::text("x"));
/// assert_eq!(Response::from(None), Response::default());
/// assert_eq!(Response::json(&7)?.content(), "7");
/// # Ok::<(), sandbar::dispatch::ResponseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response(Payload);

impl Response {
    /// Success with these bytes, without a content type.
    #[must_use]
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self(Payload::new(content))
    }

    /// Success with a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self(Payload::text(text))
    }

    /// Success with a value as JSON.
    ///
    /// # Errors
    /// [`ResponseError::Failed`] if the value can't be written as JSON (a map with keys that aren't text, for example).
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, ResponseError> {
        Ok(Self(Payload::json(value)?))
    }

    /// Says what the bytes are.
    #[must_use]
    pub fn content_type(self, value: &str) -> Self {
        self.header(CONTENT_TYPE, value)
    }

    /// Sets a header. An empty value removes it.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.set_header(name, value);
        self
    }

    /// Removes a header that the reply would have from its request.
    #[must_use]
    pub fn remove_header(self, name: &str) -> Self {
        self.header(name, "")
    }

    /// Sets the status.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.set_status(status);
        self
    }

    /// Sets a header of a response that somebody else made: in a hook, for example.
    pub fn set_header(&mut self, name: &str, value: &str) {
        // Whether it is legal is asked when the reply is made, as for a guest.
        self.0.headers.put(name, value);
    }

    /// Sets the status of a response that somebody else made.
    pub fn set_status(&mut self, status: Status) {
        self.0.status = status;
    }

    /// Sets the content of a response that somebody else made, and leaves everything else as it is.
    pub fn set_content(&mut self, content: impl Into<Bytes>) {
        self.0.content = content.into();
    }

    /// The bytes.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.0.content
    }

    /// The changes to the request's headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// The status that it has so far.
    #[must_use]
    pub fn current_status(&self) -> Status {
        self.0.status
    }
}

impl From<Payload> for Response {
    fn from(payload: Payload) -> Self {
        Self(payload)
    }
}

/// `None` is an empty success.
impl From<Option<Payload>> for Response {
    fn from(payload: Option<Payload>) -> Self {
        Self(payload.unwrap_or_default())
    }
}

/// An empty success.
impl From<()> for Response {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Response> for Payload {
    fn from(response: Response) -> Self {
        response.0
    }
}

/// How a native action fails: the seed's `BrokerResponseException`, and more.
///
/// `?` turns any error that implements [`std::error::Error`] into [`ResponseError::Failed`], as any exception is a 500
/// in the seed, except for what the host refuses only for now ([`Refusal::Unavailable`]), which is a
/// [`ResponseError::Retry`]. Whatever the action published or stored before it failed is discarded.
///
/// ```
/// use sandbar::dispatch::{Response, ResponseError};
/// use sandbar::message::Status;
///
/// fn double(text: &str) -> Result<Response, ResponseError> {
///     let number: u32 = text.parse()?;
///     if number == 0 {
///         return Err(ResponseError::rejected("number: must be at least 1"));
///     }
///     Ok(Response::text((2 * number).to_string()))
/// }
///
/// assert_eq!(double("0").map_err(|error| error.status()), Err(Some(Status::Error)));
/// assert_eq!(double("x"), Err(ResponseError::failed("invalid digit found in string")));
/// assert_eq!(ResponseError::retry("busy").status(), None);
/// ```
// It does not implement `std::error::Error`: the conversion from everything that does would overlap with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseError {
    /// The message is wrong: 400, never retried.
    Rejected(String),
    /// The action cannot do it: 500, never retried.
    Failed(String),
    /// Try again, after this time or as the policy says.
    Retry(String, Option<Duration>),
}

impl ResponseError {
    /// The message is wrong and will never be right: status 400 with this text, no second attempt.
    #[must_use]
    pub fn rejected(text: impl Into<String>) -> Self {
        Self::Rejected(text.into())
    }

    /// The message can't be handled: status 500 with this text, no second attempt, kept as a dead letter.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Something is missing for now: the message comes again as the retry policy says.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(reason.into(), None)
    }

    /// Like [`ResponseError::retry`], but with the time until the next attempt.
    #[must_use]
    pub fn retry_after(reason: impl Into<String>, after: Duration) -> Self {
        Self::Retry(reason.into(), Some(after))
    }

    /// The status of the reply: 400 or 500; none when the message comes again. Any other status than these is not an
    /// error but a [`Response`] with that status.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Rejected(_) => Some(Status::Error),
            Self::Failed(_) => Some(Status::SystemError),
            Self::Retry(..) => None,
        }
    }

    /// The text that goes with it.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Rejected(text) | Self::Failed(text) | Self::Retry(text, _) => text,
        }
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<E: StdError + 'static> From<E> for ResponseError {
    fn from(error: E) -> Self {
        let text = error.to_string();
        let refusal = (&error as &dyn Any).downcast_ref::<Refusal>();
        if matches!(refusal, Some(Refusal::Unavailable(_))) {
            Self::retry(text)
        } else {
            Self::failed(text)
        }
    }
}
