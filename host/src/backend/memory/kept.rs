//! Messages of topics to which no queue is bound: they wait for the first one that is.
//!
//! Bounded for each topic and altogether. It doesn't know queues.

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::backend::table::Stored;
use crate::backend::{PublishError, QueueName};
use crate::queue::Item;
use crate::topic::{Pattern, TopicName};

/// Messages in one topic.
const PER_TOPIC: usize = 10_000;
/// Messages in all topics together.
const TOTAL: usize = 100_000;

/// A message with the moment at which it is due.
type Waiting = (Item<Stored>, Option<i64>);

/// The messages by topic.
#[derive(Debug, Default)]
pub(super) struct Kept {
    topics: HashMap<TopicName, VecDeque<Waiting>>,
    total: usize,
}

impl Kept {
    /// Whether one more may be kept.
    pub(super) fn admit(&self, topic: &TopicName) -> Result<(), PublishError> {
        let here = self.topics.get(topic).map_or(0, VecDeque::len);
        if here < PER_TOPIC && self.total < TOTAL {
            return Ok(());
        }
        // The name of a topic is legal as the name of a queue.
        Err(match topic.as_str().parse::<QueueName>() {
            Ok(name) => PublishError::Full(name),
            Err(_) => PublishError::Unroutable(topic.clone()),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.total
    }

    pub(super) fn push(&mut self, topic: TopicName, item: Item<Stored>, due: Option<i64>) {
        self.total += 1;
        self.topics.entry(topic).or_default().push_back((item, due));
    }

    /// Removes the messages of all topics that the patterns select, in the order in which they were published.
    pub(super) fn take(&mut self, patterns: &[Pattern]) -> Vec<Waiting> {
        if self.total == 0 {
            return Vec::new();
        }
        let selected = |topic: &TopicName| patterns.iter().any(|pattern| pattern.matches(topic));
        let mut taken: Vec<Waiting> = self
            .topics
            .extract_if(|topic, _| selected(topic))
            .flat_map(|(_, messages)| messages)
            .collect();
        taken.sort_unstable_by_key(|(item, _)| item.id);
        self.total -= taken.len();
        taken
    }

    pub(super) fn remove(&mut self, topic: &TopicName) {
        self.total -= self
            .topics
            .remove(topic)
            .map_or(0, |messages| messages.len());
    }
}
