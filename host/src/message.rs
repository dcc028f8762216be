//! What travels: a message, its payload, who gets it and how it ended.
//!
//! Pure data with the rules that make it valid. It knows nothing of brokers, of how a message looks on a wire
//! ([`crate::wire`]) or of who handles it; it does no I/O and reads no clock.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::topic::{TopicError, TopicName};

/// The header that says what the content is, such as `application/json`.
pub const CONTENT_TYPE: &str = "content-type";
/// The header that carries the user on whose behalf a message was sent, a UUID.
pub const USER: &str = "user";
/// Headers that flow from a request to whatever its handler publishes, unless the handler overrides them.
pub const PROPAGATED: [&str; 4] = [USER, "traceparent", "tracestate", "baggage"];

/// A message, version 1: the seed's `BrokerMessageV1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes, or where it came from.
    pub topic: TopicName,
    /// Identifies the message; a reply carries the identifier of its request.
    pub identifier: Uuid,
    /// Where a reply is wanted, if at all.
    pub reply_topic: Option<TopicName>,
    /// How many of the subscribed groups receive it.
    pub strategy: Strategy,
    /// What it says.
    pub payload: Payload,
}

impl Message {
    /// The version of the message format.
    pub const VERSION: u32 = 1;

    /// A unicast message with a fresh identifier (UUID v7) and no reply topic.
    ///
    /// ```
    /// use sandbar::message::{Message, Payload};
    /// let message = Message::new("user.created".parse()?, Payload::json(&serde_json::json!({"id": 7}))?);
    /// assert!(!message.should_reply());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(topic: TopicName, payload: Payload) -> Self {
        Self::identified(Uuid::now_v7(), topic, payload)
    }

    /// The same with this identifier: a reply has that of its request.
    #[must_use]
    pub fn identified(identifier: Uuid, topic: TopicName, payload: Payload) -> Self {
        Self {
            topic,
            identifier,
            reply_topic: None,
            strategy: Strategy::Unicast,
            payload,
        }
    }

    /// The same message with a reply topic.
    #[must_use]
    pub fn with_reply_topic(mut self, topic: TopicName) -> Self {
        self.reply_topic = Some(topic);
        self
    }

    /// The same message with this identifier.
    #[must_use]
    pub fn with_identifier(mut self, identifier: Uuid) -> Self {
        self.identifier = identifier;
        self
    }

    /// The same message for every subscribed group.
    #[must_use]
    pub fn multicast(mut self) -> Self {
        self.strategy = Strategy::Multicast;
        self
    }

    /// Whether its sender wants a reply.
    #[must_use]
    pub fn should_reply(&self) -> bool {
        self.reply_topic.is_some()
    }

    /// Whether its status is exactly 200.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.payload.ok()
    }

    /// The user header as a UUID.
    ///
    /// # Errors
    /// [`InvalidUser`] when there is such a header and it is no UUID.
    pub fn user(&self) -> Result<Option<Uuid>, InvalidUser> {
        let Some(text) = self.payload.headers.get(USER) else {
            return Ok(None);
        };
        match Uuid::parse_str(text) {
            Ok(user) => Ok(Some(user)),
            Err(_) => Err(InvalidUser(text.chars().take(80).collect())),
        }
    }
}

/// The `user` header is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header `user` is \"{0}\", which is not a UUID; send a UUID or leave the header out")]
pub struct InvalidUser(pub String);

/// Content with its metadata: the seed's `BrokerMessageV1Payload`.
///
/// Content is never interpreted or coerced: the bytes that came in are the bytes that go out. Empty content is the
/// null of the seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// Any bytes, possibly none.
    pub content: Bytes,
    /// Text by name.
    pub headers: Headers,
    /// How a request ended; `Success` on anything that is no reply.
    pub status: Status,
}

impl Payload {
    /// Bytes without a content type.
    #[must_use]
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self {
            content: content.into(),
            ..Self::default()
        }
    }

    /// A value as JSON, with its content type.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let mut payload = Self::new(serde_json::to_vec(value)?);
        payload.headers.put(CONTENT_TYPE, "application/json");
        Ok(payload)
    }

    /// UTF-8 text, with its content type.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let mut payload = Self::new(text.into().into_bytes());
        payload
            .headers
            .put(CONTENT_TYPE, "text/plain; charset=utf-8");
        payload
    }

    /// The same payload with this status.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// The content read as JSON.
    ///
    /// # Errors
    /// When the content is not JSON of that shape.
    pub fn parse_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.content)
    }

    /// Whether the status is exactly 200.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status == Status::Success
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// 200
    #[default]
    Success,
    /// 400: the message is wrong.
    Error,
    /// 500: the handler could not do it.
    SystemError,
    /// 600, and every number that is none of the others.
    Unknown,
}

