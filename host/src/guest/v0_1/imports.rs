//! What a guest of `sandbar:messaging/plugin@0.1` may ask the host for.
//!
//! Everything goes to the [`Call`] in progress, which decides; this file only translates.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::error::TooRandom;
use super::bindings::sandbar::messaging::{
    client, config, log, publisher, state, system, text, types,
};
use super::{State, from_guest, topic};
use crate::call::{Call, PublishOptions, Refusal};
use crate::client::{Client, RequestError};
use crate::message::{Message, Status, Strategy};
use crate::store::Answer;

fn loading() -> Refusal {
    Refusal::Forbidden("no message is being handled; `routes` may only declare".to_owned())
}

impl State {
    fn call(&mut self) -> Result<&mut Call, Refusal> {
        self.call.as_mut().ok_or_else(loading)
    }

    async fn state_value(&mut self, key: &str) -> Result<Option<Bytes>, Refusal> {
        let call = self.call()?;
        if let Some(known) = call.state_known(key)? {
            return Ok(known);
        }
        let access = call.access().clone();
        let versioned = access.store.state_get(&access.plugin, key).await?;
        let value = versioned.value.clone();
        self.call()?.state_read(key, versioned);
        Ok(value)
    }

    async fn add(&mut self, key: &str, delta: i64) -> Result<i64, state::StateError> {
        let value = self.state_value(key).await?;
        let number = match value {
            None => 0,
            Some(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or(state::StateError::NotANumber)?,
        };
        let sum = number
            .checked_add(delta)
            .ok_or(state::StateError::NotANumber)?;
        self.put(key, sum.to_string().into()).await?;
        Ok(sum)
    }

    /// Buffers a value. The store is asked how much there is only if it may be too much.
    async fn put(&mut self, key: &str, value: Bytes) -> Result<(), Refusal> {
        let call = self.call()?;
        call.state_check(key, Some(&value))?;
        if !call.state_fits(key, &value) {
            self.make_room(key, &value).await?;
        }
        self.call()?.state_write(key, Some(value))
    }

    async fn make_room(&mut self, key: &str, value: &Bytes) -> Result<(), Refusal> {
        let access = self.call()?.access().clone();
        let stored = access.store.state_size(&access.plugin).await?;
        // A store that does not know it has no limit.
        access.hits.kept().learn(stored.unwrap_or(0));
        let call = self.call()?;
        let Some(stored) = stored.filter(|_| !call.state_fits(key, value)) else {
            return Ok(());
        };
        for key in call.state_unknown(key) {
            let held = access.store.state_get(&access.plugin, &key).await?;
            self.call()?.state_holds(key, held.value.as_ref());
        }
        self.call()?.state_room(key, value, stored)
    }
}

impl types::Host for State {}

impl publisher::Host for State {
    fn publish(
        &mut self,
        to: String,
        payload: types::PayloadResult,
        options: Option<publisher::Options>,
    ) -> Result<(), publisher::PublishError> {
        let to = topic(&to)?;
        let payload = from_guest(payload, false)?;
        let options = match options {
            None => PublishOptions::default(),
            Some(options) => PublishOptions {
                strategy: match options.strategy {
                    types::Strategy::Unicast => Strategy::Unicast,
                    types::Strategy::Multicast => Strategy::Multicast,
                },
                key: options.key,
                delay: Duration::from_millis(options.delay_ms.unwrap_or(0)),
                identifier: match options.id {
                    None => None,
                    Some(id) => Some(uuid::Uuid::parse_str(&id).map_err(|_| {
                        publisher::PublishError::Invalid(format!("identifier {id:?} is not a UUID"))
                    })?),
                },
                reply_topic: options.reply_topic.as_deref().map(topic).transpose()?,
            },
        };
        Ok(self.call()?.publish(to, payload, options)?)
    }
}

impl client::Host for State {
    async fn request(
        &mut self,
        to: String,
        payload: types::PayloadResult,
        timeout_ms: u32,
    ) -> Result<types::MessageResult, client::RequestError> {
        let to = topic(&to)?;
        let payload = from_guest(payload, false)?;
        // Nobody waits longer than the call may take.
        let now = tokio::time::Instant::now();
        let left = self.deadline.map(|end| end.saturating_duration_since(now));
        let timeout = Duration::from_millis(timeout_ms.into());
        let timeout = left.map_or(timeout, |left| timeout.min(left));
        let call = self.call()?;
        let message = call.request_message(to, payload)?;
        let (to, content) = (message.topic.clone(), message.payload.content.clone());
        let answer = match call.answered(&message) {
            Some(answer) => answer,
            None => ask(&*call.client()?, message, timeout).await,
        };
        self.call()?.asked(to, content, answer.clone());
        match answer {
            Ok(reply) => Ok(to_guest(&reply)),
            Err(Answer::Unavailable(why)) => Err(client::RequestError::Unavailable(why)),
            Err(_) => Err(client::RequestError::Timeout),
        }
    }
}

async fn ask(client: &Client, message: Message, timeout: Duration) -> Result<Arc<Message>, Answer> {
    let reply = client.request(message, timeout).await;
    reply.map_err(|error| match error {
        RequestError::Timeout { .. } => Answer::Timeout,
        error => Answer::Unavailable(error.to_string()),
    })
}

fn to_guest(message: &Message) -> types::MessageResult {
    let headers = message.payload.headers.iter();
    types::MessageResult {
        id: message.identifier.to_string(),
        topic: message.topic.to_string(),
        reply_topic: message.reply_topic.as_ref().map(ToString::to_string),
        strategy: match message.strategy {
            Strategy::Unicast => types::Strategy::Unicast,
            Strategy::Multicast => types::Strategy::Multicast,
        },
        payload: types::PayloadResult {
            content: message.payload.content.to_vec(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            status: match message.payload.status {
                Status::Success => types::Status::Success,
                Status::Error => types::Status::Error,
                Status::SystemError => types::Status::SystemError,
                Status::Unknown => types::Status::Unknown,
            },
        },
    }
}

impl state::Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, state::StateError> {
        Ok(self.state_value(&key).await?.map(|value| value.to_vec()))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), state::StateError> {
        Ok(self.put(&key, value.into()).await?)
    }

    fn delete(&mut self, key: String) -> Result<(), state::StateError> {
        Ok(self.call()?.state_write(&key, None)?)
    }

    async fn increment(&mut self, key: String, delta: i64) -> Result<i64, state::StateError> {
        self.add(&key, delta).await
    }

    async fn list_keys(
        &mut self,
        prefix: String,
        cursor: Option<String>,
    ) -> Result<state::KeyPage, state::StateError> {
        const PAGE: usize = 256;
        let call = self.call()?;
        call.check_state()?;
        let access = call.access().clone();
        let stored = access
            .store
            .state_keys(&access.plugin, &prefix, cursor.as_deref(), PAGE)
            .await;
        let stored = stored.map_err(Refusal::from)?;
        self.call()?.listed(&prefix, cursor.as_deref(), &stored);
        let next = (stored.len() == PAGE)
            .then(|| stored.last().cloned())
            .flatten();
        let keys =
            self.call()?
                .state_merge_keys(&prefix, cursor.as_deref(), next.as_deref(), stored);
        Ok(state::KeyPage { keys, cursor: next })
    }
}

impl config::Host for State {
    fn get(&mut self, name: String) -> Option<String> {
        self.config.values.get(&name).cloned()
    }

