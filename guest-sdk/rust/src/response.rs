//! What a handler answers. Sending it is the host's business, and only if the sender asked for a reply.

use serde::Serialize;

use crate::error::Error;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// 200: it was done.
    #[default]
    Success,
    /// 400: the request was wrong.
    Error,
    /// 500: the request may be right, but could not be served.
    SystemError,
    /// 600: anything else.
    Unknown,
}

impl Status {
    /// The number that brokers carry: 200, 400, 500 or 600.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Success => 200,
            Self::Error => 400,
            Self::SystemError => 500,
            Self::Unknown => 600,
        }
    }

    /// The status of a number; any that isn't 200, 400 or 500 is [`Status::Unknown`].
    #[must_use]
    pub const fn from_code(code: u16) -> Self {
        match code {
            200 => Self::Success,
            400 => Self::Error,
            500 => Self::SystemError,
            _ => Self::Unknown,
        }
    }
}

/// Content with a status and changes to the headers.
///
/// A reply carries the headers of its request; those set here are put on top of them.
///
/// ```
/// use sandbar_guest::{Response, Status};
///
/// let response = Response::text("nothing left")
///     .status(Status::Error)
///     .header("retry-hint", "tomorrow")
///     .remove_header("trace");
/// assert_eq!(response.content(), b"nothing left");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub(crate) content: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) status: Status,
}

impl Response {
    /// Success with these bytes (at most 1 MiB). The content type is left as it is: a reply has that of its request.
    #[must_use]
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            ..Self::default()
        }
    }

    /// Success with a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into()).content_type("text/plain; charset=utf-8")
    }

    /// Success with a value as JSON.
    ///
    /// # Errors
    /// [`Error::failed`] if the value can't be written as JSON (a map with keys that aren't text, for example).
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let content = serde_json::to_vec(value)?;
        Ok(Self::new(content).content_type("application/json"))
    }

    /// Says what the bytes are.
    #[must_use]
    pub fn content_type(self, value: impl Into<String>) -> Self {
        self.header("content-type", value)
    }

    /// Sets a header. An empty value removes it.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_header(name, value);
        self
    }

    /// Sets a header of a response that somebody else made: in a hook, for example.
    pub fn set_header(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
    }

    /// Sets the content of a response that somebody else made, and leaves everything else as it is.
    pub fn set_content(&mut self, content: impl Into<Vec<u8>>) {
        self.content = content.into();
    }

    /// Sets the status of a response that somebody else made.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Removes a header that the reply would have from its request.
    #[must_use]
    pub fn remove_header(self, name: impl Into<String>) -> Self {
        self.header(name, "")
    }

    /// Sets the status.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// The bytes.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The status that it has so far.
    #[must_use]
    pub fn current_status(&self) -> Status {
        self.status
    }
}
