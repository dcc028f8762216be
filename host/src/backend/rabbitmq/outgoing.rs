//! A message on its way to RabbitMQ: which exchange, which routing key, which properties.
//!
//! Pure but for the time and the number that each act of publishing gets. It sends nothing.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use super::arrived::Arrived;
use super::topology::{KEEP, MULTICAST, QUEUES, TO, UNICAST, short, text};
use super::{delay, headers};
use crate::backend::table::{MAX_CONTENT, REPLIES};
use crate::backend::{Destination, Outgoing, PublishError, QueueName};
use crate::clock;
use crate::message::{CONTENT_TYPE, Message, Strategy};
use crate::topic::TopicName;
use crate::wire::{self, Form};

/// Replies to clients that know queues only go to topics that begin like this, with the name of the queue behind it.
pub(super) const TO_QUEUE: &str = "_queue.";

/// All headers of a message together: they travel in one frame, and this is what fits into it for certain.
const MAX_HEADERS: usize = 96 << 10;

/// What is published, and where.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// The bit whose delay exchange it is published to.
    pub(super) delay: Option<u32>,
    pub(super) nonce: Uuid,
    /// What it means when no queue gets it; `None`: nobody needs to know.
    pub(super) unrouted: Option<Unrouted>,
}

/// Why no queue gets a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unrouted {
    /// None is bound to its topic.
    Topic(TopicName),
    /// The one that was named doesn't exist.
    Queue(QueueName),
    /// Whoever waited for this reply has gone.
    Reply,
}

/// Where to.
struct Address {
    exchange: &'static str,
    routing_key: ShortString,
    unrouted: Option<Unrouted>,
    /// The routing key is the name of a queue.
    queue: bool,
}

impl Parcel {
    /// A message as AMQP carries it.
    pub(super) fn new(outgoing: &Outgoing) -> Result<Self, PublishError> {
        let nonce = outgoing.identity.unwrap_or_else(Uuid::new_v4);
        let message = &outgoing.message;
        let size = message.payload.content.len();
        if size > MAX_CONTENT {
            let limit = MAX_CONTENT;
            return Err(PublishError::TooLarge { size, limit });
        }
        let mut address = address(outgoing);
        let mut table = FieldTable::default();
        let properties = properties(message, &mut table)?;
        if let Some(key) = &outgoing.key {
            table.insert(short(headers::KEY), text(key));
        }
        if let Some(route) = outgoing.route {
            table.insert(short(headers::ROUTE), AMQPValue::LongUInt(route));
        }
        if address.queue {
            table.insert(short(headers::TOPIC), text(message.topic.as_str()));
        }
        let later = !outgoing.delay.is_zero();
        let reply = message.topic.as_str().starts_with(REPLIES);
        if !address.queue && (later || !(outgoing.mandatory || reply)) {
            table.insert(short(KEEP), AMQPValue::LongInt(i32::from(later)));
        }
        if later {
            // Nobody can tell now whether there will be a queue.
            address.unrouted = None;
        }
        table.insert(short(headers::NONCE), text(&nonce.simple().to_string()));
        Self::begin(address, outgoing.delay, properties, table, nonce).map(|parcel| Self {
            body: message.payload.content.clone(),
            ..parcel
        })
    }

    /// The same message once more for the queue that it came from, with its attempt counted.
    pub(super) fn again(
        arrived: &Arrived,
        queue: &QueueName,
        attempts: u32,
        after: Duration,
    ) -> Result<Self, PublishError> {
        let mut table = arrived.own_headers();
        table.insert(short(headers::ATTEMPTS), AMQPValue::LongUInt(attempts));
        Self::copy(arrived, queue, table, after)
    }

    /// The same message for a dead-letter queue.
    pub(super) fn dead(arrived: &Arrived, queue: &QueueName) -> Result<Self, PublishError> {
        let mut table = FieldTable::default();
        for (name, value) in arrived.own_headers().inner() {
            if !matches!(
                name.as_str(),
                headers::NONCE | headers::ATTEMPTS | headers::HISTORY | headers::ROUTE
            ) {
                table.insert(name.clone(), value.clone());
            }
        }
        Self::copy(arrived, queue, table, Duration::ZERO)
    }

