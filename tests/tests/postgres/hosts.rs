//! Several hosts on one healthy database: what they share, what they hear of each other, and what is left of one that ends.
//!
//! A host that dies is played by dropping it without closing it; one that is really killed is another file's.

use std::time::Duration;

use sandbar::backend::{BackendError, Outgoing, PostgresOptions, QueueSpec, SettleError, Verdict};
use sandbar_tests::contract::{Outcome, SOON, message, spec, texts, writing};
use sandbar_tests::servers::postgres::Postgres;

use super::{NEVER_BY_ITSELF, host, hosts, options};

/// Queues, messages, state and dead letters are those of all hosts; each hears of the others without looking.
#[tokio::test]
async fn hosts_share_everything_and_hear_of_each_other() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = PostgresOptions {
        poll: NEVER_BY_ITSELF,
        ..options(server)
    };
    let (a, b) = hosts(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    // Waits before there is a message, on a host that didn't declare the queue.
    let waiting = {
        let (b, queue) = (b.clone(), queue.clone());
        tokio::spawn(async move { b.one(&queue).await.map_err(|error| error.to_string()) })
    };
    assert_eq!(a.publish(message("t", "1")?).await?.queues, 1);
    let delivery = waiting.await??;
    assert_eq!(texts(std::slice::from_ref(&delivery)), ["1"]);
    let effects = writing(&[], &[("k", Some("v"))]);
    b.settle(delivery.settle(Verdict::Ack, effects)).await?;
    assert_eq!(a.store.state_get("p", "k").await?.value, Some("v".into()));
    a.nothing(&queue).await?;
    // What one host delays, the other one gets.
    let delay = Duration::from_millis(50);
    let late = Outgoing {
        delay,
        ..message("t", "2")?
    };
    b.publish(late).await?;
    a.ack(a.take(&queue, 1).await?).await?;
    // A binding of one host holds for the next message of the other one.
    b.queue("q", &["u"]).await?;
    assert_eq!(a.publish(message("u", "3")?).await?.queues, 1);
    assert_eq!(a.publish(message("t", "4")?).await?.queues, 0);
    // So does its end, for who waits as well.
    let waiting = {
        let (b, queue) = (b.clone(), queue.clone());
        tokio::spawn(async move { b.backend.receive(&queue, 9, SOON).await })
    };
    b.ack(waiting.await??).await?;
    let waiting = {
        let (b, queue) = (b.clone(), queue.clone());
        tokio::spawn(async move { b.backend.receive(&queue, 9, SOON).await })
    };
    a.backend.delete_queue(&queue.name).await?;
    let unknown = BackendError::UnknownQueue(queue.name.clone());
    assert_eq!(waiting.await?.err(), Some(unknown));
    let to_all = message("u", "5")?.message.multicast();
    assert_eq!(b.publish(Outgoing::new(to_all)).await?.queues, 0);
    Ok(())
}

/// Without notifications a host finds by looking what others publish, delay and declare.
#[tokio::test]
async fn hosts_that_hear_nothing_look() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = PostgresOptions {
        listen: false,
        poll: Duration::from_millis(50),
        ..options(server)
    };
    let (a, b) = hosts(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    for delay in [Duration::ZERO, Duration::from_millis(100)] {
        let waiting = {
            let (b, queue) = (b.clone(), queue.clone());
            tokio::spawn(async move { b.backend.receive(&queue, 1, SOON).await })
        };
        a.publish(Outgoing {
            delay,
            ..message("t", "1")?
        })
        .await?;
        let received = waiting.await??;
        assert_eq!(texts(&received), ["1"]);
        b.ack(received).await?;
    }
    a.backend.delete_queue(&queue.name).await?;
    let ended = b.backend.receive(&queue, 1, SOON).await;
    assert_eq!(ended.err(), Some(BackendError::UnknownQueue(queue.name)));
    Ok(())
}

