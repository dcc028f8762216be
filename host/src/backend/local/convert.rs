//! Between what is said on the socket and the values of the host, in both directions: what `From` writes, `read` reads.
//!
//! What goes out is here, what is delivered and settled in [`delivered`], errors in [`errors`]. Names and headers are
//! checked again where they are read, so that nothing illegal gets in through the socket.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Illegible, detach};
use super::protocol::{Blob, Mark, Note, Sent, Spec};
use crate::backend::{Destination, Outgoing, QueueName, QueueSpec, Token};
use crate::message::{Headers, Message, Payload, Status};

mod delivered;
mod errors;
mod operation;

/// A name, a topic or a pattern.
pub(super) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, Illegible> {
    text.parse().map_err(|error| Illegible(format!("{error}")))
}

pub(super) fn list<T, U>(
    items: Vec<T>,
    read: impl FnMut(T) -> Result<U, Illegible>,
) -> Result<Vec<U>, Illegible> {
    items.into_iter().map(read).collect()
}

impl From<Token> for Mark {
    fn from(Token { id, fence }: Token) -> Self {
        Self { id, fence }
    }
}

impl From<Mark> for Token {
    fn from(Mark { id, fence }: Mark) -> Self {
        Self { id, fence }
    }
}

impl<'a> From<&'a QueueSpec> for Spec<'a> {
    fn from(spec: &'a QueueSpec) -> Self {
        Self {
            name: spec.name.as_str(),
            group: &spec.group,
            topics: spec.topics.iter().map(|pattern| pattern.as_str()).collect(),
            dead_letter: spec.dead_letter.as_ref().map(QueueName::as_str),
            lease: spec.lease,
            ephemeral: spec.ephemeral,
        }
    }
}

impl Spec<'_> {
    pub(super) fn read(self) -> Result<QueueSpec, Illegible> {
        Ok(QueueSpec {
            name: parse(self.name)?,
            group: self.group.to_owned(),
            topics: list(self.topics, parse)?,
            dead_letter: self.dead_letter.map(parse).transpose()?,
            lease: self.lease,
            ephemeral: self.ephemeral,
            receiving: None,
        })
    }
}

impl<'a> From<&'a Message> for Note<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            topic: message.topic.as_str(),
            identifier: message.identifier,
            reply_topic: message.reply_topic.as_ref().map(|topic| topic.as_str()),
            strategy: message.strategy,
            status: message.payload.status.code(),
            headers: message.payload.headers.iter().collect(),
            content: Blob(&message.payload.content),
        }
    }
}

impl Note<'_> {
    pub(super) fn read(self, frame: &Bytes) -> Result<Message, Illegible> {
        let mut headers = Headers::default();
        for (name, value) in self.headers {
            headers
                .insert(name, value)
                .map_err(|error| Illegible(error.to_string()))?;
        }
        Ok(Message {
            topic: parse(self.topic)?,
            identifier: self.identifier,
            reply_topic: self.reply_topic.map(parse).transpose()?,
            strategy: self.strategy,
            payload: Payload {
                content: detach(frame, self.content.0),
                headers,
                status: Status::from_code(self.status.into()),
            },
        })
    }
}

impl<'a> From<&'a Outgoing> for Sent<'a> {
    fn from(outgoing: &'a Outgoing) -> Self {
        let queue = match &outgoing.to {
            Destination::Topic => None,
            Destination::Queue(name) => Some(name.as_str()),
        };
        Self {
            queue,
            message: (&outgoing.message).into(),
            key: outgoing.key.as_deref(),
            delay: outgoing.delay,
            mandatory: outgoing.mandatory,
            route: outgoing.route,
        }
    }
}

impl Sent<'_> {
    pub(super) fn read(self, frame: &Bytes) -> Result<Outgoing, Illegible> {
        Ok(Outgoing {
            to: match self.queue {
                None => Destination::Topic,
                Some(name) => Destination::Queue(parse(name)?),
            },
            message: self.message.read(frame)?,
            key: self.key.map(Arc::from),
            delay: self.delay,
            mandatory: self.mandatory,
            route: self.route,
            identity: None,
        })
    }
}