    /// A message that was kept, to the topic that it was published to.
    pub(super) fn kept(arrived: &Arrived) -> Self {
        let mut table = arrived.own_headers();
        table.insert(short(KEEP), AMQPValue::LongInt(0));
        let all = headers::text(&table, "sandbar-strategy") == Some("multicast");
        Self {
            exchange: short(if all { MULTICAST } else { UNICAST }),
            routing_key: short(arrived.topic()),
            properties: arrived.own_properties().with_headers(table),
            body: arrived.body(),
            delay: None,
            nonce: Uuid::new_v4(),
            unrouted: None,
        }
    }

    fn copy(
        arrived: &Arrived,
        queue: &QueueName,
        mut table: FieldTable,
        after: Duration,
    ) -> Result<Self, PublishError> {
        table.insert(short(headers::TOPIC), text(arrived.topic()));
        let nonce = match headers::text(&table, headers::NONCE).map(Uuid::parse_str) {
            Some(Ok(nonce)) => nonce,
            _ => Uuid::new_v4(),
        };
        table.insert(short(headers::NONCE), text(&nonce.simple().to_string()));
        let address = Address {
            exchange: "",
            routing_key: short(queue.as_str()),
            unrouted: None,
            queue: true,
        };
        let properties = arrived.own_properties();
        Self::begin(address, after, properties, table, nonce).map(|parcel| Self {
            body: arrived.body(),
            ..parcel
        })
    }

    fn begin(
        address: Address,
        after: Duration,
        properties: BasicProperties,
        mut table: FieldTable,
        nonce: Uuid,
    ) -> Result<Self, PublishError> {
        let (mut exchange, mut bit) = (address.exchange.to_owned(), None);
        if !after.is_zero() {
            let to = if address.queue {
                QUEUES
            } else {
                address.exchange
            };
            table.insert(short(TO), text(to));
            let highest = delay::begin(after, &mut table).ok_or_else(|| {
                PublishError::Invalid(format!(
                    "RabbitMQ delays a message by at most {:?}, and it was to be {after:?}; publish it later",
                    delay::LONGEST
                ))
            })?;
            exchange = delay::name(highest);
            bit = Some(highest);
        }
        Ok(Self {
            exchange: short(&exchange),
            routing_key: address.routing_key,
            properties: properties.with_headers(table).with_delivery_mode(2),
            body: Bytes::new(),
            delay: bit,
            nonce,
            unrouted: address.unrouted,
        })
    }
}

fn address(outgoing: &Outgoing) -> Address {
    let topic = &outgoing.message.topic;
    if let Destination::Queue(name) = &outgoing.to {
        return Address {
            exchange: "",
            routing_key: short(name.as_str()),
            unrouted: Some(Unrouted::Queue(name.clone())),
            queue: true,
        };
    }
    if let Some(queue) = topic.as_str().strip_prefix(TO_QUEUE) {
        return Address {
            exchange: "",
            routing_key: short(queue),
            unrouted: Some(match outgoing.mandatory {
                true => Unrouted::Topic(topic.clone()),
                false => Unrouted::Reply,
            }),
            queue: true,
        };
    }
    Address {
        exchange: match outgoing.message.strategy {
            Strategy::Unicast => UNICAST,
            Strategy::Multicast => MULTICAST,
        },
        routing_key: short(topic.as_str()),
        unrouted: outgoing.mandatory.then(|| Unrouted::Topic(topic.clone())),
        queue: false,
    }
}

