//! The state of plugins: visible with the settlement, guarded by versions.
//!
//! Who may read what is decided elsewhere.

use sandbar::backend::{Queue, SettleError, Verdict};
use sandbar::store::Versioned;

use super::{Broker, Outcome, writing};

async fn write(broker: &Broker, queue: &Queue, writes: &[(&str, Option<&str>)]) -> Outcome {
    broker.send("t", &["x"]).await?;
    let delivery = broker.one(queue).await?;
    Ok(broker
        .settle(delivery.settle(Verdict::Ack, writing(&[], writes)))
        .await?)
}

fn text(versioned: &Versioned) -> Option<&[u8]> {
    versioned.value.as_deref()
}

/// Values are written, replaced and deleted; each plugin has its own.
pub async fn state_is_read_and_written(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let empty = broker.store.state_get("p", "k").await?;
    assert_eq!(empty.value, None);
    write(&broker, &queue, &[("k", Some("1")), ("other", Some(""))]).await?;
    let first = broker.store.state_get("p", "k").await?;
    assert_eq!(text(&first), Some(&b"1"[..]));
    assert_eq!(
        text(&broker.store.state_get("p", "other").await?),
        Some(&b""[..])
    );
    assert_eq!(broker.store.state_get("p2", "k").await?.value, None);
    write(&broker, &queue, &[("k", Some("2"))]).await?;
    let second = broker.store.state_get("p", "k").await?;
    assert_eq!(text(&second), Some(&b"2"[..]));
    assert!(first.version != second.version && first.version != empty.version);
    assert_eq!(second, broker.store.state_get("p", "k").await?);
    write(&broker, &queue, &[("k", Some("3")), ("k", None)]).await?;
    assert_eq!(broker.store.state_get("p", "k").await?.value, None);
    Ok(())
}

/// State that changed after it was read: nothing happens, and the message comes again as the same attempt.
pub async fn state_conflicts_release_the_delivery(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let replies = broker.queue("replies", &["reply"]).await?;
    for before in [None, Some("0")] {
        write(&broker, &queue, &[("k", before)]).await?;
        let read = broker.store.state_get("p", "k").await?;
        let unread = broker.store.state_get("p", "other").await?;
        broker.send("t", &["slow"]).await?;
        let slow = broker.one(&queue).await?;
        write(&broker, &queue, &[("k", Some("1"))]).await?;
        let reads = [("other", unread.version), ("k", read.version)];
        let mut effects = writing(&reads, &[("k", Some("lost")), ("other", Some("lost"))]);
        effects.publishes.push(super::message("reply", "lost")?);
        let settled = broker.settle(slow.settle(Verdict::Ack, effects)).await;
        assert_eq!(settled, Err(SettleError::Conflict));
        assert_eq!(
            text(&broker.store.state_get("p", "k").await?),
            Some(&b"1"[..])
        );
        assert_eq!(broker.store.state_get("p", "other").await?, unread);
        broker.nothing(&replies).await?;
        let again = broker.one(&queue).await?;
        assert_eq!(again.attempt, 1);
        let read = broker.store.state_get("p", "k").await?;
        let effects = writing(&[("k", read.version)], &[("k", Some("2"))]);
        broker.settle(again.settle(Verdict::Ack, effects)).await?;
        assert_eq!(
            text(&broker.store.state_get("p", "k").await?),
            Some(&b"2"[..])
        );
    }
    Ok(())
}

/// State is decided by the call of `settle`, in the order of the calls, whenever it becomes durable.
pub async fn the_next_call_sees_the_state_of_the_last(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1", "2", "3", "4"]).await?;
    let mut ends = Vec::new();
    let mut count = 0_u32;
    for delivery in broker.take(&queue, 4).await? {
        let read = broker.store.state_get("p", "count").await?;
        assert_eq!(
            text(&read).map_or("0".into(), String::from_utf8_lossy),
            count.to_string()
        );
        count += 1;
        let (value, reads) = (count.to_string(), [("count", read.version)]);
        let effects = writing(&reads, &[("count", Some(&value))]);
        ends.push(
            broker
                .backend
                .settle(vec![delivery.settle(Verdict::Ack, effects)]),
        );
    }
    for end in ends.into_iter().rev() {
        assert_eq!(end.await, [Ok(())]);
    }
    assert_eq!(
        text(&broker.store.state_get("p", "count").await?),
        Some(&b"4"[..])
    );
    Ok(())
}

/// Keys with a prefix come in byte order, page by page, as far as they are decided.
pub async fn state_keys_are_listed_in_order(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let keys = [
        "a", "b", "b.1", "b.10", "b.2", "b.%", "b._x", "B.1", "bä", "c",
    ];
    let all: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (*key, Some("x"))).collect();
    write(&broker, &queue, &all).await?;
    broker.send("t", &["x"]).await?;
    let delivery = broker.one(&queue).await?;
    let effects = writing(&[], &[("b.2", None), ("b.0", Some("x"))]);
    let end = broker
        .backend
        .settle(vec![delivery.settle(Verdict::Ack, effects)]);
    let store = &broker.store;
    let expected = ["b.%", "b.0", "b.1", "b.10", "b._x"];
    assert_eq!(store.state_keys("p", "b.", None, 100).await?, expected);
    assert_eq!(store.state_keys("p", "b.", None, 2).await?, ["b.%", "b.0"]);
    assert_eq!(
        store.state_keys("p", "b.", Some("b.0"), 2).await?,
        ["b.1", "b.10"]
    );
    assert_eq!(store.state_keys("p", "b.", Some("b._x"), 2).await?, [""; 0]);
    assert_eq!(
        store.state_keys("p", "", None, 100).await?.len(),
        keys.len()
    );
    assert_eq!(store.state_keys("p2", "", None, 100).await?, [""; 0]);
    assert_eq!(end.await, [Ok(())]);
    assert_eq!(store.state_keys("p", "b.", None, 100).await?, expected);
    Ok(())
}

/// The bytes of all keys and values, whatever was replaced, deleted or refused on the way.
pub async fn state_is_measured(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let store = &broker.store;
    assert_eq!(store.state_size("p").await?, Some(0));
    let long = "x".repeat(1000);
    for (writes, expected) in [
        (&[("k", Some("12345")), ("other", Some(""))][..], 6 + 5),
        (&[("k", Some("1"))], 2 + 5),
        (&[("\u{fc}", Some("\u{fc}"))], 2 + 5 + 4),
        (&[("other", Some(&*long)), ("k", None)], 1005 + 4),
        (&[("absent", None)], 1005 + 4),
        (&[("k", Some("1")), ("k", Some("12"))], 1005 + 4 + 3),
        (&[("other", None), ("\u{fc}", None)], 3),
    ] {
        write(&broker, &queue, writes).await?;
        assert_eq!(store.state_size("p").await?, Some(expected), "{writes:?}");
    }
    let read = store.state_get("p", "k").await?;
    broker.send("t", &["slow"]).await?;
    let slow = broker.one(&queue).await?;
    write(&broker, &queue, &[("k", Some("123"))]).await?;
    let effects = writing(&[("k", read.version)], &[("k", Some(&long))]);
    let settled = broker.settle(slow.settle(Verdict::Ack, effects)).await;
    assert_eq!(settled, Err(SettleError::Conflict));
    assert_eq!(store.state_size("p").await?, Some(4));
    assert_eq!(store.state_size("p2").await?, Some(0));
    Ok(())
}
