//! Requests that the test itself answers, so that it decides when and in which order.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, Effects, Outgoing, Queue, QueueSpec, Verdict};
use sandbar::message::{Message, Payload};
use sandbar::wire::{self, Form};

use super::{SOON, text, topic};

/// Requests that come to one topic.
#[derive(Debug)]
pub struct Questions {
    backend: Arc<dyn Backend>,
    queue: Queue,
}

impl Questions {
    /// Those of this topic from now on.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn to(backend: &Arc<dyn Backend>, name: &str) -> Self {
        let spec = QueueSpec::new("questions".parse().unwrap(), vec![topic(name).into()]);
        let queue = backend.declare_queue(spec).await.unwrap().queue;
        let backend = backend.clone();
        Self { backend, queue }
    }

    /// Up to `most`, however few come.
    ///
    /// # Panics
    /// When the broker fails.
    pub async fn up_to(&self, most: usize, wait: Duration) -> Vec<Arc<Message>> {
        let batch = self.backend.receive(&self.queue, most, wait).await;
        let (mut found, mut settlements) = (Vec::new(), Vec::new());
        for delivery in batch.unwrap() {
            found.push(wire::decode(Form::Native, &delivery.packet).unwrap());
            settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
        }
        for settled in self.backend.settle(settlements).await {
            settled.unwrap();
        }
        found
    }

    /// So many, as they come.
    ///
    /// # Panics
    /// When they don't.
    pub async fn exactly(&self, count: usize) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        while found.len() < count {
            let more = self.up_to(count - found.len(), SOON).await;
            assert!(!more.is_empty(), "{} of {count} questions", found.len());
            found.extend(more);
        }
        found
    }

    /// Answers them in this order, each with `re: ` before its content.
    ///
    /// # Panics
    /// When one wants no reply, or the broker refuses.
    pub async fn answer(&self, questions: &[Arc<Message>]) {
        let answers = questions.iter().map(|question| {
            let content = format!("re: {}", text(question));
            let reply_topic = question.reply_topic.clone().unwrap();
            let reply = Message::new(reply_topic, Payload::text(content));
            Outgoing::new(reply.with_identifier(question.identifier))
        });
        for sent in self.backend.publish(answers.collect()).await {
            sent.unwrap();
        }
    }
}
