//! Other programs on the same server: what they send is handled, and what we send they can read.

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use sandbar::control::{Host, HostOptions};
use sandbar::dispatch::{Dispatcher, Kind};
use sandbar::message::{Message, Payload, Status};
use sandbar::wire::{self, Form};
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::servers::rabbitmq::RabbitMq;
use uuid::Uuid;

use super::fixture::{PATIENCE, delivered, open, queue};

/// An ordinary client.
struct Client {
    channel: Channel,
    _connection: Connection,
}

impl Client {
    async fn connect(url: &str) -> Result<Self, Failure> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            _connection: connection,
        })
    }

    async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Outcome {
        let options = BasicPublishOptions::default();
        let channel = &self.channel;
        let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
        assert!(sent.await?.await?.is_ack());
        Ok(())
    }

    async fn consume(&self, queue: &str) -> Result<Consumer, Failure> {
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let consumer = self
            .channel
            .basic_consume(queue.into(), "".into(), options, arguments);
        Ok(consumer.await?)
    }
}

fn table<const N: usize>(all: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in all {
        table.insert(name.into(), value);
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[tokio::test]
async fn whatever_another_program_sends_is_a_message() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let opened = open(&url).await?;
    let queue = queue(&opened, "q", "t.*").await?;
    let mut source = opened.source(&queue).await?;
    let client = Client::connect(&url).await?;
    let odd = table([
        ("number", AMQPValue::LongInt(7)),
        ("truth", AMQPValue::Boolean(true)),
        ("with space", text("x")),
        ("two\nlines", text("x")),
        ("lines", text("a\nb")),
        ("list", AMQPValue::FieldArray(FieldArray::default())),
        ("bytes", AMQPValue::LongString(LongString::from(vec![0xff]))),
        ("x-request-id", text("r")),
        ("sandbar-attempts", text("many")),
    ]);
    let id = Uuid::now_v7();
    let uuid = |uuid: Uuid| BasicProperties::default().with_message_id(uuid.to_string().into());
    for (exchange, key, body, properties, identifier, headers) in [
        (
            "sandbar:unicast",
            "t.a",
            &b"\x00\xff junk"[..],
            BasicProperties::default(),
            None,
            vec![],
        ),
        (
            "sandbar:multicast",
            "t.a",
            b"[1, 2.5]",
            BasicProperties::default(),
            None,
            vec![],
        ),
        ("sandbar:unicast", "t.a", b"", uuid(id), Some(id), vec![]),
        (
            "sandbar:unicast",
            "t.a",
            b"17",
            BasicProperties::default()
                .with_message_id("order-17".into())
                .with_content_type("application/json".into())
                .with_correlation_id("c".into())
                .with_content_encoding("two\nlines".into())
                .with_reply_to("no topic at all".into())
                .with_headers(odd),
            Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, b"order-17")),
            vec![
                ("content-type", "application/json"),
                ("correlation-id", "c"),
                ("number", "7"),
                ("truth", "true"),
                ("x-request-id", "r"),
            ],
        ),
        // To the queue itself: the routing key is all that there is for a topic.
        ("", "q", b"direct", BasicProperties::default(), None, vec![]),
    ] {
        client.publish(exchange, key, body, properties).await?;
        let delivery = delivered(&mut source).await?.remove(0);
        assert_eq!(
            (delivery.attempt, &delivery.key, delivery.route),
            (1, &None, None)
        );
        let message = wire::decode(Form::Native, &delivery.packet)?;
        let once_more = wire::decode(Form::Native, &delivery.packet)?;
        assert_eq!(message, once_more, "it keeps its identity");
        assert_eq!(message.topic.as_str(), key);
        assert_eq!(message.payload.content, body);
        assert_eq!(message.payload.status, Status::Success);
        assert_eq!(message.reply_topic, None);
        if let Some(identifier) = identifier {
            assert_eq!(message.identifier, identifier);
        }
        let mut found: Vec<(&str, &str)> = message.payload.headers.iter().collect();
        found.sort_unstable();
        assert_eq!(found, headers, "{key}");
        super::fixture::ack(&opened, delivery).await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_program_reads_what_we_send() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let opened = open(&url).await?;
    queue(&opened, "q", "t").await?;
    let client = Client::connect(&url).await?;
    let mut consumer = client.consume("q").await?;
    let mut payload = Payload::json(&[1])?.with_status(Status::Error);
    for (name, value) in [
        ("trace", "abc"),
        ("correlation-id", "c"),
        ("x-death", "mine"),
    ] {
        payload.headers.insert(name, value)?;
    }
    let message = Message::new("t".parse()?, payload).with_reply_topic("r.x".parse()?);
    let identifier = message.identifier.to_string();
    let outgoing = sandbar::backend::Outgoing {
        key: Some("k".into()),
        ..sandbar::backend::Outgoing::new(message)
    };
    opened.broker.publish(outgoing).await?;
    let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await?;
    let delivery = delivery.ok_or("the consumer ended")??;
    let own = &delivery.properties;
    let short = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(delivery.data, b"[1]");
    assert_eq!(delivery.routing_key.as_str(), "t");
    assert_eq!(short(own.message_id()), Some(identifier));
    assert_eq!(short(own.reply_to()).as_deref(), Some("r.x"));
    assert_eq!(
        short(own.content_type()).as_deref(),
        Some("application/json")
    );
    assert_eq!(short(own.correlation_id()).as_deref(), Some("c"));
    assert_eq!(*own.delivery_mode(), Some(2));
    let headers = own.headers().clone().unwrap_or_default();
    for (name, value) in [
        ("trace", "abc"),
        ("sandbar-status", "400"),
        ("sandbar-version", "1"),
        ("sandbar-key", "k"),
    ] {
        assert_eq!(headers.inner().get(name), Some(&text(value)), "{name}");
    }
    delivery.ack(BasicAckOptions::default()).await?;
    Ok(())
}

/// The usual way to ask over RabbitMQ: a queue for the reply, and a correlation identifier.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_asks_and_is_answered() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let opened = open(&url).await?;
    let mut dispatcher = Dispatcher::default();
    dispatcher.action(Kind::Query, "shout".parse()?, |request| async move {
        let text = String::from_utf8_lossy(&request.content()).to_uppercase();
        Ok(Some(Payload::text(text)))
    })?;
    let options = HostOptions {
        native: Some(dispatcher),
        ..HostOptions::default()
    };
    let (backend, store) = (opened.broker.backend.clone(), opened.broker.store.clone());
    let host = Host::start(backend, store, options).await?;
    let client = Client::connect(&url).await?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = client
        .channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await?;
    let mut replies = client.consume(declared.name().as_str()).await?;
    let properties = BasicProperties::default()
        .with_reply_to(declared.name().clone())
        .with_correlation_id("42".into());
    client
        .publish("sandbar:unicast", "shout", b"hello", properties)
        .await?;
    let reply = tokio::time::timeout(PATIENCE, replies.next()).await?;
    let reply = reply.ok_or("the consumer ended")??;
    assert_eq!(reply.data, b"HELLO");
    let correlation = reply.properties.correlation_id();
    assert_eq!(correlation.as_ref().map(|id| id.as_str()), Some("42"));
    host.stop(PATIENCE).await;
    Ok(())
}
