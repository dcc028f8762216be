//! In which order messages come: in a queue, and for one key.
//!
//! Nothing is promised between two queues.

use std::collections::HashMap;
use std::time::Duration;

use super::{Broker, Outcome, SOON, keyed, texts};

/// Messages come in the order in which they were published; what comes back keeps its place.
pub async fn a_queue_keeps_its_order(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let all: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    for chunk in all.chunks(70) {
        broker
            .send("t", &chunk.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
    }
    let mut first = broker.take(&queue, 20).await?;
    let given_back = first.split_off(10);
    broker.ack(first).await?;
    drop(given_back);
    let mut got = Vec::new();
    while got.len() < 490 {
        let batch = broker.backend.receive(&queue, 33, SOON).await?;
        assert!(!batch.is_empty());
        got.extend(texts(&batch));
        broker.ack(batch).await?;
    }
    assert_eq!(got, all.get(10..).unwrap_or_default());
    Ok(())
}

/// Of one key only one message is in flight; dropping it doesn't let the next one pass.
pub async fn a_key_has_one_message_in_flight(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    for text in ["1", "2", "3"] {
        broker.publish(keyed("t", "k", text)?).await?;
    }
    let first = broker.take(&queue, 1).await?;
    assert_eq!(texts(&first), ["1"]);
    assert!(
        broker
            .backend
            .receive(&queue, 9, broker.never())
            .await?
            .is_empty()
    );
    drop(first);
    for expected in ["1", "2", "3"] {
        let one = broker.backend.receive(&queue, 9, SOON).await?;
        assert_eq!(texts(&one), [expected]);
        assert_eq!(
            one.first().and_then(|delivery| delivery.key.as_deref()),
            Some("k")
        );
        broker.ack(one).await?;
    }
    broker.nothing(&queue).await
}

/// A key that waits for a retry holds back its own messages and no others.
pub async fn keys_do_not_wait_for_each_other(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    for (key, text) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2")] {
        broker.publish(keyed("t", key, text)?).await?;
    }
    let mut both = broker.take(&queue, 2).await?;
    assert_eq!(texts(&both), ["a1", "b1"]);
    let b1 = both.pop().ok_or("two")?;
    let a1 = both.pop().ok_or("two")?;
    broker.retry(a1, Duration::from_millis(200)).await?;
    broker.ack(vec![b1]).await?;
    for expected in ["b2", "a1", "a2"] {
        let one = broker.backend.receive(&queue, 9, SOON).await?;
        assert_eq!(texts(&one), [expected]);
        broker.ack(one).await?;
    }
    Ok(())
}

/// Several workers with retries and drops: the messages of each key end in the order of publishing.
pub async fn a_key_keeps_its_order_through_retries(broker: Broker) -> Outcome {
    const KEYS: usize = 7;
    const EACH: usize = 12;
    let queue = broker.queue("q", &["t"]).await?;
    let mut batch = Vec::new();
    for n in 0..EACH {
        for key in 0..KEYS {
            batch.push(keyed("t", &format!("k{key}"), &n.to_string())?);
        }
    }
    for result in broker.backend.publish(batch).await {
        result?;
    }
    let done: std::sync::Mutex<HashMap<String, Vec<String>>> = std::sync::Mutex::default();
    let total = || {
        done.lock()
            .map_or(0, |done| done.values().map(Vec::len).sum::<usize>())
    };
    let worker = async |number: u64| -> Result<(), String> {
        while total() < KEYS * EACH {
            let received = broker
                .backend
                .receive(&queue, 3, broker.never())
                .await
                .map_err(|e| e.to_string())?;
            for delivery in received {
                let text = texts(std::slice::from_ref(&delivery)).concat();
                let dice = number + delivery.token().id + (delivery.token().fence >> 24) % 5;
                if delivery.attempt == 1 && dice.is_multiple_of(3) {
                    let after = Duration::from_millis(dice % 4);
                    broker
                        .retry(delivery, after)
                        .await
                        .map_err(|e| e.to_string())?;
                } else if dice.is_multiple_of(7) {
                    drop(delivery);
                    tokio::task::yield_now().await;
                } else {
                    let key = delivery.key.as_deref().unwrap_or_default().to_owned();
                    done.lock()
                        .map_err(|e| e.to_string())?
                        .entry(key)
                        .or_default()
                        .push(text);
                    broker
                        .ack(vec![delivery])
                        .await
                        .map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(())
    };
    let ends = tokio::join!(worker(0), worker(1), worker(2), worker(3));
    for end in [ends.0, ends.1, ends.2, ends.3] {
        end?;
    }
    let expected: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
    let done = done.into_inner()?;
    assert_eq!(done.len(), KEYS);
    for (key, got) in done {
        assert_eq!(got, expected, "{key}");
    }
    Ok(())
}
