//! That a message comes, comes once, and comes again when it was not settled.
//!
//! Order and routing have files of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbar::backend::{Effects, Outgoing, QueueSpec, SettleError, SourceEvent, Verdict};
use tokio::time::Instant;

use super::{Broker, Outcome, SOON, message, spec, texts};

/// What is published can be received, with all that it says.
pub async fn publish_then_receive(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let sent = message("t", "hello")?;
    let receipt = broker.publish(sent.clone()).await?;
    assert_eq!(receipt.queues, 1);
    let delivery = broker.one(&queue).await?;
    assert_eq!(super::content(&delivery)?, super::sorted(&sent.message));
    assert_eq!(
        (delivery.attempt, &delivery.key, delivery.route),
        (1, &None, None)
    );
    broker.ack(vec![delivery]).await?;
    broker.nothing(&queue).await
}

/// A source delivers what is published before and after it was made.
pub async fn a_subscription_delivers(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    let mut source = broker.backend.clone().subscribe(&queue).await?;
    for expected in ["1", "2"] {
        let SourceEvent::Delivered(batch) = tokio::time::timeout(SOON, source.next(10)).await?
        else {
            return Err("expected a delivery".into());
        };
        assert_eq!(texts(&batch), [expected]);
        broker.ack(batch).await?;
        broker.send("t", &["2"]).await?;
    }
    Ok(())
}

/// Each message goes to exactly one of many receivers.
pub async fn concurrent_receivers_share_the_messages(broker: Broker) -> Outcome {
    const COUNT: usize = 300;
    let queue = broker.queue("q", &["t"]).await?;
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (broker, queue) = (broker.clone(), queue.clone());
        receivers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let Ok(batch) = broker.backend.receive(&queue, 7, SOON).await else {
                    break;
                };
                let stop = texts(&batch).iter().any(|text| text == "stop");
                got.extend(texts(&batch).into_iter().filter(|text| text != "stop"));
                if broker.ack(batch).await.is_err() || stop {
                    break;
                }
            }
            got
        });
    }
    let all: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    for chunk in all.chunks(10) {
        broker
            .send("t", &chunk.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
    }
    // One at a time, so that no receiver takes the end of another one.
    let mut got = Vec::new();
    for _ in 0..4 {
        broker.send("t", &["stop"]).await?;
        got.extend(receivers.join_next().await.ok_or("no receiver left")??);
    }
    assert_eq!(got.len(), COUNT, "each message once");
    assert_eq!(
        got.into_iter().collect::<BTreeSet<_>>(),
        all.into_iter().collect()
    );
    Ok(())
}

/// Receivers that wait already are woken, each by a message.
pub async fn a_waiting_receiver_is_woken(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (broker, queue) = (broker.clone(), queue.clone());
        waiting.spawn(async move { broker.backend.receive(&queue, 1, SOON).await });
    }
    // One that gives up must not swallow the call for another.
    drop(
        tokio::time::timeout(
            Duration::from_millis(20),
            broker.backend.receive(&queue, 1, SOON),
        )
        .await,
    );
    broker.send("t", &["1", "2", "3"]).await?;
    while let Some(received) = waiting.join_next().await {
        let received = received??;
        assert_eq!(received.len(), 1);
        broker.ack(received).await?;
    }
    Ok(())
}

/// A retry comes again as attempt 2, and not before its time.
pub async fn redelivery_on_retry_after_its_delay(broker: Broker) -> Outcome {
    const AFTER: Duration = Duration::from_millis(150);
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1", "2"]).await?;
    let first = broker.one(&queue).await?;
    assert_eq!(
        (first.attempt, texts(std::slice::from_ref(&first))),
        (1, vec!["1".to_owned()])
    );
    let start = Instant::now();
    broker.retry(first, AFTER).await?;
    let other = broker.take(&queue, 1).await?;
    assert_eq!(texts(&other), ["2"], "a retry blocks nobody else");
    broker.ack(other).await?;
    let again = broker.one(&queue).await?;
    assert!(start.elapsed() >= AFTER, "came after {:?}", start.elapsed());
    assert_eq!(again.attempt, 2);
    broker.retry(again, Duration::ZERO).await?;
    assert_eq!(broker.one(&queue).await?.attempt, 3);
    Ok(())
}

