//! The JSON envelope: all fields of a message in one object.
//!
//! Content that is JSON stands in `content` as it is, to the byte; other content stands in `content_base64`. Content is
//! never reformatted or coerced.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Malformed;
use crate::message::{Headers, InvalidMessage, Message, Payload, Status, Strategy};

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    identifier: Uuid,
    reply_topic: Option<&'a str>,
    strategy: Strategy,
    status: u16,
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
    version: u32,
}

#[derive(Deserialize)]
struct Read<'a> {
    topic: String,
    identifier: Option<Uuid>,
    reply_topic: Option<String>,
    #[serde(default)]
    strategy: Strategy,
    status: Option<i64>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(borrow, default, deserialize_with = "present")]
    content: Option<&'a RawValue>,
    content_base64: Option<String>,
}

/// `Option` alone would take the value null for a missing field.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Writes the envelope.
///
/// # Errors
/// Only when memory runs out; there is no message that it cannot express.
pub fn to_json(message: &Message) -> Result<Vec<u8>, Malformed> {
    let bytes = &message.payload.content;
    let raw: Option<&RawValue> = serde_json::from_slice(bytes).ok();
    // White space around the value would be lost, so such content travels as base64.
    let content = raw.filter(|raw| raw.get().len() == bytes.len());
    let text = |name: &str, value: &str| (name.to_owned(), value.into());
    let written = Written {
        topic: message.topic.as_str(),
        identifier: message.identifier,
        reply_topic: message
            .reply_topic
            .as_ref()
            .map(crate::topic::TopicName::as_str),
        strategy: message.strategy,
        status: message.payload.status.code(),
        headers: message
            .payload
            .headers
            .iter()
            .map(|(name, value)| text(name, value))
            .collect(),
        content,
        content_base64: (content.is_none() && !bytes.is_empty()).then(|| base64_encode(bytes)),
        version: Message::VERSION,
    };
    serde_json::to_vec(&written).map_err(|error| Malformed(error.to_string()))
}

/// Reads the envelope. Unknown fields and a greater version are ignored.
///
/// # Errors
/// [`Malformed`] with the place of the error.
pub fn from_json(bytes: &[u8]) -> Result<Message, Malformed> {
    let read: Read<'_> = serde_json::from_slice(bytes)
        .map_err(|error| Malformed(format!("not a JSON envelope of a message: {error}")))?;
    let content = match (read.content, read.content_base64) {
        (Some(_), Some(_)) => {
            return Err(Malformed(
                "the envelope has both `content` and `content_base64`; send one of them".to_owned(),
            ));
        }
        // The value null is content; only a missing field is none.
        (Some(raw), None) => Bytes::copy_from_slice(raw.get().as_bytes()),
        (None, Some(text)) => base64_decode(&text)?,
        (None, None) => Bytes::new(),
    };
    let mut headers = Headers::default();
    for (name, value) in &read.headers {
        headers
            .insert(name, value)
            .map_err(InvalidMessage::Header)?;
    }
    let topic = read.topic.parse().map_err(InvalidMessage::Topic)?;
    let mut message = Message::new(
        topic,
        Payload {
            content,
            headers,
            status: Status::from_code(read.status.unwrap_or(200)),
        },
    );
    message.strategy = read.strategy;
    if let Some(identifier) = read.identifier {
        message.identifier = identifier;
    }
    if let Some(reply_topic) = read.reply_topic {
        message.reply_topic = Some(reply_topic.parse().map_err(InvalidMessage::Topic)?);
    }
    Ok(message)
}

fn base64_encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn base64_decode(text: &str) -> Result<Bytes, Malformed> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| Malformed(format!("`content_base64` is not base64: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_keeps_its_bytes() {
        for content in [
            "{\"price\":9.99,\"qty\":1}",
            "[1, 2.5]",
            "1e400",
            "null",
            " 1 ",
            "\u{e4}",
            "\"\\u00e4\"",
        ] {
            let mut message = Message::new("t".parse().unwrap(), Payload::new(content.to_owned()));
            message.payload.headers.insert("a", "b").unwrap();
            let json = to_json(&message).unwrap();
            assert_eq!(from_json(&json).unwrap(), message, "{content}");
        }
    }

    #[test]
    fn a_later_version_is_read_and_nonsense_is_refused() {
        let later = br#"{"topic":"t","version":2,"new":true,"status":777}"#;
        assert_eq!(from_json(later).unwrap().payload.status, Status::Unknown);
        for bad in [
            &b"junk"[..],
            b"[]",
            b"{}",
            br#"{"topic":"a b"}"#,
            br#"{"topic":"t","headers":{"a":1}}"#,
            br#"{"topic":"t","content_base64":"?"}"#,
        ] {
            assert!(from_json(bad).is_err());
        }
    }
}