    fn all(&mut self) -> Vec<(String, String)> {
        self.config
            .values
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl system::Host for State {
    fn now(&mut self) -> u64 {
        self.chance.now_ns()
    }

    fn random(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        if len > TooRandom::MOST {
            return Err(TooRandom(len).into());
        }
        Ok(self.chance.bytes(len as usize))
    }

    fn uuid(&mut self) -> String {
        self.chance.uuid().to_string()
    }
}

impl text::Host for State {
    fn decode(&mut self, bytes: Vec<u8>) -> Result<String, u32> {
        String::from_utf8(bytes)
            .map_err(|error| u32::try_from(error.utf8_error().valid_up_to()).unwrap_or(u32::MAX))
    }

    fn encode(&mut self, text: String) -> Vec<u8> {
        text.into_bytes()
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) {
        let level = match level {
            log::Level::Trace => tracing::Level::TRACE,
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        self.log_line(level, &message, &fields);
    }
}

impl From<Refusal> for publisher::PublishError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(text) => Self::Forbidden(text),
            Refusal::Invalid(text) => Self::Invalid(text),
            Refusal::Limit(text) | Refusal::Unavailable(text) => Self::Limit(text),
        }
    }
}

impl From<Refusal> for client::RequestError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(text) => Self::Forbidden(text),
            Refusal::Invalid(text) => Self::Invalid(text),
            Refusal::Limit(text) => Self::Limit(text),
            Refusal::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<Refusal> for state::StateError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(text) => Self::Forbidden(text),
            Refusal::Invalid(text) | Refusal::Limit(text) => Self::Limit(text),
            Refusal::Unavailable(text) => Self::Unavailable(text),
        }
    }
}
