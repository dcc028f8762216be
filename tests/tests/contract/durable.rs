//! What the embedded broker promises across the end of its process, which is played by dropping it without closing it.
//!
//! A process that is really killed is another test's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{
    EmbeddedBackend, EmbeddedOptions, Outgoing, QueueSpec, SettleError, Verdict,
};
use sandbar_tests::contract::{
    Broker, Failure, NEVER, Outcome, SOON, keyed, letter, message, name, publishing, spec, texts,
    writing,
};

async fn open(folder: &Path) -> Result<Broker, Failure> {
    with(folder, EmbeddedOptions::default()).await
}

/// A broker that holds only a few messages in memory.
async fn narrow(folder: &Path) -> Result<Broker, Failure> {
    with(
        folder,
        EmbeddedOptions {
            window: 16,
            ..EmbeddedOptions::default()
        },
    )
    .await
}

async fn with(folder: &Path, options: EmbeddedOptions) -> Result<Broker, Failure> {
    let backend = Arc::new(EmbeddedBackend::open(folder, options).await?);
    Ok(Broker {
        backend: backend.clone(),
        store: backend,
    })
}

/// Everything that was confirmed and not settled is there again, and nothing else.
#[tokio::test]
async fn a_crash_loses_nothing_that_was_confirmed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let before = open(folder.path()).await?;
    let spec = QueueSpec {
        group: "g".to_owned(),
        dead_letter: Some(name("dead")?),
        lease: Duration::from_secs(77),
        ..spec("q", &["t.*"])?
    };
    let queue = before.declare(spec.clone()).await?;
    before
        .send("t.x", &["done", "in flight", "dead", "retry", "waiting"])
        .await?;
    let delayed = Outgoing {
        delay: Duration::from_millis(1),
        ..message("t.x", "delayed")?
    };
    before.publish(delayed).await?;
    before.send("kept", &["kept"]).await?;
    let mut taken = before.take(&queue, 4).await?;
    let retry = taken.pop().ok_or("four")?;
    let dead = taken.pop().ok_or("four")?;
    let in_flight = taken.pop().ok_or("four")?;
    let done = taken.pop().ok_or("four")?;
    let mut effects = writing(&[], &[("k", Some("v")), ("gone", None)]);
    effects.publishes.push(message("t.reply", "effect")?);
    before.settle(done.settle(Verdict::Ack, effects)).await?;
    let expected = letter(&dead, "dead");
    let verdict = Verdict::DeadLetter(Box::new(expected.clone()));
    before
        .settle(dead.settle(verdict, publishing(Vec::new())))
        .await?;
    before.retry(retry, Duration::ZERO).await?;
    drop(before);

    let after = open(folder.path()).await?;
    let queue = after.backend.get_queue(&queue.name).await?;
    let taken = after.take(&queue, 5).await?;
    let mut got: Vec<(String, u32)> = texts(&taken)
        .into_iter()
        .zip(taken.iter().map(|delivery| delivery.attempt))
        .collect();
    got.sort();
    let expected_texts = [
        ("delayed", 1),
        ("effect", 1),
        ("in flight", 1),
        ("retry", 2),
        ("waiting", 1),
    ];
    assert_eq!(
        got,
        expected_texts.map(|(text, attempt)| (text.to_owned(), attempt))
    );
    after.nothing(&queue).await?;
    let late = after
        .settle(in_flight.settle(Verdict::Ack, publishing(Vec::new())))
        .await;
    assert_eq!(
        late,
        Err(SettleError::Stale),
        "a token of the process before"
    );
    assert_eq!(
        after.store.state_get("p", "k").await?.value.as_deref(),
        Some(&b"v"[..])
    );
    assert_eq!(after.store.state_keys("p", "", None, 9).await?, ["k"]);
    assert_eq!(after.store.dead_letters(9).await?, [expected]);
    let dead = after.backend.get_queue(&name("dead")?).await?;
    assert_eq!(texts(&after.take(&dead, 1).await?), ["dead"]);
    let kept = after.queue("other", &["kept"]).await?;
    assert_eq!(texts(&after.take(&kept, 1).await?), ["kept"]);
    assert_eq!(
        after
            .publish(message("t.y", "bound as before")?)
            .await?
            .queues,
        1
    );
    Ok(())
}

