//! A message that RabbitMQ delivered: what it says, and how it is acknowledged.
//!
//! It belongs to one channel; once that has ended it can be neither acknowledged nor mistaken for a later delivery.

use std::sync::Arc;

use bytes::Bytes;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use uuid::Uuid;

use super::failure::{Failure, answer};
use super::headers;
use super::outgoing::TO_QUEUE;
use super::topology::{short, text};
use crate::backend::QueueName;
use crate::backend::table::Carried;
use crate::message::CONTENT_TYPE;
use crate::store::{DeadLetter, FailedAttempt, History, KeptLetter};
use crate::topic::TopicName;
use crate::wire::{self, Form, Packet, RawPacket};

/// One delivery; cheap to share.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    inner: Arc<Inner>,
    /// The attempts that failed.
    history: Option<Arc<History>>,
}

#[derive(Debug)]
struct Inner {
    /// The channel that it came over.
    channel: Arc<Channel>,
    tag: u64,
    routing_key: String,
    properties: BasicProperties,
    body: Bytes,
    /// Names it as long as it is here, if its sender did not.
    stand_in: Option<Uuid>,
}

impl Arrived {
    pub(super) fn new(channel: Arc<Channel>, delivery: Delivery) -> Self {
        let unnamed = delivery.properties.message_id().is_none();
        let inner = Inner {
            channel,
            tag: delivery.delivery_tag,
            routing_key: delivery.routing_key.into(),
            properties: delivery.properties,
            body: delivery.data.into(),
            stand_in: unnamed.then(Uuid::new_v4),
        };
        let mut arrived = Self {
            inner: Arc::new(inner),
            history: None,
        };
        let history = arrived.header(headers::HISTORY);
        let history = history.and_then(|json| serde_json::from_str(json).ok());
        arrived.history = history.map(Arc::new);
        arrived
    }

    /// The same after one more attempt that failed.
    pub(super) fn failed(&self, failed: FailedAttempt) -> Self {
        let history = History::after(self.history.as_deref(), failed);
        Self {
            inner: self.inner.clone(),
            history: Some(Arc::new(history)),
        }
    }

    /// What is kept of it when it becomes a dead letter.
    pub(super) fn letter(&self, mut letter: DeadLetter) -> KeptLetter {
        // Whatever is a message is kept as one, so that it can be selected.
        if let Ok(message) = wire::decode(Form::Native, &letter.packet) {
            letter.packet = Packet::Message(message);
        }
        let published = *self.inner.properties.timestamp();
        let published = published.and_then(|seconds| i64::try_from(seconds).ok());
        KeptLetter {
            key: self.key(),
            route: self.route(),
            published_ms: published.map_or(letter.at_ms, |seconds| seconds.saturating_mul(1000)),
            ..KeptLetter::new(0, letter, self.history.as_deref())
        }
    }

    /// Tells the server that it is done. Returns once that has been written.
    pub(super) async fn acknowledge(&self) -> Result<(), Failure> {
        let done = self
            .inner
            .channel
            .basic_ack(self.inner.tag, BasicAckOptions::default());
        answer(done).await
    }

    pub(super) fn topic(&self) -> &str {
        self.header(headers::TOPIC)
            .unwrap_or(&self.inner.routing_key)
    }

    pub(super) fn body(&self) -> Bytes {
        self.inner.body.clone()
    }

    /// The key whose order it keeps.
    pub(super) fn key(&self) -> Option<Arc<str>> {
        self.header(headers::KEY).map(Into::into)
    }

    /// How often it was tried before.
    pub(super) fn attempts(&self) -> u32 {
        self.table()
            .and_then(|table| headers::number(table, headers::ATTEMPTS))
            .unwrap_or_default()
    }

    /// Its headers without those of its last way through the server, and with its history.
    pub(super) fn own_headers(&self) -> FieldTable {
        let mut own = FieldTable::default();
        for (name, value) in self.table().into_iter().flat_map(FieldTable::inner) {
            if !headers::is_way(name.as_str()) && !headers::is_servers(name.as_str()) {
                own.insert(name.clone(), value.clone());
            }
        }
        if let Some(history) = &self.history {
            let json = serde_json::to_string(&**history).unwrap_or_default();
            own.insert(short(headers::HISTORY), text(&json));
        }
        own
    }

    /// Its properties, with a name if it had none.
    pub(super) fn own_properties(&self) -> BasicProperties {
        let properties = self.inner.properties.clone();
        match self.inner.stand_in {
            Some(id) => properties.with_message_id(id.to_string().into()),
            None => properties,
        }
    }

    fn table(&self) -> Option<&FieldTable> {
        self.inner.properties.headers().as_ref()
    }

    fn header(&self, name: &str) -> Option<&str> {
        headers::text(self.table()?, name)
    }

    /// Where a reply is wanted. Another program names a queue, ours name a topic.
    fn reply_topic(&self) -> Option<String> {
        let reply_to = self.inner.properties.reply_to().as_ref()?.as_str();
        if self.header(headers::VERSION).is_some() {
            return Some(reply_to.to_owned());
        }
        let topic = format!("{TO_QUEUE}{reply_to}");
        topic.parse::<TopicName>().is_ok().then_some(topic)
    }
}

impl Carried for Arrived {
    fn packet(&self) -> Packet {
        let own = &self.inner.properties;
        let own_text =
            |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        let (id, other_id) = match own_text(own.message_id()) {
            Some(id) if Uuid::parse_str(&id).is_ok() => (Some(id), None),
            other => (None, other),
        };
        let pairs = [
            ("sandbar-id", id),
            ("sandbar-reply-topic", self.reply_topic()),
            (CONTENT_TYPE, own_text(own.content_type())),
            ("content-encoding", own_text(own.content_encoding())),
            ("correlation-id", own_text(own.correlation_id())),
        ];
        let mut properties: Vec<(String, String)> = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .filter(|(name, value)| headers::is_legal(name, value))
            .collect();
        properties.extend(self.table().map(headers::of_message).into_iter().flatten());
        Packet::Raw(RawPacket {
            topic: self.topic().to_owned(),
            broker_id: other_id.or_else(|| self.inner.stand_in.map(|id| id.to_string())),
            properties,
            body: self.body(),
        })
    }

    fn route(&self) -> Option<u32> {
        headers::number(self.table()?, headers::ROUTE)
    }

    /// What tells it from everything else in its queue, however often it is delivered and tried; nothing does when
    /// another program sent it without an identifier.
    fn identity(&self, queue: &QueueName) -> Option<Uuid> {
        let own = self.header(headers::NONCE);
        let other = || {
            self.inner
                .properties
                .message_id()
                .as_ref()
                .map(|id| id.as_str())
        };
        let name = format!("{queue}\0{}", own.or_else(other)?);
        Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
    }
}
