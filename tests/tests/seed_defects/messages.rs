//! What becomes of a message's content, status and strategy on its way.

use sandbar::message::{Message, Payload, Status};
use sandbar::topic::TopicName;
use sandbar::wire::{self, Form, Packet, RawPacket};
use sandbar_tests::contract::spec;
use sandbar_tests::traffic::{publish, text, topic};
use serde_json::{Value, json};

use super::{embedded, memory};

/// The seed writes Avro with a schema made of the first element, and reads numbers back as that type.
fn seed_coerces(value: &Value) -> Value {
    let whole = |value: &Value| json!(value.as_f64().map(|number| number.trunc() as i64));
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_i64) => {
            items.iter().map(whole).collect()
        }
        Value::Object(fields) if fields.values().next().is_some_and(Value::is_i64) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), whole(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// `[1, 2.5]` becomes `[1, 2]`, and a price of 9.99 beside an integer 9. Ours: bytes in, same bytes out.
#[tokio::test]
async fn content_is_coerced() {
    let folder = tempfile::tempdir().unwrap();
    let contents = [
        r#"[1, 2.5]"#,
        r#"{"a_qty":1,"price":9.99}"#,
        r#"[1,"x",null]"#,
    ];
    let lost = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        seed_coerces(&value) != value
    };
    assert!(contents.iter().all(|content| lost(content)));
    for broker in [memory(), embedded(folder.path()).await] {
        let queue = broker.queue("q", &["t"]).await.unwrap();
        for content in contents {
            let sent = Message::new(topic("t"), Payload::new(content));
            publish(&*broker.backend, sent.clone()).await;
            let delivery = broker.one(&queue).await.unwrap();
            let came = wire::decode(Form::Native, &delivery.packet).unwrap();
            assert_eq!(text(&came), content);
            broker.ack(vec![delivery]).await.unwrap();
            // Nor does any form in which it travels to other brokers.
            for form in [Form::Native, Form::Json] {
                let raw = wire::encode(form, &sent).unwrap();
                let came = wire::decode(form, &Packet::Raw(raw)).unwrap();
                assert_eq!(text(&came), content, "{form:?}");
            }
        }
    }
}

/// The seed's status is an enumeration of four numbers.
fn seed_status(code: i64) -> Result<u16, String> {
    match code {
        200 => Ok(200),
        400 => Ok(400),
        500 => Ok(500),
        600 => Ok(600),
        other => Err(format!("{other} is not a valid BrokerMessageV1Status")),
    }
}

/// A message whose status is none of the four cannot be decoded, and is lost. Ours: any other number is 600, and not `ok`.
#[test]
fn an_unknown_status_code_is_a_decoding_error() {
    for code in [0, 201, 404, 503, -1] {
        assert!(seed_status(code).is_err());
        let body = json!({"topic": "t", "status": code}).to_string();
        let raw = RawPacket {
            topic: "t".to_owned(),
            body: body.into(),
            ..RawPacket::default()
        };
        let message = wire::decode(Form::Json, &Packet::Raw(raw)).unwrap();
        assert_eq!(message.payload.status, Status::Unknown, "{code}");
        assert!(!message.ok());
        let raw = RawPacket {
            topic: "t".to_owned(),
            properties: vec![("sandbar-status".to_owned(), code.to_string())],
            ..RawPacket::default()
        };
        let message = wire::decode(Form::Native, &Packet::Raw(raw)).unwrap();
        assert_eq!(message.payload.status, Status::Unknown, "{code}");
    }
}

/// Messages carry a strategy that the brokers ignore. Ours: a unicast message goes to one of the subscribed
/// groups, a multicast message to all of them.
#[tokio::test]
async fn the_strategy_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    for broker in [memory(), embedded(folder.path()).await] {
        let mut queues = Vec::new();
        for name in ["one", "other"] {
            queues.push(broker.declare(spec(name, &["t"]).unwrap()).await.unwrap());
        }
        let receivers = async |message: Message| {
            publish(&*broker.backend, message).await;
            let mut receivers = 0;
            for queue in &queues {
                let wait = std::time::Duration::from_millis(50);
                let batch = broker.backend.receive(queue, 10, wait).await.unwrap();
                receivers += batch.len();
                broker.ack(batch).await.unwrap();
            }
            receivers
        };
        let name: TopicName = topic("t");
        let message = Message::new(name, Payload::default());
        assert_eq!(receivers(message.clone()).await, 1, "unicast");
        let message = Message {
            identifier: uuid::Uuid::now_v7(),
            ..message
        };
        assert_eq!(receivers(message.multicast()).await, 2, "multicast");
    }
}