/// A queue that belongs to its process is gone with it, however it ended.
#[tokio::test]
async fn ephemeral_queues_end_with_their_process() -> Outcome {
    let folder = tempfile::tempdir()?;
    for crash in [true, false] {
        let before = open(folder.path()).await?;
        let ephemeral = QueueSpec {
            ephemeral: true,
            ..spec("replies", &["t"])?
        };
        before.declare(ephemeral).await?;
        before.send("t", &["1"]).await?;
        if !crash {
            before.backend.close().await;
        }
        drop(before);
        let after = open(folder.path()).await?;
        assert!(
            after.backend.get_queue(&name("replies")?).await.is_err(),
            "crash: {crash}"
        );
        let queue = after.queue("q", &["t"]).await?;
        after.nothing(&queue).await?;
        after.backend.delete_queue(&queue.name).await?;
    }
    Ok(())
}

/// A backlog that is far larger than what is held in memory keeps its order, also while it grows, and after a crash.
#[tokio::test]
async fn a_backlog_beyond_memory_keeps_its_order() -> Outcome {
    const COUNT: usize = 20_000;
    let folder = tempfile::tempdir()?;
    let before = open(folder.path()).await?;
    let queue = before.queue("q", &["t"]).await?;
    let all: Vec<String> = (0..COUNT * 2).map(|n| n.to_string()).collect();
    let (first, second) = all.split_at(COUNT);
    for chunk in first.chunks(1_000) {
        before
            .send("t", &chunk.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
    }
    let mut got = Vec::new();
    drain(&before, &queue, 5_000, &mut got).await?;
    drop(before);

    let after = open(folder.path()).await?;
    let publisher = {
        let (after, second) = (after.clone(), second.to_vec());
        tokio::spawn(async move {
            for chunk in second.chunks(100) {
                let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
                after
                    .send("t", &chunk)
                    .await
                    .map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        })
    };
    drain(&after, &queue, COUNT * 2 - 5_000, &mut got).await?;
    publisher.await??;
    assert!(got == all, "out of order, lost or repeated");
    after.nothing(&queue).await
}

async fn drain(
    broker: &Broker,
    queue: &sandbar::backend::Queue,
    count: usize,
    got: &mut Vec<String>,
) -> Outcome {
    let end = got.len() + count;
    while got.len() < end {
        let batch = broker
            .backend
            .receive(queue, 333.min(end - got.len()), SOON)
            .await?;
        if batch.is_empty() {
            return Err(format!("only {} messages came", got.len()).into());
        }
        got.extend(texts(&batch));
        broker.ack(batch).await?;
    }
    Ok(())
}

/// Messages of a few keys, most of them only on disk, with retries, drops and crashes: each key keeps its order.
#[tokio::test]
async fn keys_keep_their_order_across_the_border_of_memory() -> Outcome {
    const KEYS: usize = 5;
    const EACH: usize = 60;
    let folder = tempfile::tempdir()?;
    let mut broker = narrow(folder.path()).await?;
    let queue = broker.queue("q", &["t"]).await?;
    for n in 0..EACH {
        let batch: Result<Vec<_>, _> = (0..KEYS)
            .map(|key| keyed("t", &format!("k{key}"), &n.to_string()))
            .collect();
        for result in broker.backend.publish(batch?).await {
            result?;
        }
    }
    let mut done: Vec<Vec<usize>> = vec![Vec::new(); KEYS];
    let mut step = 0_usize;
    while done.iter().map(Vec::len).sum::<usize>() < KEYS * EACH {
        for delivery in broker.backend.receive(&queue, 3, SOON).await? {
            step += 1;
            let number: usize = texts(std::slice::from_ref(&delivery)).concat().parse()?;
            let key: usize = delivery
                .key
                .as_deref()
                .unwrap_or_default()
                .trim_start_matches('k')
                .parse()?;
            match step % 7 {
                1 | 4 if delivery.attempt < 3 => {
                    broker
                        .retry(delivery, Duration::from_millis((step % 5) as u64))
                        .await?;
                }
                2 => drop(delivery),
                _ => {
                    broker.ack(vec![delivery]).await?;
                    done.get_mut(key).ok_or("an unknown key")?.push(number);
                }
            }
        }
        if step % 50 == 49 {
            drop(broker);
            broker = narrow(folder.path()).await?;
        }
    }
    for (key, got) in done.iter().enumerate() {
        assert!(got.iter().copied().eq(0..EACH), "key {key}: {got:?}");
    }
    broker.nothing(&queue).await
}

/// Many delayed messages come when they are due though only a few fit into memory, and none comes twice.
#[tokio::test]
async fn delayed_messages_beyond_memory_come_once() -> Outcome {
    let folder = tempfile::tempdir()?;
    let broker = narrow(folder.path()).await?;
    let queue = broker.queue("q", &["t"]).await?;
    let mut expected = Vec::new();
    let mut batch = Vec::new();
    for n in 0..200_u64 {
        let text = format!("{n:03}");
        let delay = Duration::from_millis(if n % 4 == 0 { 0 } else { n % 50 });
        batch.push(Outgoing {
            delay,
            ..message("t", &text)?
        });
        expected.push(text);
    }
    for result in broker.backend.publish(batch).await {
        result?;
    }
    let mut got = Vec::new();
    drain(&broker, &queue, 200, &mut got).await?;
    got.sort();
    assert_eq!(got, expected);
    assert!(broker.backend.receive(&queue, 1, NEVER).await?.is_empty());
    Ok(())
}

/// Kept messages that join a queue come after what it has and before what is published next.
#[tokio::test]
async fn kept_messages_join_a_queue_in_order() -> Outcome {
    let folder = tempfile::tempdir()?;
    let broker = narrow(folder.path()).await?;
    let queue = broker.queue("q", &["a"]).await?;
    let texts: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    broker.send("b", &texts).await?;
    broker.send("a", &texts).await?;
    broker.queue("q", &["a", "b"]).await?;
    broker.send("b", &["last"]).await?;
    let mut got = Vec::new();
    drain(&broker, &queue, 81, &mut got).await?;
    let mut expected = [&texts[..], &texts[..]].concat();
    expected.push("last");
    assert_eq!(got, expected);
    broker.nothing(&queue).await
}

/// Kept messages are bounded in number, and forgotten after their time.
#[tokio::test]
async fn kept_messages_are_bounded() -> Outcome {
    let folder = tempfile::tempdir()?;
    let options = EmbeddedOptions {
        kept: 3,
        ..EmbeddedOptions::default()
    };
    let broker = with(folder.path(), options.clone()).await?;
    broker.send("t", &["1", "2", "3"]).await?;
    assert!(broker.publish(message("t", "4")?).await.is_err());
    broker.backend.delete_topic(&"t".parse()?).await?;
    broker.send("t", &["5"]).await?;
    drop(broker);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let broker = with(
        folder.path(),
        EmbeddedOptions {
            kept_for: Duration::from_millis(5),
            ..options
        },
    )
    .await?;
    broker.send("t", &["6", "7", "8"]).await?;
    assert!(broker.publish(message("t", "9")?).await.is_err());
    let queue = broker.queue("q", &["t"]).await?;
    assert_eq!(texts_of(&broker, &queue).await?, ["6", "7", "8"]);
    Ok(())
}

async fn texts_of(
    broker: &Broker,
    queue: &sandbar::backend::Queue,
) -> Result<Vec<String>, Failure> {
    let taken = broker.take(queue, 3).await?;
    broker.nothing(queue).await?;
    Ok(texts(&taken))
}

/// How much a plugin keeps is known after the end as well.
#[tokio::test]
async fn what_a_plugin_keeps_is_measured_across_the_end() -> Outcome {
    let folder = tempfile::tempdir()?;
    let before = open(folder.path()).await?;
    let queue = before.queue("q", &["t"]).await?;
    before.send("t", &["x"]).await?;
    let delivery = before.one(&queue).await?;
    let effects = writing(&[], &[("\u{fc}", Some("12345")), ("k", Some("1"))]);
    before
        .settle(delivery.settle(Verdict::Ack, effects))
        .await?;
    assert_eq!(before.store.state_size("p").await?, Some(9));
    drop(before);
    let after = open(folder.path()).await?;
    assert_eq!(after.store.state_size("p").await?, Some(9));
    Ok(())
}
