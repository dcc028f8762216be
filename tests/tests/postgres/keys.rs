//! The order of keys, whoever publishes and whoever handles.
//!
//! Order on one host is the contract suite's.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use sandbar::backend::{Effects, Outgoing, PostgresOptions, QueueSpec, Verdict};
use sandbar_tests::contract::{Broker, NEVER, Outcome, keyed, message, spec, texts};
use sandbar_tests::servers::postgres::Postgres;

use super::{hosts, options};

/// Workers on two hosts, with retries, drops and leases that end: of a key one message is in flight at a time, and its
/// messages end in the order of publishing.
#[tokio::test]
async fn keys_keep_their_order_across_hosts() -> Outcome {
    const KEYS: usize = 7;
    const EACH: usize = 12;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = PostgresOptions {
        poll: Duration::from_millis(50),
        ..options(server)
    };
    let (a, b) = hosts(&options).await?;
    let queue = a
        .declare(QueueSpec {
            lease: Duration::from_millis(400),
            ..spec("q", &["t"])?
        })
        .await?;
    for n in 0..EACH {
        // By one host after the other, some of them delayed: such a message enters when it is due.
        let publisher = if n % 2 == 0 { &a } else { &b };
        let batch: Result<Vec<_>, _> = (0..KEYS)
            .map(|key| keyed("t", &format!("k{key}"), &n.to_string()))
            .collect();
        for result in publisher.backend.publish(batch?).await {
            result?;
        }
    }
    let done: Mutex<HashMap<String, Vec<String>>> = Mutex::default();
    let flying: Mutex<HashMap<String, u32>> = Mutex::default();
    let total = || done.lock().unwrap().values().map(Vec::len).sum::<usize>();
    let worker = async |host: &Broker, number: u64| -> Outcome {
        let mut step = number;
        while total() < KEYS * EACH {
            for delivery in host.backend.receive(&queue, 3, NEVER).await? {
                step += 1;
                let key = delivery.key.as_deref().unwrap_or_default().to_owned();
                let text = texts(std::slice::from_ref(&delivery)).concat();
                let lost = step.is_multiple_of(11);
                if !lost {
                    let in_flight = {
                        let mut flying = flying.lock().unwrap();
                        let count = flying.entry(key.clone()).or_default();
                        *count += 1;
                        *count
                    };
                    assert_eq!(in_flight, 1, "{key} is in flight twice");
                    tokio::task::yield_now().await;
                    flying.lock().unwrap().insert(key.clone(), 0);
                }
                match step % 5 {
                    // As if its host had died: nobody ends it, and the lease runs out.
                    _ if lost => std::mem::forget(delivery),
                    1 if delivery.attempt < 3 => {
                        host.retry(delivery, Duration::from_millis(step % 40))
                            .await
                            .ok();
                    }
                    2 => drop(delivery),
                    _ => {
                        let settlement = delivery.settle(Verdict::Ack, Effects::default());
                        if host.settle(settlement).await.is_ok() {
                            done.lock().unwrap().entry(key).or_default().push(text);
                        }
                    }
                }
            }
        }
        Ok(())
    };
    let ends = tokio::join!(worker(&a, 0), worker(&a, 1), worker(&b, 2), worker(&b, 3));
    for end in [ends.0, ends.1, ends.2, ends.3] {
        end?;
    }
    let expected: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
    let done = done.into_inner()?;
    assert_eq!(done.len(), KEYS);
    for (key, got) in done {
        assert_eq!(got, expected, "{key}");
    }
    let sql = format!("SELECT count(*) FROM {}.parked", options.schema);
    assert_eq!(server.psql(&sql), "0");
    Ok(())
}

/// A delayed message with a key joins the others of its key when it is due, not before and not beside them.
#[tokio::test]
async fn a_delayed_message_waits_for_its_key() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    let queue = a.queue("q", &["t"]).await?;
    let delay = Duration::from_millis(100);
    a.publish(Outgoing {
        delay,
        ..keyed("t", "k", "late")?
    })
    .await?;
    b.publish(keyed("t", "k", "first")?).await?;
    let first = b.take(&queue, 1).await?;
    assert_eq!(texts(&first), ["first"]);
    tokio::time::sleep(delay * 3).await;
    a.nothing(&queue).await?;
    b.ack(first).await?;
    let late = a.take(&queue, 1).await?;
    assert_eq!(texts(&late), ["late"]);
    // A retry with a delay holds the key meanwhile.
    b.publish(keyed("t", "k", "last")?).await?;
    let [late] = <[_; 1]>::try_from(late).map_err(|_| "one")?;
    a.retry(late, delay).await?;
    for (expected, attempt) in [("late", 2), ("last", 1)] {
        let one = b.take(&queue, 1).await?;
        assert_eq!(
            (texts(&one), one[0].attempt),
            (vec![expected.to_owned()], attempt)
        );
        b.ack(one).await?;
    }
    Ok(())
}

/// Kept messages join a queue in their order, those with keys behind their keys, those with a delay when they are due.
#[tokio::test]
async fn kept_messages_join_a_queue_with_keys_and_delays() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    for text in ["1", "2"] {
        a.publish(keyed("t", "k", text)?).await?;
    }
    a.send("t", &["3", "4"]).await?;
    let delay = Duration::from_millis(300);
    a.publish(Outgoing {
        delay,
        ..message("t", "5")?
    })
    .await?;
    let queue = b.queue("q", &["t"]).await?;
    let taken = a.take(&queue, 3).await?;
    let mut got = texts(&taken);
    got.sort();
    assert_eq!(got, ["1", "3", "4"]);
    a.ack(taken).await?;
    for expected in ["2", "5"] {
        let one = b.take(&queue, 1).await?;
        assert_eq!(texts(&one), [expected]);
        b.ack(one).await?;
    }
    Ok(())
}
