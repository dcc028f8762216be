//! The classes of the seeds as users of the library meet them: publishers, subscribers, validators, clients and pools.
//!
//! What a broker must do is in `contract.rs`. Nothing here waits for time to pass unless time is what is tested.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, MemoryBackend, Outgoing, Queue, open};
use sandbar::message::{Message, Payload};
use sandbar::store::Store;
use sandbar::subscriber::{Received, Subscriber};
use sandbar_tests::contract::{Failure, Outcome, SOON};

#[path = "classes/clients.rs"]
mod clients;
#[path = "classes/configured.rs"]
mod configured;
#[path = "classes/duplicates.rs"]
mod duplicates;
#[path = "classes/pools.rs"]
mod pools;
#[path = "classes/publishers.rs"]
mod publishers;
#[path = "classes/queued.rs"]
mod queued;
#[path = "classes/subscribers.rs"]
mod subscribers;

/// A broker in memory and one on disk, one after the other.
async fn on_each<F: AsyncFn(Arc<dyn Backend>, Arc<dyn Store>) -> Outcome>(case: F) -> Outcome {
    for kind in ["memory", "embedded"] {
        let folder = tempfile::tempdir()?;
        let opened = open(kind, folder.path()).await?;
        case(opened.backend.clone(), opened.store)
            .await
            .map_err(|error| format!("{kind}: {error}"))?;
        opened.backend.close().await;
    }
    Ok(())
}

fn memory() -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::new())
}

fn message(topic: &str, text: &str) -> Result<Message, Failure> {
    Ok(Message::new(topic.parse()?, Payload::text(text)))
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload.content).into_owned()
}

async fn publish(backend: &dyn Backend, messages: &[Message]) -> Outcome {
    let batch = messages.iter().cloned().map(Outgoing::new).collect();
    for result in backend.publish(batch).await {
        result?;
    }
    Ok(())
}

/// The next message, which must come.
async fn next(subscriber: &mut dyn Subscriber) -> Result<Received, Failure> {
    Ok(tokio::time::timeout(SOON, subscriber.receive()).await??)
}

/// The texts of the next messages, each acknowledged.
async fn handled(subscriber: &mut dyn Subscriber, count: usize) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let received = next(subscriber).await?;
        texts.push(text(&received));
        received.ack().await?;
    }
    Ok(texts)
}

/// What waits in a queue now.
async fn waiting(backend: &dyn Backend, queue: &str) -> Result<Vec<String>, Failure> {
    let name = queue.parse()?;
    let batch = backend
        .receive(&Queue { name }, 100, Duration::ZERO)
        .await?;
    Ok(sandbar_tests::contract::texts(&batch))
}
