//! How a message travels: what a broker carries, and the forms in which a message is written into it.
//!
//! `native` puts the metadata into the broker's own headers; `json` puts everything into one JSON envelope. Each form is
//! pure; which one a subscription or a destination uses is its configuration.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::message::{Headers, InvalidMessage, Message, Payload, Status, Strategy};

mod json;

pub use json::{from_json, to_json};

/// What a broker delivered.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// Brokers of our own carry messages as they are; shared, because a broker keeps what it delivers until it is
    /// settled.
    Message(Arc<Message>),
    /// Bytes with properties, from any other broker.
    Raw(RawPacket),
}

/// Bytes with properties.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawPacket {
    /// The topic that the broker names.
    pub topic: String,
    /// The broker's own identifier of the message, from which ours is derived when the sender gave none, so that
    /// duplicates are still recognised.
    pub broker_id: Option<String>,
    /// Headers, attributes or properties, in our names (`sandbar-id`, `sandbar-reply-topic`, …).
    pub properties: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// A form in which messages are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Metadata in the broker's headers, content as the body.
    #[default]
    Native,
    /// One JSON envelope with all fields.
    Json,
}

/// What arrived is not a message of that form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl From<InvalidMessage> for Malformed {
    fn from(error: InvalidMessage) -> Self {
        Self(error.to_string())
    }
}

/// Reads a message out of what a broker delivered.
///
/// # Errors
/// [`Malformed`] with what is wrong and where.
pub fn decode(form: Form, packet: &Packet) -> Result<Arc<Message>, Malformed> {
    match (form, packet) {
        (Form::Native, Packet::Message(message)) => Ok(message.clone()),
        (Form::Native, Packet::Raw(raw)) => from_native(raw).map(Arc::new),
        (Form::Json, Packet::Message(message)) => from_json(&message.payload.content).map(Arc::new),
        (Form::Json, Packet::Raw(raw)) => from_json(&raw.body).map(Arc::new),
    }
}

/// Writes a message as properties and a body, for brokers that are not our own.
///
/// # Errors
/// [`Malformed`] when the form cannot express it.
pub fn encode(form: Form, message: &Message) -> Result<RawPacket, Malformed> {
    let topic = message.topic.as_str().to_owned();
    Ok(match form {
        Form::Json => RawPacket {
            topic,
            broker_id: None,
            properties: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: to_json(message)?.into(),
        },
        Form::Native => RawPacket {
            topic,
            broker_id: None,
            properties: native_properties(message),
            body: message.payload.content.clone(),
        },
    })
}

fn native_properties(message: &Message) -> Vec<(String, String)> {
    let mut properties = vec![
        ("sandbar-id".to_owned(), message.identifier.to_string()),
        ("sandbar-version".to_owned(), Message::VERSION.to_string()),
    ];
    if let Some(reply_topic) = &message.reply_topic {
        properties.push(("sandbar-reply-topic".to_owned(), reply_topic.to_string()));
    }
    if message.strategy == Strategy::Multicast {
        properties.push(("sandbar-strategy".to_owned(), "multicast".to_owned()));
    }
    if message.payload.status != Status::Success {
        properties.push((
            "sandbar-status".to_owned(),
            message.payload.status.to_string(),
        ));
    }
    let headers = message.payload.headers.iter();
    properties.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    properties
}

/// A message of an ordinary client, without any property of ours, is valid too.
fn from_native(raw: &RawPacket) -> Result<Message, Malformed> {
    let topic = raw.topic.parse().map_err(InvalidMessage::Topic)?;
    let mut message = Message::new(topic, Payload::new(raw.body.clone()));
    if let Some(id) = &raw.broker_id {
        message.identifier = Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes());
    }
    let mut headers = Headers::default();
    for (name, value) in &raw.properties {
        match name.to_ascii_lowercase().as_str() {
            "sandbar-id" => {
                message.identifier = Uuid::parse_str(value).map_err(|_| {
                    Malformed(format!("header `sandbar-id` is {value:?}, not a UUID"))
                })?;
            }
            "sandbar-reply-topic" => {
                message.reply_topic = Some(value.parse().map_err(InvalidMessage::Topic)?);
            }
            "sandbar-strategy" => {
                message.strategy = match value.as_str() {
                    "unicast" => Strategy::Unicast,
                    "multicast" => Strategy::Multicast,
                    other => {
                        return Err(Malformed(format!(
                            "header `sandbar-strategy` is {other:?}; write unicast or multicast"
                        )));
                    }
                };
            }
            "sandbar-status" => {
                message.payload.status = Status::from_code(value.parse().unwrap_or(0));
            }
            // A greater version is read as far as we know it.
            "sandbar-version" => {}
            _ => headers
                .insert(name, value)
                .map_err(InvalidMessage::Header)?,
        }
    }
    message.payload.headers = headers;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        let mut message =
            Message::new("a.b".parse().unwrap(), Payload::new(&b"\x00\xff"[..])).multicast();
        message.reply_topic = Some("r".parse().unwrap());
        message.payload.status = Status::Error;
        message.payload.headers.insert("trace", "abc").unwrap();
        message
    }

    #[test]
    fn both_forms_give_back_what_they_got() {
        let mut json = sample();
        json.payload.content = Bytes::from_static(b"[1, 2.5]");
        for message in [
            sample(),
            json,
            Message::new("t".parse().unwrap(), Payload::default()),
        ] {
            for form in [Form::Native, Form::Json] {
                let raw = encode(form, &message).unwrap();
                assert_eq!(
                    *decode(form, &Packet::Raw(raw)).unwrap(),
                    message,
                    "{form:?}"
                );
            }
        }
    }

    #[test]
    fn a_foreign_message_is_valid_and_keeps_its_identity() {
        let raw = RawPacket {
            topic: "t".to_owned(),
            broker_id: Some("17".to_owned()),
            properties: vec![("X-Other".to_owned(), "1".to_owned())],
            body: Bytes::from_static(b"junk"),
        };
        let first = decode(Form::Native, &Packet::Raw(raw.clone())).unwrap();
        let second = decode(Form::Native, &Packet::Raw(raw)).unwrap();
        assert_eq!(first.identifier, second.identifier);
        assert_eq!(first.payload.headers.get("x-other"), Some("1"));
        assert!(first.ok());
    }
}
