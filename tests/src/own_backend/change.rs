//! What can happen to the broker, as it is written in the journal: one line of JSON for everything that happens together.
//!
//! Names and messages are text here; the table reads them.

use std::sync::Arc;

use sandbar::backend::{BackendError, QueueSpec};
use sandbar::message::Message;
use sandbar::store::{DeadLetter, Reason, Report};
use sandbar::wire::{self, Packet, RawPacket};
use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Change {
    /// A queue is there, or has another specification.
    Queue(QueueRecord),
    QueueGone(String),
    /// A message is there: in a queue, or kept in its topic.
    Message(MessageRecord),
    /// A message that was kept is in a queue.
    Moved {
        id: u64,
        queue: String,
        #[serde(skip)]
        ephemeral: bool,
    },
    /// A message is gone.
    Done(u64),
    /// A message comes again at a moment (milliseconds since 1970-01-01 UTC).
    Again {
        id: u64,
        due_ms: i64,
        attempts: u32,
    },
    /// A key of a plugin has a value, or none any more.
    Value {
        plugin: String,
        key: String,
        value: Option<Vec<u8>>,
    },
    Dead(LetterRecord),
}

/// A queue; `order` is its place among the declarations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct QueueRecord {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) topics: Vec<String>,
    pub(super) dead_letter: Option<String>,
    pub(super) lease_ms: u64,
    pub(super) ephemeral: bool,
    pub(super) order: u64,
}

/// A message; the envelope is that of [`wire::to_json`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MessageRecord {
    pub(super) id: u64,
    /// `None`: kept in its topic.
    pub(super) queue: Option<String>,
    pub(super) key: Option<String>,
    pub(super) route: Option<u32>,
    /// Not before this moment (milliseconds since 1970-01-01 UTC).
    pub(super) due_ms: i64,
    pub(super) attempts: u32,
    #[serde(with = "envelope")]
    pub(super) message: Arc<Message>,
    #[serde(skip)]
    pub(super) ephemeral: bool,
}

/// A dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LetterRecord {
    packet: Parcel,
    reason: Reason,
    error: String,
    plugin: Option<String>,
    digest: Option<String>,
    queue: String,
    attempts: u32,
    at_ms: i64,
    report: Option<Box<Report>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Parcel {
    Message(#[serde(with = "envelope")] Arc<Message>),
    Raw {
        topic: String,
        broker_id: Option<String>,
        properties: Vec<(String, String)>,
        body: Vec<u8>,
    },
}

/// A message as its JSON envelope, in a text.
mod envelope {
    use super::{Arc, Message, wire};
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        message: &Arc<Message>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let json = wire::to_json(message).map_err(S::Error::custom)?;
        serializer.serialize_str(&String::from_utf8_lossy(&json))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Message>, D::Error> {
        let json = String::deserialize(deserializer)?;
        let message = wire::from_json(json.as_bytes()).map_err(D::Error::custom)?;
        Ok(Arc::new(message))
    }
}

impl Change {
    /// What is to be remembered of it: nothing that has to do with a queue that ends with the process.
    pub(super) fn durable(&self) -> Option<Self> {
        match self {
            Self::Queue(QueueRecord { ephemeral, .. })
            | Self::Message(MessageRecord { ephemeral, .. })
                if *ephemeral =>
            {
                None
            }
            Self::Moved { id, ephemeral, .. } if *ephemeral => Some(Self::Done(*id)),
            other => Some(other.clone()),
        }
    }
}

impl QueueRecord {
    pub(super) fn new(spec: &QueueSpec, order: u64) -> Self {
        Self {
            name: spec.name.to_string(),
            group: spec.group.clone(),
            topics: spec.topics.iter().map(ToString::to_string).collect(),
            dead_letter: spec.dead_letter.as_ref().map(ToString::to_string),
            lease_ms: u64::try_from(spec.lease.as_millis()).unwrap_or(u64::MAX),
            ephemeral: spec.ephemeral,
            order,
        }
    }

    pub(super) fn spec(&self) -> Result<QueueSpec, BackendError> {
        let topics: Result<Vec<_>, _> = self.topics.iter().map(|topic| topic.parse()).collect();
        let topics = topics.map_err(|error| BackendError::Invalid(format!("{error}")))?;
        let dead_letter = self.dead_letter.as_ref().map(|name| name.parse());
        Ok(QueueSpec {
            group: self.group.clone(),
            dead_letter: dead_letter.transpose()?,
            lease: std::time::Duration::from_millis(self.lease_ms),
            ephemeral: self.ephemeral,
            ..QueueSpec::new(self.name.parse()?, topics)
        })
    }
}

impl From<DeadLetter> for LetterRecord {
    fn from(letter: DeadLetter) -> Self {
        let packet = match letter.packet {
            Packet::Message(message) => Parcel::Message(message),
            Packet::Raw(raw) => Parcel::Raw {
                topic: raw.topic,
                broker_id: raw.broker_id,
                properties: raw.properties,
                body: raw.body.into(),
            },
        };
        Self {
            packet,
            reason: letter.reason,
            error: letter.error,
            plugin: letter.plugin,
            digest: letter.digest,
            queue: letter.queue,
            attempts: letter.attempts,
            at_ms: letter.at_ms,
            report: letter.report,
        }
    }
}

impl From<LetterRecord> for DeadLetter {
    fn from(record: LetterRecord) -> Self {
        let packet = match record.packet {
            Parcel::Message(message) => Packet::Message(message),
            Parcel::Raw {
                topic,
                broker_id,
                properties,
                body,
            } => Packet::Raw(RawPacket {
                topic,
                broker_id,
                properties,
                body: body.into(),
            }),
        };
        Self {
            packet,
            reason: record.reason,
            error: record.error,
            plugin: record.plugin,
            digest: record.digest,
            queue: record.queue,
            attempts: record.attempts,
            at_ms: record.at_ms,
            report: record.report,
        }
    }
}
