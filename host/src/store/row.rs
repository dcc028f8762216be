//! A message as columns: topic, key, metadata as JSON, and the content as it is.
//!
//! It knows no SQL. What cannot be read back is reported, never guessed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

use crate::message::{Headers, Message, Payload, Status, Strategy};
use crate::store::History;
use crate::topic::TopicName;
use crate::wire::{Packet, RawPacket};

/// The columns of a message that don't depend on its queue.
#[derive(Debug)]
pub(crate) struct Columns {
    pub(super) topic: TopicName,
    pub(super) key: Option<Arc<str>>,
    pub(super) meta: String,
    pub(super) body: Bytes,
}

/// The column `meta`. What has its usual value is left out.
#[derive(Serialize, Deserialize)]
struct Meta<'a> {
    id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    reply_topic: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_unicast")]
    strategy: Strategy,
    #[serde(default = "success", skip_serializing_if = "is_success")]
    status: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty", borrow)]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<u32>,
}

/// The column `meta` of a dead letter that came from another broker.
#[derive(Serialize, Deserialize)]
struct RawMeta {
    raw: RawParts,
}

#[derive(Serialize, Deserialize)]
struct RawParts {
    broker_id: Option<String>,
    properties: Vec<(String, String)>,
}

fn is_unicast(strategy: &Strategy) -> bool {
    *strategy == Strategy::Unicast
}

fn success() -> i64 {
    i64::from(Status::Success.code())
}

fn is_success(status: &i64) -> bool {
    *status == success()
}

impl Columns {
    /// How a message is written.
    pub(crate) fn new(message: &Message, key: Option<Arc<str>>, route: Option<u32>) -> Self {
        Self {
            topic: message.topic.clone(),
            key,
            meta: meta(message, route),
            body: message.payload.content.clone(),
        }
    }

    /// The key whose order it keeps.
    #[cfg(feature = "postgres")]
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The bytes that it adds to a transaction, about.
    pub(crate) fn size(&self) -> usize {
        self.meta.len() + self.body.len() + 100
    }
}

fn meta(message: &Message, route: Option<u32>) -> String {
    let payload = &message.payload;
    let headers = payload
        .headers
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    json(&Meta {
        id: message.identifier,
        reply_topic: message
            .reply_topic
            .as_ref()
            .map(|topic| topic.as_str().into()),
        strategy: message.strategy,
        status: i64::from(payload.status.code()),
        headers,
        route,
    })
}

/// Strings, numbers and lists of them can always be written; without its metadata a row would be refused when read.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A message out of its columns, with its route.
pub(super) fn message(
    topic: &str,
    meta: &str,
    body: Vec<u8>,
) -> Result<(Message, Option<u32>), String> {
    let meta: Meta<'_> =
        serde_json::from_str(meta).map_err(|error| format!("column meta: {error}"))?;
    let mut headers = Headers::default();
    for (name, value) in &meta.headers {
        headers
            .insert(name, value)
            .map_err(|error| error.to_string())?;
    }
    let parse = |text: &str| text.parse::<TopicName>().map_err(|error| error.to_string());
    let message = Message {
        topic: parse(topic)?,
        identifier: meta.id,
        reply_topic: meta.reply_topic.as_deref().map(parse).transpose()?,
        strategy: meta.strategy,
        payload: Payload {
            content: body.into(),
            headers,
            status: Status::from_code(meta.status),
        },
    };
    Ok((message, meta.route))
}

/// Topic, metadata and content of whatever became a dead letter.
pub(super) fn packet_columns(packet: &Packet) -> (String, String, Vec<u8>) {
    match packet {
        Packet::Message(message) => {
            let body = message.payload.content.to_vec();
            (message.topic.as_str().to_owned(), meta(message, None), body)
        }
        Packet::Raw(raw) => {
            let parts = RawParts {
                broker_id: raw.broker_id.clone(),
                properties: raw.properties.clone(),
            };
            (
                raw.topic.clone(),
                json(&RawMeta { raw: parts }),
                raw.body.to_vec(),
            )
        }
    }
}

/// The column `history`.
pub(super) fn history_column(history: &History) -> String {
    json(history)
}

/// The reverse of [`history_column`]. A message is not lost for what cannot be read of its past.
pub(super) fn history(column: &str) -> Option<History> {
    serde_json::from_str(column).ok()
}

/// The reverse of [`packet_columns`].
pub(super) fn packet(topic: String, meta: &str, body: Vec<u8>) -> Result<Packet, String> {
    if let Ok(RawMeta { raw }) = serde_json::from_str(meta) {
        return Ok(Packet::Raw(RawPacket {
            topic,
            broker_id: raw.broker_id,
            properties: raw.properties,
            body: body.into(),
        }));
    }
    let (message, _) = message(&topic, meta, body)?;
    Ok(Packet::Message(Arc::new(message)))
}