/// What a dead host had in flight comes again on another one when its lease ends, as the same attempt; whoever comes
/// back from the dead is refused, and nothing of what it did is visible.
#[tokio::test]
async fn leases_outlive_their_host_and_fences_keep_the_late_out() -> Outcome {
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
            lease: Duration::from_millis(300),
            ..spec("q", &["t"])?
        })
        .await?;
    a.send("t", &["1", "2"]).await?;
    let mut held = a.take(&queue, 2).await?;
    let frozen = held.pop().ok_or("two")?;
    let settling = held.pop().ok_or("two")?;
    // One is settled in time; the other one is still in flight as its host stops doing anything.
    a.ack(vec![settling]).await?;
    let again = b.one(&queue).await?;
    assert_eq!(
        (texts(std::slice::from_ref(&again)), again.attempt),
        (vec!["2".to_owned()], 1)
    );
    b.backend.extend(&[again.token()], SOON).await;
    let mut effects = writing(&[], &[("k", Some("late"))]);
    effects.publishes.push(message("t", "late")?);
    let late = a.settle(frozen.settle(Verdict::Ack, effects)).await;
    assert_eq!(late, Err(SettleError::Stale));
    assert_eq!(b.store.state_get("p", "k").await?.value, None);
    b.ack(vec![again]).await?;
    b.nothing(&queue).await?;
    // The same without anybody left who could come back.
    a.send("t", &["3"]).await?;
    let lost = a.one(&queue).await?;
    drop(a);
    let again = b.one(&queue).await?;
    assert_eq!(again.attempt, 1);
    drop(lost);
    Ok(())
}

/// A host that closes gives back at once what it had in flight.
#[tokio::test]
async fn closing_gives_everything_back() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    let queue = a.queue("q", &["t"]).await?;
    a.send("t", &["1", "2"]).await?;
    let held = a.take(&queue, 2).await?;
    a.backend.close().await;
    // The lease would have lasted for longer than anybody waits here.
    let taken = b.take(&queue, 2).await?;
    assert!(taken.iter().all(|delivery| delivery.attempt == 1));
    assert_eq!(a.ack(held).await, Err(SettleError::Closed));
    Ok(())
}

/// An ephemeral queue is gone with its host, however that ended, and stays while the host lives.
#[tokio::test]
async fn ephemeral_queues_end_with_their_host() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    for crash in [true, false] {
        let options = PostgresOptions {
            host_timeout: Duration::from_millis(1_500),
            poll: Duration::from_millis(50),
            ..options(server)
        };
        let (a, b) = hosts(&options).await?;
        let replies = QueueSpec {
            ephemeral: true,
            ..spec("_reply.x", &["_reply.x"])?
        };
        let queue = a.declare(replies).await?;
        tokio::time::sleep(options.host_timeout * 2).await;
        assert_eq!(b.publish(message("_reply.x", "1")?).await?.queues, 1);
        assert_eq!(texts(&a.take(&queue, 1).await?), ["1"]);
        if !crash {
            a.backend.close().await;
        }
        drop(a);
        let until = tokio::time::Instant::now() + SOON;
        while b.backend.get_queue(&queue.name).await.is_ok() {
            assert!(tokio::time::Instant::now() < until, "crash: {crash}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(b.publish(message("_reply.x", "2")?).await?.queues, 0);
        // Its messages are removed as well.
        let sql = format!("SELECT count(*) FROM {}.messages", options.schema);
        while server.psql(&sql) != "0" {
            assert!(tokio::time::Instant::now() < until, "crash: {crash}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// A host that was taken for dead gets its ephemeral queues back when it lives again.
#[tokio::test]
async fn a_host_that_was_taken_for_dead_comes_back() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = PostgresOptions {
        poll: Duration::from_millis(50),
        ..options(server)
    };
    let a = host(&options).await?;
    let ephemeral = QueueSpec {
        ephemeral: true,
        ..spec("_reply.x", &["_reply.x"])?
    };
    let queue = a.declare(ephemeral).await?;
    let waiting = {
        let (a, queue) = (a.clone(), queue.clone());
        tokio::spawn(async move { a.backend.receive(&queue, 1, SOON).await })
    };
    let sql = format!(
        "SELECT id FROM {}.queues WHERE name = '_reply.x'",
        options.schema
    );
    let before = server.psql(&sql);
    // The next heartbeat revives it; so it dies again and again until that was noticed.
    let dies = format!(
        "UPDATE {0}.hosts SET until = now() - interval '1 second' \
         WHERE id = (SELECT owner FROM {0}.queues WHERE id = {before})",
        options.schema
    );
    let b = host(&options).await?;
    let until = tokio::time::Instant::now() + SOON;
    while [before.as_str(), ""].contains(&&*server.psql(&sql)) {
        assert!(tokio::time::Instant::now() < until);
        server.psql(&dies);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(b.publish(message("_reply.x", "1")?).await?.queues, 1);
    assert_eq!(texts(&waiting.await??), ["1"]);
    Ok(())
}
