//! What operators do on one database, from several hosts at once.
//!
//! What replaying and purging mean is the contract suite's.

use std::time::Duration;

use sandbar::backend::{Effects, PostgresOptions, Queue, Verdict};
use sandbar::store::{LetterFilter, LetterPart, ReplayTo, Retention};
use sandbar_tests::contract::{
    Broker, Failure, Outcome, SOON, keyed, letter, message, name, texts,
};
use sandbar_tests::servers::postgres::Postgres;
use tokio::time::Instant;

use super::{host, hosts, options};

/// Publishes numbers and makes dead letters of them that ended at this moment.
async fn bury(broker: &Broker, queue: &Queue, count: usize, at_ms: i64) -> Outcome {
    let batch: Result<Vec<_>, _> = (0..count).map(|n| message("t", &n.to_string())).collect();
    for result in broker.backend.publish(batch?).await {
        result?;
    }
    let mut settlements = Vec::new();
    for delivery in broker.take(queue, count).await? {
        let mut letter = letter(&delivery, "no");
        letter.at_ms = at_ms;
        let verdict = Verdict::DeadLetter(Box::new(letter));
        settlements.push(delivery.settle(verdict, Effects::default()));
    }
    for result in broker.backend.settle(settlements).await {
        result?;
    }
    Ok(())
}

async fn letters(broker: &Broker) -> Result<u64, Failure> {
    let counts = broker.store.count_letters(&LetterFilter::default()).await?;
    Ok(counts.total())
}

/// Two operators on two hosts replay the same letters: each is a message again once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_replayed_by_whoever_is_first() -> Outcome {
    const COUNT: usize = 300;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    let queue = a.queue("q", &["t"]).await?;
    bury(&a, &queue, COUNT, 1).await?;
    let replay = async |broker: &Broker| -> Result<u64, Failure> {
        let mut part = LetterPart {
            until: u64::MAX,
            limit: 20,
            ..LetterPart::default()
        };
        let mut all = 0;
        loop {
            let done = broker.store.replay_letters(&part, &ReplayTo::Origin);
            let done = done.await?;
            assert_eq!(done.refused, []);
            all += done.done;
            match done.next {
                Some(next) => part.after = next,
                None => return Ok(all),
            }
        }
    };
    let (first, second) = tokio::join!(replay(&a), replay(&b));
    assert_eq!(first? + second?, COUNT as u64);
    let taken = a.take(&queue, COUNT).await?;
    let mut got = texts(&taken);
    b.nothing(&queue).await?;
    got.sort();
    got.dedup();
    assert_eq!(got.len(), COUNT, "each of them once");
    assert_eq!(letters(&b).await?, 0);
    Ok(())
}

/// Dead letters that were kept long enough are removed, then the oldest of those that are too many.
#[tokio::test]
async fn dead_letters_are_kept_as_long_as_a_host_says() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let a = host(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    bury(&a, &queue, 4, 1_700_000_000_000).await?;
    bury(&a, &queue, 5, i64::MAX).await?;
    assert_eq!(letters(&a).await?, 9, "nobody said anything");
    let most = |most| {
        Some(Retention {
            keep: Duration::from_secs(3600),
            most,
        })
    };
    for (most, left) in [(most(1_000), 5), (most(3), 3)] {
        let b = host(&PostgresOptions {
            letters: most,
            ..options.clone()
        })
        .await?;
        let until = Instant::now() + SOON;
        while letters(&b).await? != left {
            assert!(Instant::now() < until, "{} are left", letters(&b).await?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        b.backend.close().await;
    }
    Ok(())
}

/// Receivers of all hosts are counted, those of others as of the last time that they said that they live.
#[tokio::test]
async fn receivers_of_other_hosts_are_counted() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = PostgresOptions {
        host_timeout: Duration::from_secs(2),
        ..options(server)
    };
    let (a, b) = hosts(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    let waiting = {
        let (b, queue) = (b.clone(), queue.clone());
        tokio::spawn(async move { b.backend.receive(&queue, 1, SOON * 2).await })
    };
    for expected in [1, 0] {
        let until = Instant::now() + SOON;
        loop {
            let overview = a.backend.overview().await?;
            let mut queues = overview.queues.iter();
            let queue = queues.find(|status| status.spec.name == queue.name);
            if queue.ok_or("q")?.receivers == expected {
                break;
            }
            assert!(Instant::now() < until, "{expected} are expected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Ends the one that waits.
        a.send("t", &["1"]).await?;
    }
    drop(waiting.await??);
    Ok(())
}

/// A long queue is emptied in several transactions, and its keys work as before.
#[tokio::test]
async fn a_long_queue_is_purged() -> Outcome {
    const COUNT: usize = 22_000;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    let queue = a.queue("q", &["t"]).await?;
    let numbers: Vec<usize> = (0..COUNT).collect();
    for chunk in numbers.chunks(2_000) {
        let batch: Result<Vec<_>, _> = chunk
            .iter()
            .map(|n| match n % 2 {
                0 => message("t", &n.to_string()),
                _ => keyed("t", &format!("k{}", n % 5), &n.to_string()),
            })
            .collect();
        for result in a.backend.publish(batch?).await {
            result?;
        }
    }
    let held = b.take(&queue, 3).await?;
    let purged = a.backend.purge_queue(&name("q")?).await?;
    assert_eq!(purged, (COUNT - held.len()) as u64);
    b.nothing(&queue).await?;
    b.ack(held).await?;
    b.nothing(&queue).await?;
    for key in 0..5 {
        a.publish(keyed("t", &format!("k{key}"), "new")?).await?;
    }
    assert_eq!(texts(&b.take(&queue, 5).await?), ["new"; 5]);
    Ok(())
}