/// A dropped delivery comes again at once, and as the same attempt.
pub async fn redelivery_on_drop(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    for _ in 0..3 {
        let delivery = broker.one(&queue).await?;
        assert_eq!(delivery.attempt, 1);
        drop(delivery);
    }
    Ok(())
}

/// A lease that runs out makes its message ready again and its token stale.
pub async fn redelivery_on_lease_expiry(broker: Broker) -> Outcome {
    let lease = Duration::from_millis(80);
    let queue = broker
        .declare(QueueSpec {
            lease,
            ..spec("q", &["t"])?
        })
        .await?;
    broker.send("t", &["1"]).await?;
    let first = broker.one(&queue).await?;
    let second = broker.one(&queue).await?;
    assert_eq!(second.attempt, 1);
    assert_ne!(first.token(), second.token());
    let late = broker
        .settle(first.settle(Verdict::Ack, Effects::default()))
        .await;
    assert_eq!(late, Err(SettleError::Stale));
    // Slow machines let the second lease run out too; then the message comes a third time.
    if broker.ack(vec![second]).await.is_err() {
        let third = broker.one(&queue).await?;
        broker.backend.extend(&[third.token()], SOON).await;
        broker.ack(vec![third]).await?;
    }
    broker.nothing(&queue).await
}

/// A lease that is extended in time does not run out.
pub async fn extending_keeps_a_lease(broker: Broker) -> Outcome {
    let lease = Duration::from_millis(250);
    let queue = broker
        .declare(QueueSpec {
            lease,
            ..spec("q", &["t"])?
        })
        .await?;
    broker.send("t", &["1"]).await?;
    let mut delivery = broker.one(&queue).await?;
    while broker.backend.extend(&[delivery.token()], SOON).await != [Ok(())] {
        delivery = broker.one(&queue).await?;
    }
    tokio::time::sleep(lease * 2).await;
    broker.nothing(&queue).await?;
    let token = delivery.token();
    broker.ack(vec![delivery]).await?;
    assert_eq!(
        broker.backend.extend(&[token], SOON).await,
        [Err(SettleError::Stale)]
    );
    Ok(())
}

/// A delayed message is not there before its time, and lets others pass.
pub async fn a_delayed_message_comes_when_due(broker: Broker) -> Outcome {
    let delay = Duration::from_millis(150);
    let queue = broker.queue("q", &["t"]).await?;
    let start = Instant::now();
    broker
        .publish(Outgoing {
            delay,
            ..message("t", "late")?
        })
        .await?;
    broker.send("t", &["early"]).await?;
    for expected in ["early", "late"] {
        let taken = broker.take(&queue, 1).await?;
        assert_eq!(texts(&taken), [expected]);
        broker.ack(taken).await?;
    }
    assert!(start.elapsed() >= delay, "came after {:?}", start.elapsed());
    Ok(())
}

/// What was published before anybody subscribed goes to the first queue that is bound.
pub async fn a_late_subscriber_sees_earlier_messages(broker: Broker) -> Outcome {
    let topic = "t".parse()?;
    broker.backend.declare_topic(&topic).await?;
    let receipt = broker.publish(message("t", "1")?).await?;
    broker.check_count(receipt, 0);
    broker.send("u.v", &["2"]).await?;
    broker.send("t", &["3"]).await?;
    let other = broker.queue("other", &["x"]).await?;
    let first = broker.queue("first", &["t", "u.*"]).await?;
    let second = broker.queue("second", &["t"]).await?;
    broker.send("t", &["4"]).await?;
    let taken = broker.take(&first, 4).await?;
    assert_eq!(texts(&taken), ["1", "2", "3", "4"]);
    for queue in [other, second] {
        assert!(
            broker
                .backend
                .receive(&queue, 1, broker.never())
                .await?
                .is_empty(),
            "{}",
            queue.name
        );
    }
    Ok(broker.ack(taken).await?)
}
