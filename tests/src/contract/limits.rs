//! That every legal message survives untouched, and that what is too large is refused.
//!
//! Which message is legal is the business of `sandbar::message`.

use sandbar::backend::{Outgoing, PublishError};
use sandbar::message::{Message, Payload, Status};
use uuid::Uuid;

use super::{Broker, Outcome, content, message};

/// Every header that can be set, and all metadata, come out as they went in.
pub async fn headers_and_metadata_survive(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let mut payload = Payload::new(&b"\x00\xff\x80 not text"[..]).with_status(Status::Unknown);
    let long = "v".repeat(8_000);
    let legal = [
        ("content-type", "application/octet-stream"),
        ("user", "0190b6f8-4a0e-7c3e-9d3e-0123456789ab"),
        (
            "x!#$%&'*+-.^_`|~/\\{}[]()<>@,;?",
            "every character that a name may have",
        ),
        ("unicode", "grüße, 日本語, 🦀, \u{202e}"),
        ("tab", "a\tb"),
        ("quote", "\"'`\\ {\"json\": [1]} '; DROP TABLE messages; --"),
        ("empty", ""),
        ("spaces", "  around  "),
        ("long", &long),
        ("null", "null"),
    ];
    for (name, value) in legal {
        payload.headers.insert(name, value)?;
    }
    let sent = Message::new("t".parse()?, payload)
        .with_identifier(Uuid::from_u128(1))
        .with_reply_topic("_reply.x".parse()?)
        .multicast();
    let key = Some("k \"ü\"".into());
    broker
        .publish(Outgoing {
            key,
            ..Outgoing::new(sent.clone())
        })
        .await?;
    let delivery = broker.one(&queue).await?;
    assert_eq!(content(&delivery)?, super::sorted(&sent));
    assert_eq!(delivery.key.as_deref(), Some("k \"ü\""));
    Ok(())
}

/// Contents of every size that is allowed come out byte for byte; one byte more is refused and nothing is sent.
pub async fn content_of_every_size_survives(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let limit = broker.backend.capabilities().max_content;
    for size in [0, 1, 256 << 10, limit] {
        let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
        broker
            .publish(Outgoing::new(Message::new(
                "t".parse()?,
                Payload::new(bytes.clone()),
            )))
            .await?;
        let delivery = broker.one(&queue).await?;
        assert!(content(&delivery)?.payload.content == bytes, "{size} bytes");
        broker.ack(vec![delivery]).await?;
    }
    let size = limit + 1;
    let refused = broker
        .publish(Outgoing::new(Message::new(
            "t".parse()?,
            Payload::new(vec![0; size]),
        )))
        .await;
    assert_eq!(refused, Err(PublishError::TooLarge { size, limit }));
    broker.nothing(&queue).await
}

/// Results come in the order given, and a message that is refused leaves the others alone.
pub async fn one_bad_message_does_not_fail_the_others(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let unroutable = Outgoing {
        mandatory: true,
        ..message("nowhere", "2")?
    };
    let results = broker
        .backend
        .publish(vec![message("t", "1")?, unroutable, message("t", "3")?])
        .await;
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(super::texts(&broker.take(&queue, 2).await?), ["1", "3"]);
    assert!(broker.backend.publish(Vec::new()).await.is_empty());
    assert!(broker.backend.settle(Vec::new()).await.is_empty());
    Ok(())
}
