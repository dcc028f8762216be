//! Native Rust closures as actions, with the same semantics as plugins.
//!
//! They are part of the host: granted everything, not isolated, and the baseline of the benchmarks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Action, Conflict, Dispatcher, Identity, Kind, Outcome, Route};
use crate::call::{Call, PublishOptions, Refusal};
use crate::message::{Headers, Message, Payload};
use crate::topic::{Pattern, TopicName};

/// A message as a native action sees it: the seed's `BrokerRequest`.
#[derive(Debug, Clone)]
pub struct Request {
    message: Arc<Message>,
    attempt: u32,
    call: Arc<Mutex<Option<Call>>>,
}

/// What a native action returns: the seed's `BrokerResponse`. `None` is an empty success; headers of the payload are
/// changes on top of the request's.
pub type Response = Option<Payload>;

/// How a native action fails: the seed's `BrokerResponseException`, and more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The message is wrong: 400, never retried.
    #[error("{0}")]
    Rejected(String),
    /// The action cannot do it: 500, never retried.
    #[error("{0}")]
    Failed(String),
    /// Try again, after this time or as the policy says.
    #[error("{0}")]
    Retry(String, Option<Duration>),
}

impl From<Refusal> for ResponseError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(text) => Self::Retry(text, None),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Request {
    /// The message.
    #[must_use]
    pub fn raw(&self) -> &Message {
        &self.message
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.message.payload.headers
    }

    /// The user header as a UUID; the pipeline refuses messages whose user header is none.
    #[must_use]
    pub fn user(&self) -> Option<Uuid> {
        self.message.user().ok().flatten()
    }

    /// Whether there is content.
    #[must_use]
    pub fn has_content(&self) -> bool {
        !self.message.payload.content.is_empty()
    }

    /// The content, shared.
    #[must_use]
    pub fn content(&self) -> Bytes {
        self.message.payload.content.clone()
    }

    /// The content read as JSON.
    ///
    /// # Errors
    /// [`ResponseError::Rejected`] with the place of the error.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ResponseError> {
        self.message
            .payload
            .parse_json()
            .map_err(|error| ResponseError::Rejected(format!("the content is malformed: {error}")))
    }

    /// 1 for the first time.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Publishes when, and only when, the action succeeds.
    ///
    /// # Errors
    /// See [`Call::publish`].
    pub fn publish(
        &self,
        topic: TopicName,
        payload: Payload,
        options: PublishOptions,
    ) -> Result<(), Refusal> {
        self.with(|call| call.publish(topic, payload, options))
    }

    /// Asks another handler.
    ///
    /// # Errors
    /// A [`Refusal`]; a time-out is [`Refusal::Unavailable`].
    pub async fn request(
        &self,
        topic: TopicName,
        payload: Payload,
        timeout: Duration,
    ) -> Result<Arc<Message>, Refusal> {
        let (client, message) = self.with(|call| call.begin_request(topic, payload))?;
        Ok(client.request(message, timeout).await?)
    }

    /// Reads a value of the state.
    ///
    /// # Errors
    /// A [`Refusal`] when the store fails.
    pub async fn state_get(&self, key: &str) -> Result<Option<Bytes>, Refusal> {
        if let Some(known) = self.with(|call| call.state_known(key))? {
            return Ok(known);
        }
        let access = self.with(|call| Ok(call.access().clone()))?;
        let versioned = access.store.state_get(&access.plugin, key).await?;
        let value = versioned.value.clone();
        self.with(|call| {
            call.state_read(key, versioned);
            Ok(value)
        })
    }

    /// Writes a value of the state, visible together with the acknowledgement; `None` deletes.
    ///
    /// # Errors
    /// A [`Refusal`] when a limit is exceeded.
    pub fn state_set(&self, key: &str, value: Option<Bytes>) -> Result<(), Refusal> {
        self.with(|call| call.state_write(key, value))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Call) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        match call.as_mut() {
            Some(call) => f(call),
            None => Err(Refusal::Unavailable(
                "the action has returned; what outlives it cannot act for it".to_owned(),
            )),
        }
    }
}

type Callback =
    dyn Fn(Request) -> BoxFuture<'static, Result<Response, ResponseError>> + Send + Sync;

struct Native {
    callback: Box<Callback>,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Native")
    }
}

#[async_trait]
impl Action for Native {
    async fn call(&self, call: Call) -> (Call, Outcome) {
        let (message, attempt, access) =
            (call.message.clone(), call.attempt, call.access().clone());
        let (route, began_ms) = (call.route, call.began_ms);
        let shared = Arc::new(Mutex::new(Some(call)));
        let request = Request {
            message: message.clone(),
            attempt,
            call: shared.clone(),
        };
        let result = tokio::time::timeout(access.limits.time, (self.callback)(request)).await;
        let call = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let call = call.unwrap_or_else(|| Call::new(access, message, attempt, route, began_ms));
        let outcome = match result {
            Ok(Ok(response)) => Outcome::Done(response),
            Ok(Err(ResponseError::Rejected(text))) => Outcome::Rejected(text),
            Ok(Err(ResponseError::Failed(text))) => Outcome::Failed(text),
            Ok(Err(ResponseError::Retry(reason, after))) => Outcome::Retry { reason, after },
            Err(elapsed) => Outcome::Crashed {
                reason: crate::store::Reason::Timeout,
                error: elapsed.to_string(),
            },
        };
        (call, outcome)
    }

    fn identity(&self) -> Identity {
        Identity::default()
    }
}

impl Dispatcher {
    /// Adds a native action.
    ///
    /// # Errors
    /// [`Conflict`] when the topic already has a command or query.
    ///
    /// ```
    /// use sandbar::dispatch::{Dispatcher, Kind};
    /// let mut dispatcher = Dispatcher::default();
    /// dispatcher.action(Kind::Query, "user.get".parse()?, |request| async move {
    ///     Ok(Some(request.raw().payload.clone()))
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn action<F, Fut>(&mut self, kind: Kind, topic: Pattern, action: F) -> Result<(), Conflict>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, ResponseError>> + Send + 'static,
    {
        let index = u32::try_from(self.routes().len()).unwrap_or(u32::MAX);
        self.add(Route {
            topic,
            kind,
            description: String::new(),
            index,
            action: Arc::new(Native {
                callback: Box::new(move |request| Box::pin(action(request))),
            }),
        })
    }
}
