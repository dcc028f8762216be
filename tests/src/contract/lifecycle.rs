//! Queues that are unknown or go away, and the end of the backend.
//!
//! What survives the end is a matter of the durable backends alone.

use std::time::Duration;

use sandbar::backend::{
    BackendError, Destination, Effects, Outgoing, PublishError, Queue, SettleError, Verdict,
};

use super::{Broker, Outcome, SOON, message, name};

/// Nothing is created by asking for it.
pub async fn unknown_queues_are_errors(broker: Broker) -> Outcome {
    let unknown = BackendError::UnknownQueue(name("nope")?);
    let queue = Queue {
        name: name("nope")?,
    };
    assert_eq!(
        broker.backend.get_queue(&queue.name).await,
        Err(unknown.clone())
    );
    assert_eq!(
        broker
            .backend
            .receive(&queue, 1, broker.never())
            .await
            .err(),
        Some(unknown.clone())
    );
    assert_eq!(
        broker.backend.clone().subscribe(&queue).await.err(),
        Some(unknown)
    );
    let to = Destination::Queue(name("nope")?);
    let published = broker
        .publish(Outgoing {
            to,
            ..message("t", "x")?
        })
        .await;
    assert_eq!(published, Err(PublishError::UnknownQueue(name("nope")?)));
    broker.backend.delete_queue(&name("nope")?).await?;
    Ok(())
}

/// A receiver of a queue that is deleted ends; what was in flight is stale; nothing comes back with the name.
pub async fn deleting_while_consuming_ends_the_consumer(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1", "2"]).await?;
    let held = broker.take(&queue, 2).await?;
    let waiting = {
        let (broker, queue) = (broker.clone(), queue.clone());
        tokio::spawn(async move { broker.backend.receive(&queue, 1, SOON).await })
    };
    tokio::time::sleep(Duration::from_millis(30)).await;
    broker.backend.delete_queue(&queue.name).await?;
    let ended = tokio::time::timeout(SOON, waiting).await??;
    assert_eq!(
        ended.err(),
        Some(BackendError::UnknownQueue(queue.name.clone()))
    );
    assert_eq!(broker.ack(held).await, Err(SettleError::Stale));
    let queue = broker.queue("q", &["t"]).await?;
    broker.nothing(&queue).await
}

/// Closing ends every wait.
pub async fn closing_while_receiving_ends_the_wait(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let waiting = {
        let (broker, queue) = (broker.clone(), queue.clone());
        tokio::spawn(async move { broker.backend.receive(&queue, 1, SOON).await })
    };
    tokio::time::sleep(Duration::from_millis(30)).await;
    tokio::time::timeout(SOON, broker.backend.close()).await?;
    assert_eq!(
        tokio::time::timeout(SOON, waiting).await??.err(),
        Some(BackendError::Closed)
    );
    Ok(())
}

/// After the end every call says so; ending twice is no error.
pub async fn everything_after_close_is_an_error(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1", "2"]).await?;
    let mut held = broker.take(&queue, 2).await?;
    let (second, first) = (held.pop().ok_or("two")?, held.pop().ok_or("two")?);
    let token = second.token();
    broker.backend.close().await;
    broker.backend.close().await;
    assert_eq!(
        broker.publish(message("t", "x")?).await,
        Err(PublishError::Closed)
    );
    assert_eq!(
        broker
            .backend
            .receive(&queue, 1, broker.never())
            .await
            .err(),
        Some(BackendError::Closed)
    );
    let settled = broker
        .settle(first.settle(Verdict::Ack, Effects::default()))
        .await;
    assert_eq!(settled, Err(SettleError::Closed));
    assert_eq!(
        broker.backend.extend(&[token], SOON).await,
        [Err(SettleError::Closed)]
    );
    assert_eq!(
        broker.backend.get_queue(&queue.name).await,
        Err(BackendError::Closed)
    );
    assert_eq!(
        broker.backend.delete_queue(&queue.name).await,
        Err(BackendError::Closed)
    );
    assert_eq!(broker.backend.health().await, Err(BackendError::Closed));
    assert_eq!(
        broker.backend.declare_topic(&"t".parse()?).await,
        Err(BackendError::Closed)
    );
    drop(second);
    Ok(())
}
