//! What an operator sees of queues, and emptying one.

use std::time::Duration;

use sandbar::backend::{Outgoing, Queue, QueueStatus};

use super::{Broker, Failure, Outcome, keyed, message, name, texts};

/// Long enough never to come in a test.
const LATER: Duration = Duration::from_secs(1_000);

async fn status(broker: &Broker, queue: &Queue) -> Result<QueueStatus, Failure> {
    let overview = broker.backend.overview().await?;
    let mut queues = overview.queues.into_iter();
    queues
        .find(|status| status.spec.name == queue.name)
        .ok_or_else(|| format!("{} is not listed", queue.name).into())
}

/// Each message of a queue is counted once, where it is.
pub async fn queues_are_counted(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let empty = broker.queue("empty", &["nothing"]).await?;
    broker.send("t", &["1", "2", "3", "4"]).await?;
    for text in ["a", "b", "c"] {
        broker.publish(keyed("t", "k", text)?).await?;
    }
    broker
        .publish(Outgoing {
            delay: LATER,
            ..message("t", "later")?
        })
        .await?;
    let mut taken = broker.take(&queue, 2).await?;
    let failed = taken.pop().ok_or("two")?;
    broker.retry(failed, LATER).await?;
    broker.publish(message("nowhere", "kept")?).await?;

    let found = status(&broker, &queue).await?;
    assert_eq!(
        (found.ready, found.in_flight, found.delayed),
        (3, 1, 1),
        "{found:?}"
    );
    assert_eq!((found.retrying, found.parked), (1, 2), "{found:?}");
    assert_eq!((found.depth(), found.waiting()), (8, 7));
    assert!(
        found
            .oldest_ms
            .is_some_and(|oldest| oldest > 1_700_000_000_000)
    );
    assert_eq!(found.spec.topics, ["t".parse()?]);
    let found = status(&broker, &empty).await?;
    assert_eq!((found.depth(), found.oldest_ms), (0, None), "{found:?}");
    let overview = broker.backend.overview().await?;
    let names: Vec<&str> = overview
        .queues
        .iter()
        .map(|status| status.spec.name.as_str())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(overview.kept, 1);
    Ok(())
}

/// A receiver that waits is counted as long as it waits.
pub async fn receivers_are_counted(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    assert_eq!(status(&broker, &queue).await?.receivers, 0);
    let waiting = {
        let (broker, queue) = (broker.clone(), queue.clone());
        tokio::spawn(async move { broker.one(&queue).await.map(|delivery| delivery.attempt) })
    };
    while status(&broker, &queue).await?.receivers == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&broker, &queue).await?.receivers, 1);
    broker.send("t", &["1"]).await?;
    assert_eq!(waiting.await??, 1);
    assert_eq!(status(&broker, &queue).await?.receivers, 0);
    Ok(())
}

/// Purging removes everything that waits, wherever it waits; what is in flight goes on, and the queue with its keys
/// works as before.
pub async fn purging_a_queue_leaves_what_is_in_flight(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let other = broker.queue("other", &["u"]).await?;
    broker.send("u", &["untouched"]).await?;
    for (key, text) in [
        ("k", "held"),
        ("k", "parked"),
        ("l", "failed"),
        ("l", "behind"),
    ] {
        broker.publish(keyed("t", key, text)?).await?;
    }
    let mut taken = broker.take(&queue, 2).await?;
    assert_eq!(texts(&taken), ["held", "failed"]);
    broker.retry(taken.pop().ok_or("two")?, LATER).await?;
    broker.send("t", &["ready"]).await?;
    broker
        .publish(Outgoing {
            delay: LATER,
            ..message("t", "later")?
        })
        .await?;

    assert_eq!(broker.backend.purge_queue(&queue.name).await?, 5);
    broker.nothing(&queue).await?;
    let found = status(&broker, &queue).await?;
    assert_eq!((found.in_flight, found.waiting()), (1, 0), "{found:?}");
    assert_eq!(texts(&broker.take(&other, 1).await?), ["untouched"]);

    // The key that is in flight still has its turn, the other one is free.
    broker.publish(keyed("t", "k", "next")?).await?;
    broker.publish(keyed("t", "l", "free")?).await?;
    let free = broker.one(&queue).await?;
    assert_eq!(texts(std::slice::from_ref(&free)), ["free"]);
    broker.nothing(&queue).await?;
    broker.ack(taken).await?;
    let next = broker.one(&queue).await?;
    assert_eq!(texts(std::slice::from_ref(&next)), ["next"]);
    broker.ack(vec![free, next]).await?;
    assert_eq!(broker.backend.purge_queue(&queue.name).await?, 0);
    let unknown = broker.backend.purge_queue(&name("nope")?).await;
    assert!(unknown.is_err(), "{unknown:?}");
    Ok(())
}