/// The properties of a message, and its headers.
fn properties(message: &Message, table: &mut FieldTable) -> Result<BasicProperties, PublishError> {
    let raw = wire::encode(Form::Native, message).map_err(|e| PublishError::Invalid(e.0))?;
    let seconds = u64::try_from(clock::now_ms() / 1000).unwrap_or_default();
    let mut properties = BasicProperties::default().with_timestamp(seconds);
    let mut more: Vec<(String, String)> = Vec::new();
    let mut size = 0;
    for (name, value) in raw.properties {
        size += name.len() + value.len() + 16;
        let short_value = ShortString::try_new(value.as_str());
        properties = match (name.as_str(), short_value) {
            ("sandbar-id", Ok(id)) => properties.with_message_id(id),
            ("sandbar-reply-topic", Ok(topic)) => properties.with_reply_to(topic),
            (CONTENT_TYPE, Ok(kind)) => properties.with_content_type(kind),
            ("content-encoding", Ok(encoding)) => properties.with_content_encoding(encoding),
            ("correlation-id", Ok(id)) => properties.with_correlation_id(id),
            (fitting, _) if headers::fits(fitting) => {
                table.insert(short(fitting), text(&value));
                properties
            }
            _ => {
                more.push((name, value));
                properties
            }
        };
    }
    if size > MAX_HEADERS {
        return Err(PublishError::Invalid(format!(
            "the headers have {size} bytes and RabbitMQ takes {MAX_HEADERS}; send fewer, or put them into the content"
        )));
    }
    if !more.is_empty() {
        let json = serde_json::to_string(&more).unwrap_or_default();
        table.insert(short(headers::MORE), text(&json));
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    fn outgoing(topic: &str) -> Outgoing {
        Outgoing::new(Message::new(topic.parse().unwrap(), Payload::text("x")))
    }

    #[test]
    fn strategy_destination_and_delay_choose_the_exchange() {
        let later = Duration::from_millis(100);
        let queue = || Destination::Queue("q".parse().unwrap());
        let topic = |text: &str| Some(Unrouted::Topic(text.parse().unwrap()));
        let plain = outgoing("a.b");
        let all = Outgoing::new(plain.message.clone().multicast());
        for (outgoing, exchange, key, unrouted, keep) in [
            (plain.clone(), UNICAST, "a.b", None, Some(0)),
            (all.clone(), MULTICAST, "a.b", None, Some(0)),
            (
                Outgoing {
                    mandatory: true,
                    ..plain.clone()
                },
                UNICAST,
                "a.b",
                topic("a.b"),
                None,
            ),
            (
                Outgoing {
                    to: queue(),
                    ..plain.clone()
                },
                "",
                "q",
                Some(Unrouted::Queue("q".parse().unwrap())),
                None,
            ),
            (
                Outgoing {
                    delay: later,
                    mandatory: true,
                    ..plain
                },
                "sandbar:delay-1",
                "a.b",
                None,
                Some(1),
            ),
            (
                Outgoing {
                    to: queue(),
                    delay: later,
                    ..all
                },
                "sandbar:delay-1",
                "q",
                None,
                None,
            ),
            (outgoing("_reply.c"), UNICAST, "_reply.c", None, None),
            (outgoing("_queue.r"), "", "r", Some(Unrouted::Reply), None),
        ] {
            let parcel = Parcel::new(&outgoing).unwrap();
            let headers = parcel.properties.headers().clone().unwrap_or_default();
            assert_eq!(
                (parcel.exchange.as_str(), parcel.routing_key.as_str()),
                (exchange, key)
            );
            assert_eq!(parcel.unrouted, unrouted, "{key}");
            assert_eq!(headers::number(&headers, KEEP), keep, "{key}");
        }
    }

    #[test]
    fn what_the_server_cannot_carry_is_refused() {
        let mut headers = outgoing("t");
        let long = "v".repeat(MAX_HEADERS);
        headers
            .message
            .payload
            .headers
            .insert("long", &long)
            .unwrap();
        let mut content = outgoing("t");
        content.message.payload.content = vec![0; MAX_CONTENT + 1].into();
        let delay = Outgoing {
            delay: Duration::from_secs(100 * 24 * 60 * 60),
            ..outgoing("t")
        };
        for outgoing in [headers, content, delay] {
            let refused = Parcel::new(&outgoing).err();
            assert!(matches!(
                refused,
                Some(PublishError::Invalid(_) | PublishError::TooLarge { .. })
            ));
        }
    }
}
