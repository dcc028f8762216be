//! Messages in and out of a broker, and the time, as tests want them.
//!
//! Nothing here decides what is right; and nothing sleeps to be right.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandbar::backend::{Backend, Effects, Outgoing, QueueSpec, Verdict};
use sandbar::message::{Message, Payload};
use sandbar::periodic::Clock;
use sandbar::topic::TopicName;
use sandbar::wire::{self, Form};
use tokio::sync::watch;

mod questions;

pub use questions::Questions;

/// How long something that must come may take.
pub const SOON: Duration = Duration::from_secs(20);

/// The name of a topic.
///
/// # Panics
/// When it is not legal.
#[must_use]
pub fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

/// A text for a topic.
///
/// # Panics
/// When the topic is not legal.
#[must_use]
pub fn message(to: &str, content: &str) -> Message {
    Message::new(topic(to), Payload::text(content))
}

/// The content of a message as text.
#[must_use]
pub fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload.content).into_owned()
}

/// Publishes one message.
///
/// # Panics
/// When it is refused.
pub async fn publish(backend: &dyn Backend, message: Message) {
    let mut results = backend.publish(vec![Outgoing::new(message)]).await;
    results.pop().unwrap().unwrap();
}

/// What waits in a topic, without waiting for more than what is there already.
///
/// # Panics
/// When the broker fails.
pub async fn take(backend: &dyn Backend, name: &str) -> Vec<Arc<Message>> {
    let spec = QueueSpec::new(
        format!("take.{name}").parse().unwrap(),
        vec![topic(name).into()],
    );
    let queue = backend.declare_queue(spec).await.unwrap().queue;
    let mut found = Vec::new();
    loop {
        let wait = Duration::from_millis(50);
        let batch = backend.receive(&queue, 100, wait).await.unwrap();
        if batch.is_empty() {
            return found;
        }
        for delivery in batch {
            found.push(wire::decode(Form::Native, &delivery.packet).unwrap());
            let settled = delivery.settle(Verdict::Ack, Effects::default());
            let mut results = backend.settle(vec![settled]).await;
            results.pop().unwrap().unwrap();
        }
    }
}

/// So many messages of a topic, as soon as they are there.
///
/// # Panics
/// When they don't come, or when there are more.
pub async fn wait_for(backend: &dyn Backend, name: &str, count: usize) -> Vec<Arc<Message>> {
    let mut found = Vec::new();
    eventually(&format!("{count} messages of {name}"), async || {
        found.extend(take(backend, name).await);
        found.len() >= count
    })
    .await;
    assert_eq!(found.len(), count, "messages of {name}");
    found
}

/// Waits for a condition that must come true, without assuming how soon.
///
/// # Panics
/// When it does not.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let came = tokio::time::timeout(SOON, waiting).await;
    assert!(came.is_ok(), "{what} did not happen");
}

/// A time that passes when the test says so.
#[derive(Debug)]
pub struct SetClock {
    now_ms: watch::Sender<i64>,
    /// What is being waited for.
    awaited_ms: watch::Sender<i64>,
}

impl SetClock {
    /// A clock that stands still at this time, milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            now_ms: watch::Sender::new(now_ms),
            awaited_ms: watch::Sender::default(),
        })
    }

    /// Sets the time.
    pub fn set(&self, now_ms: i64) {
        self.now_ms.send_replace(now_ms);
    }

    /// Forgets what was waited for, so that [`Self::awaits`] is about what is waited for from now on.
    pub fn forget(&self) {
        self.awaited_ms.send_replace(0);
    }

    /// Returns when that time is what somebody waits for.
    ///
    /// # Panics
    /// When nobody does.
    pub async fn awaits(&self, at_ms: i64) {
        let mut awaited = self.awaited_ms.subscribe();
        let waiting = awaited.wait_for(|awaited| *awaited == at_ms);
        tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    }
}

#[async_trait]
impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        *self.now_ms.borrow()
    }

    async fn until(&self, at_ms: i64) {
        let mut time = self.now_ms.subscribe();
        let began_ms = *time.borrow_and_update();
        // Only now, so that whoever hears of it and sets the clock back is noticed.
        self.awaited_ms.send_replace(at_ms);
        time.wait_for(|now| *now >= at_ms || *now < began_ms)
            .await
            .unwrap();
    }
}