impl Status {
    /// The number that travels.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Success => 200,
            Self::Error => 400,
            Self::SystemError => 500,
            Self::Unknown => 600,
        }
    }

    /// Any number: what is not 200, 400 or 500 is unknown, never an error.
    #[must_use]
    pub fn from_code(code: i64) -> Self {
        match code {
            200 => Self::Success,
            400 => Self::Error,
            500 => Self::SystemError,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

/// Who receives a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One of the subscribed groups.
    #[default]
    Unicast,
    /// Every subscribed group gets a copy.
    Multicast,
}

/// Text by name. Names are ASCII, kept in lower case and compared without regard to case; values are UTF-8 without
/// control characters. The order of insertion is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Box<str>, Box<str>)>);

impl Headers {
    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// Sets a header, replacing an earlier value.
    ///
    /// # Errors
    /// [`HeaderError`] when the name or the value is not legal; nothing is changed then.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        check_name(name)?;
        if let Some(bad) = value.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(HeaderError::Value {
                name: name.to_owned(),
                bad,
            });
        }
        self.put(name, value);
        Ok(())
    }

    /// Removes a header.
    pub fn remove(&mut self, name: &str) {
        self.0
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Applies changes as a handler returns them: a value is set, an empty value removes the header.
    ///
    /// # Errors
    /// [`HeaderError`] at the first change that is not legal.
    pub fn apply<'a>(
        &mut self,
        changes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), HeaderError> {
        for (name, value) in changes {
            if value.is_empty() {
                check_name(name)?;
                self.remove(name);
            } else {
                self.insert(name, value)?;
            }
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// Names (in lower case) and values in the order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Sets what is known to be legal.
    pub(crate) fn put(&mut self, name: &str, value: &str) {
        match self
            .0
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            Some(slot) => slot.1 = value.into(),
            None => self
                .0
                .push((name.to_ascii_lowercase().into(), value.into())),
        }
    }
}

fn check_name(name: &str) -> Result<(), HeaderError> {
    let legal = |c: u8| c.is_ascii_graphic() && !matches!(c, b':' | b'"' | b'=');
    if name.is_empty() || name.len() > 256 || !name.bytes().all(legal) {
        return Err(HeaderError::Name(name.chars().take(80).collect()));
    }
    Ok(())
}

/// A header that is not legal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The name.
    #[error(
        "header name {0:?} is not legal; use 1 to 256 printable ASCII characters without space, `:`, `=` or `\"`"
    )]
    Name(String),
    /// The value.
    #[error(
        "header `{name}` holds the control character {bad:?}; header values are one line of text"
    )]
    Value {
        /// Whose value.
        name: String,
        /// The first character that may not be there.
        bad: char,
    },
}

/// Something that makes a message impossible to build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// Its topic or reply topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// One of its headers.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_status() {
        for (code, expected) in [
            (200, 200),
            (400, 400),
            (500, 500),
            (600, 600),
            (201, 600),
            (-1, 600),
        ] {
            assert_eq!(Status::from_code(code).code(), expected, "{code}");
        }
        assert!(!Payload::default().with_status(Status::Unknown).ok());
    }

    #[test]
    fn header_changes_set_replace_and_remove() -> Result<(), HeaderError> {
        let mut headers = Headers::default();
        headers.insert("Trace", "abc")?;
        headers.apply([("m", "1"), ("TRACE", "def")])?;
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("trace", "def"), ("m", "1")]
        );
        headers.apply([("trace", "")])?;
        assert_eq!(headers.get("trace"), None);
        Ok(())
    }

    #[test]
    fn illegal_headers_are_refused_and_change_nothing() {
        let mut headers = Headers::default();
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("ä", "x"),
            ("a:b", "x"),
            ("a", "x\r\ny"),
            ("a", "\u{1b}[2J"),
        ] {
            assert!(headers.insert(name, value).is_err(), "{name:?} {value:?}");
        }
        assert!(headers.is_empty());
    }

    #[test]
    fn a_user_is_a_uuid_or_an_error() {
        let mut message = Message::new("t".parse().unwrap(), Payload::default());
        assert_eq!(message.user(), Ok(None));
        message.payload.headers.put(USER, "zzz");
        assert!(message.user().is_err());
    }
}
