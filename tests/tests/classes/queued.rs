//! Subscribers with an inbox: safe here first, acknowledged at the source then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sandbar::backend::{Backend, BackendError, EmbeddedBackend, EmbeddedOptions, MemoryBackend};
use sandbar::retry::RetryPolicy;
use sandbar::subscriber::{
    BackendSubscriber, MemorySubscriber, QueuedSubscriber, Received, Subscriber,
};
use sandbar::topic::Pattern;
use sandbar_tests::contract::{Failure, Outcome, SOON, spec};

use super::{handled, memory, message, next, publish, text, waiting};

fn backoff() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(5),
        ..RetryPolicy::default()
    }
}

async fn queued(
    source: impl Subscriber + 'static,
    inbox: Arc<dyn Backend>,
) -> Result<QueuedSubscriber, Failure> {
    Ok(QueuedSubscriber::start(Box::new(source), inbox, "inbox".parse()?, backoff()).await?)
}

async fn list(count: u32) -> Result<MemorySubscriber, Failure> {
    let messages: Result<Vec<_>, _> = (0..count).map(|n| message("t", &n.to_string())).collect();
    Ok(MemorySubscriber::new(vec!["t".parse()?], messages?).await?)
}

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// What was acknowledged at the source is found in the inbox after the end of the process, in order.
#[tokio::test]
async fn an_inbox_on_disk_survives_the_end() -> Outcome {
    let folder = tempfile::tempdir()?;
    let open = || EmbeddedBackend::open(folder.path(), EmbeddedOptions::default());
    let broker = memory();
    {
        let inbox = Arc::new(open().await?);
        let source = BackendSubscriber::subscribe(broker.clone(), spec("q", &["t"])?).await?;
        let mut subscriber = queued(source, inbox.clone()).await?;
        let all: Result<Vec<_>, _> = texts(0..50).iter().map(|text| message("t", text)).collect();
        publish(&*broker, &all?).await?;
        assert_eq!(handled(&mut subscriber, 10).await?, texts(0..10));
        // In hand, and not acknowledged: it is still in the inbox.
        assert_eq!(text(&*next(&mut subscriber).await?), "10");
        subscriber.close().await;
        drop(subscriber);
        inbox.close().await;
    }
    let left = waiting(&*broker, "q").await?;
    let inbox = Arc::new(open().await?);
    let mut subscriber = queued(list(0).await?, inbox.clone()).await?;
    let mut kept = Vec::new();
    while let Some(received) = subscriber.next().await {
        kept.push(text(&received));
        received.ack().await?;
    }
    // Whatever had not been moved yet is still at the source; together they are all, in order, and none is lost.
    kept.extend(
        left.iter()
            .filter(|text| !kept.contains(text))
            .cloned()
            .collect::<Vec<_>>(),
    );
    assert_eq!(kept, texts(10..50));
    inbox.close().await;
    Ok(())
}

/// A full inbox is no failure of the source: what doesn't fit stays there and comes in order.
#[tokio::test]
async fn a_full_inbox_leaves_messages_at_their_source() -> Outcome {
    let broker = memory();
    let source = BackendSubscriber::subscribe(broker.clone(), spec("q", &["t"])?).await?;
    let mut subscriber = queued(source, Arc::new(MemoryBackend::with_capacity(3))).await?;
    let all: Result<Vec<_>, _> = texts(0..40).iter().map(|text| message("t", text)).collect();
    publish(&*broker, &all?).await?;
    assert_eq!(handled(&mut subscriber, 40).await?, texts(0..40));
    assert!(subscriber.failures() > 0, "it was full at times");
    subscriber.close().await;
    assert!(subscriber.next().await.is_none());
    assert!(waiting(&*broker, "q").await?.is_empty());
    Ok(())
}

/// A key keeps its order through an inbox, and a message its key.
#[tokio::test]
async fn a_key_goes_through_an_inbox() -> Outcome {
    let broker = memory();
    let source = BackendSubscriber::subscribe(broker.clone(), spec("q", &["t"])?).await?;
    let mut subscriber = queued(source, memory()).await?;
    let mut batch = Vec::new();
    for text in ["1", "2"] {
        batch.push(sandbar_tests::contract::keyed("t", "k", text)?);
    }
    broker.publish(batch).await;
    for expected in ["1", "2"] {
        let received = next(&mut subscriber).await?;
        assert_eq!(received.key().map(|key| &**key), Some("k"));
        assert_eq!(text(&received), expected);
        received.ack().await?;
    }
    Ok(())
}

/// Fails and panics a few times before it gives what it has.
#[derive(Debug)]
struct Shaky {
    inner: MemorySubscriber,
    calls: Arc<AtomicU32>,
}

#[async_trait]
impl Subscriber for Shaky {
    fn topics(&self) -> &[Pattern] {
        self.inner.topics()
    }

    async fn receive_batch(&mut self, _: usize) -> Result<Vec<Received>, BackendError> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 | 3 => Err(BackendError::Unavailable("as told".to_owned())),
            1 | 5 => panic!("as told"),
            _ => self.inner.receive_batch(1).await,
        }
    }
}

#[tokio::test]
async fn failures_of_the_source_are_survived() -> Outcome {
    let calls = Arc::new(AtomicU32::new(0));
    let inner = list(3).await?;
    let shaky = Shaky {
        inner,
        calls: calls.clone(),
    };
    let mut subscriber = queued(shaky, memory()).await?;
    assert_eq!(handled(&mut subscriber, 3).await?, texts(0..3));
    let end = tokio::time::timeout(SOON, subscriber.receive()).await?;
    assert_eq!(
        end.map(drop),
        Err(BackendError::Closed),
        "as the source ended"
    );
    assert_eq!(
        (subscriber.failures(), calls.load(Ordering::Relaxed)),
        (4, 8)
    );
    Ok(())
}
