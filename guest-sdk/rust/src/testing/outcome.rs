//! What goes into the testing host and what comes out of it: deliveries, outcomes, published messages, log lines.

use std::time::Duration;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Host, rules};
use crate::content::{self, IntoResponse};
use crate::error::{Error, Failure, Result};
use crate::headers::Headers;
use crate::log::Level;
use crate::publish::{Outgoing, Reply, Strategy};
use crate::request::Meta;
use crate::response::{Response, Status};

/// A message on its way to a handler, until [`Delivery::send`]. Made by [`Host::message`].
#[derive(Debug)]
#[must_use = "nothing is delivered before `send` is called"]
pub struct Delivery<'host> {
    host: &'host mut Host,
    meta: Meta,
    payload: Result<Response>,
    /// The periodic handler, instead of those of the topic.
    handler: Option<&'static str>,
}

impl<'host> Delivery<'host> {
    pub(super) fn new(host: &'host mut Host, topic: &str, content: impl IntoResponse) -> Self {
        let meta = Meta {
            id: host.next_id().to_string(),
            topic: topic.to_owned(),
            attempt: 1,
            budget_ms: 5_000,
            ..Meta::default()
        };
        let payload = content.into_response().map(Option::unwrap_or_default);
        Self {
            host,
            meta,
            payload,
            handler: None,
        }
    }

    /// Goes to this periodic handler.
    pub(super) fn to(mut self, handler: &'static str) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Sets the identifier.
    pub fn id(mut self, id: Uuid) -> Self {
        self.meta.id = id.to_string();
        self
    }

    /// Sets a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.payload = self.payload.map(|payload| payload.header(name, value));
        self
    }

    /// Sets the header `user`.
    pub fn user(self, user: Uuid) -> Self {
        self.header("user", user.to_string())
    }

    /// Asks for a reply.
    pub fn reply_topic(mut self, topic: impl Into<String>) -> Self {
        self.meta.reply_topic = Some(topic.into());
        self
    }

    /// Says which attempt it is, instead of the first.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.meta.attempt = attempt;
        self
    }

    /// Runs the topic's handler. If there are several (for an event), all of them run, and the outcome is that of the
    /// first one that failed, or of the first one.
    pub fn send(self) -> Outcome {
        let whom = match self.handler {
            Some(handler) => format!("no periodic handler `{handler}`"),
            None => format!("no handler for topic `{}`", self.meta.topic),
        };
        let mut outcomes = self.send_each();
        let index = outcomes.iter().position(|it| it.result.is_err());
        if outcomes.is_empty() {
            return Outcome::failed(Error::failed(whom));
        }
        outcomes.swap_remove(index.unwrap_or(0))
    }

    /// Runs all handlers of the topic, each with its own outcome.
    pub fn send_each(self) -> Vec<Outcome> {
        let Self {
            host,
            mut meta,
            payload,
            handler,
        } = self;
        let payload = match payload.and_then(|payload| {
            rules::payload(&payload.content, &payload.headers).map_err(Error::rejected)?;
            Ok(payload)
        }) {
            Ok(payload) => payload,
            Err(error) => return vec![Outcome::failed(error)],
        };
        meta.headers = payload.headers.into();
        meta.status = payload.status;
        let routes = match handler {
            Some(handler) => host.scheduled(handler).into_iter().collect(),
            None => host.routes(&meta.topic),
        };
        routes
            .into_iter()
            .map(|route| host.call(route, meta.clone(), payload.content.clone()))
            .collect()
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub(super) handler: &'static str,
    pub(super) result: Result<Option<Reply>>,
}

impl Outcome {
    fn failed(error: Error) -> Self {
        Self {
            handler: "",
            result: Err(error),
        }
    }

    /// The function that was called; empty if there was none.
    #[must_use]
    pub fn handler(&self) -> &'static str {
        self.handler
    }

    /// Whether the handler succeeded: its message would be acknowledged. The reply may still have another status.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }

    /// The status that the sender sees: the reply's, 400 if rejected, 500 if failed or given up after retrying.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.result {
            Ok(reply) => reply.as_ref().map_or(Status::Success, Reply::status),
            Err(error) => status(error),
        }
    }

    /// The reply, with the headers of its request and the handler's changes on top.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        self.result.as_ref().ok()?.as_ref()
    }

    /// The error.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.result.as_ref().err()
    }

    /// The content of the reply, decoded from JSON.
    ///
    /// # Errors
    /// The handler's own, or [`Error::failed`] if there is no reply or it doesn't fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        match &self.result {
            Ok(Some(reply)) => reply.json(),
            Ok(None) => Err(Error::failed("no reply")),
            Err(error) => Err(error.clone()),
        }
    }

    /// The content of the reply as text; empty if there is none.
    #[must_use]
    pub fn text(&self) -> String {
        self.reply().map(Reply::text).unwrap_or_default()
    }
}

/// The status of an error.
pub(super) fn status(error: &Error) -> Status {
    match error.0 {
        Failure::Rejected(_) => Status::Error,
        Failure::Failed(_) | Failure::Retry { .. } => Status::SystemError,
    }
}

/// The reply to a request with these headers.
pub(super) fn reply(request: &Headers, response: Response) -> Reply {
    let changed = |name: &str| {
        let mut changes = response.headers.iter();
        changes.any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let kept = request.iter().filter(|(name, _)| !changed(name));
    let set = response
        .headers
        .iter()
        .filter(|(_, value)| !value.is_empty());
    let headers: Vec<(String, String)> = kept
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain(set.cloned())
        .collect();
    Reply {
        headers: headers.into(),
        content: response.content,
        status: response.status,
    }
}

/// A message that a handler published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it went.
    pub topic: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// The headers that the handler set.
    pub headers: Headers,
    /// The status.
    pub status: Status,
    /// Who receives it.
    pub strategy: Strategy,
    /// Messages with the same key stay in order.
    pub key: Option<String>,
    /// Not delivered before this much time has passed.
    pub delay: Option<Duration>,
    /// The identifier, if the handler chose one.
    pub id: Option<String>,
    /// Where the answer shall go.
    pub reply_topic: Option<String>,
}

impl Published {
    /// The content, decoded from JSON.
    ///
    /// # Errors
    /// [`Error::failed`] with the path of the field that doesn't fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        content::decode(&self.content).map_err(Error::failed)
    }
}

impl From<Outgoing> for Published {
    fn from(message: Outgoing) -> Self {
        Self {
            topic: message.topic,
            content: message.payload.content,
            headers: message.payload.headers.into(),
            status: message.payload.status,
            strategy: message.strategy,
            key: message.key,
            delay: message.delay,
            id: message.id,
            reply_topic: message.reply_topic,
        }
    }
}

/// A line that a handler logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}
