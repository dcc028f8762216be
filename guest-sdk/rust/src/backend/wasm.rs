//! The host's interfaces as generated from `wit/v0.1`, translated to and from the types of the SDK.

use std::time::Duration;

use crate::bindings::sandbar::messaging as wit;
use crate::log::Level;
use crate::publish::{Outgoing, PublishError, Reply, RequestError, Strategy};
use crate::response::Response;
use crate::state::StateError;

pub(crate) fn publish(message: Outgoing) -> Result<(), PublishError> {
    use wit::publisher::PublishError as Refused;

    let options = options(&message);
    let Outgoing { topic, payload, .. } = message;
    wit::publisher::publish(&topic, &payload.into(), options.as_ref()).map_err(
        |error| match error {
            Refused::Forbidden(text) => PublishError::Forbidden(text),
            Refused::Invalid(text) => PublishError::Invalid(text),
            Refused::Limit(text) => PublishError::Limit(text),
        },
    )
}

/// `None` if there is nothing to say, which spares the host reading it.
fn options(message: &Outgoing) -> Option<wit::publisher::Options> {
    let options = wit::publisher::Options {
        strategy: match message.strategy {
            Strategy::Unicast => wit::types::Strategy::Unicast,
            Strategy::Multicast => wit::types::Strategy::Multicast,
        },
        key: message.key.clone(),
        delay_ms: message.delay.map(millis),
        id: message.id.clone(),
        reply_topic: message.reply_topic.clone(),
    };
    let plain = message.strategy == Strategy::Unicast
        && options.key.is_none()
        && options.delay_ms.is_none()
        && options.id.is_none()
        && options.reply_topic.is_none();
    (!plain).then_some(options)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn request(
    topic: &str,
    payload: Response,
    timeout_ms: u32,
) -> Result<Reply, RequestError> {
    use wit::client::RequestError as Refused;

    let message =
        wit::client::request(topic, &payload.into(), timeout_ms).map_err(|error| match error {
            Refused::Forbidden(text) => RequestError::Forbidden(text),
            Refused::Invalid(text) => RequestError::Invalid(text),
            Refused::Limit(text) => RequestError::Limit(text),
            Refused::Timeout => RequestError::Timeout,
            Refused::Unavailable(text) => RequestError::Unavailable(text),
        })?;
    Ok(Reply {
        content: message.payload.content,
        headers: message.payload.headers.into(),
        status: message.payload.status.into(),
    })
}

impl From<wit::state::StateError> for StateError {
    fn from(error: wit::state::StateError) -> Self {
        use wit::state::StateError as Refused;
        match error {
            Refused::Forbidden(text) => Self::Forbidden(text),
            Refused::Limit(text) => Self::Limit(text),
            Refused::NotANumber => Self::NotANumber,
            Refused::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    Ok(wit::state::get(key)?)
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), StateError> {
    Ok(wit::state::set(key, value)?)
}

pub(crate) fn state_delete(key: &str) -> Result<(), StateError> {
    Ok(wit::state::delete(key)?)
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, StateError> {
    Ok(wit::state::increment(key, delta)?)
}

/// One page of keys, and where the next one begins.
pub(crate) fn state_list(
    prefix: &str,
    cursor: Option<&str>,
) -> Result<(Vec<String>, Option<String>), StateError> {
    let page = wit::state::list_keys(prefix, cursor)?;
    Ok((page.keys, page.cursor))
}

pub(crate) fn config_get(name: &str) -> Option<String> {
    wit::config::get(name)
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    wit::config::all()
}

/// Nanoseconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    wit::system::now()
}

pub(crate) fn random(len: u32) -> Vec<u8> {
    wit::system::random(len)
}

pub(crate) fn uuid() -> String {
    wit::system::uuid()
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    let level = match level {
        Level::Trace => wit::log::Level::Trace,
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    };
    wit::log::log(level, message, &fields);
}
