//! A message as a native action sees it, and what the action may do while it handles it.
//!
//! Everything that it does goes through its [`Call`]; what an action answers is in `dispatch/response.rs`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::ResponseError;
use crate::call::{Call, PublishOptions, Refusal};
use crate::message::{Headers, Message, Payload};
use crate::topic::TopicName;

/// A message as a native action sees it: the seed's `BrokerRequest`. Cheap to clone.
///
/// ```
/// use sandbar::dispatch::Request;
/// use sandbar::message::{Message, Payload};
///
/// let mut message = Message::new("user.get".parse()?, Payload::json(&7)?);
/// message.payload.headers.insert("user", "b3057bc1-8723-4ec7-8b6f-b36efd0f7284")?;
/// let request = Request::new(message);
/// assert!(request.has_content());
/// assert_eq!(request.content(), "7");
/// assert_eq!(request.json(), Ok(7));
/// assert_eq!(request.headers().get("content-type"), Some("application/json"));
/// assert!(request.user().is_some());
/// assert_eq!(request.raw().topic.as_str(), "user.get");
/// assert_eq!(request.attempt(), 1);
///
/// // Parameters are those of a path; only a request over HTTP has a path.
/// assert!(!request.has_params());
/// assert_eq!(request.params().map_err(|error| error.to_string()), Err("a message has no params".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    message: Arc<Message>,
    attempt: u32,
    call: Arc<Mutex<Option<Call>>>,
}

impl Request {
    /// A message that no host handles: its action can read everything and do nothing, so that it can be tested by
    /// itself. With a host around it, use [`Dispatcher::dispatch`](super::Dispatcher::dispatch).
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self {
            message: Arc::new(message),
            attempt: 1,
            call: Arc::default(),
        }
    }

    /// The message of a call. [`Request::take`] gives the call back.
    pub(super) fn of(call: Call) -> Self {
        Self {
            message: call.message.clone(),
            attempt: call.attempt,
            call: Arc::new(Mutex::new(Some(call))),
        }
    }

    /// Ends what clones of this request can do.
    pub(super) fn take(&self) -> Option<Call> {
        self.call
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn message(&self) -> &Arc<Message> {
        &self.message
    }

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
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ResponseError> {
        self.message
            .payload
            .parse_json()
            .map_err(|error| ResponseError::rejected(format!("the content is malformed: {error}")))
    }

    /// Whether there are parameters: never, they belong to the path of a request over HTTP.
    #[must_use]
    pub fn has_params(&self) -> bool {
        false
    }

    /// The parameters of a path.
    ///
    /// # Errors
    /// Always [`ResponseError::Failed`], so that an action that needs them ends with 500, as in the seed.
    pub fn params(&self) -> Result<Infallible, ResponseError> {
        Err(ResponseError::failed("a message has no params"))
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

    /// Asks another handler. The action keeps its turn meanwhile, so a handler that asks itself needs turns to spare.
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
                "no call is going on: the action has returned, or no host handles this message"
                    .to_owned(),
            )),
        }
    }
}
