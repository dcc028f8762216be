//! What the broker knows: its queues with their messages, what topics keep, and the state of plugins.
//!
//! It decides what is to change, and [applies](Table::apply) a change once it is durable. It writes nothing itself.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use sandbar::backend::{
    BackendError, Destination, Outgoing, PublishError, QueueName, QueueSpec, Receipt, SettleError,
    Token,
};
use sandbar::clock;
use sandbar::message::Strategy;
use sandbar::store::Versioned;
use sandbar::topic::TopicName;

use super::MAX_CONTENT;
use super::change::{Change, LetterRecord, MessageRecord, QueueRecord};

mod apply;
mod queue;

pub(super) use queue::{Entry, QueueState};

/// Messages of all queues and topics together.
const CAPACITY: usize = 100_000;

/// Queues, kept messages, state and dead letters.
#[derive(Debug, Default)]
pub(super) struct Table {
    queues: BTreeMap<QueueName, QueueState>,
    /// Messages without a queue, by number.
    kept: BTreeMap<u64, Entry>,
    state: BTreeMap<String, Values>,
    pub(super) dead: Vec<LetterRecord>,
    /// The place of the last declaration.
    declared: u64,
    /// The number of the last message.
    last_id: u64,
    version: u64,
}

/// The values of one plugin, with their versions.
type Values = BTreeMap<String, (Bytes, u64)>;

impl Table {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn queue(&self, name: &QueueName) -> Result<&QueueState, BackendError> {
        let unknown = || BackendError::UnknownQueue(name.clone());
        self.queues.get(name).ok_or_else(unknown)
    }

    pub(super) fn queue_mut(&mut self, name: &QueueName) -> Result<&mut QueueState, BackendError> {
        let unknown = || BackendError::UnknownQueue(name.clone());
        self.queues.get_mut(name).ok_or_else(unknown)
    }

    /// The message in flight that a token belongs to, and the queue where its dead letter goes.
    pub(super) fn in_flight(
        &self,
        token: Token,
    ) -> Result<(&Entry, Option<&QueueName>), SettleError> {
        let mut queues = self.queues.values();
        let found = queues
            .find_map(|queue| Some((queue.messages.get(&token.id)?, &queue.spec.dead_letter)));
        let (entry, dead_letter) = found.ok_or(SettleError::Stale)?;
        entry.check(token)?;
        Ok((entry, dead_letter.as_ref()))
    }

    fn entry_mut(&mut self, id: u64) -> Option<&mut Entry> {
        let mut queues = self.queues.values_mut();
        queues.find_map(|queue| queue.messages.get_mut(&id))
    }

    pub(super) fn release(&mut self, token: Token) {
        if let Some(entry) = self.entry_mut(token.id)
            && entry.check(token).is_ok()
        {
            entry.lease = None;
        }
    }

    pub(super) fn extend(&mut self, token: Token, lease: Duration) -> Result<(), SettleError> {
        let entry = self.entry_mut(token.id).ok_or(SettleError::Stale)?;
        entry.extend(token, lease)
    }

    /// Declares a queue: what is kept for its topics moves into it.
    pub(super) fn declare(&mut self, mut spec: QueueSpec) -> Vec<Change> {
        let mut changes = Vec::new();
        let dead_letter = spec.dead_letter.clone();
        if let Some(missing) = dead_letter.filter(|name| !self.queues.contains_key(name)) {
            self.declared += 1;
            let spec = QueueSpec::new(missing, Vec::new());
            changes.push(Change::Queue(QueueRecord::new(&spec, self.declared)));
        }
        let order = match self.queues.get(&spec.name) {
            Some(queue) => {
                spec.ephemeral = queue.spec.ephemeral;
                queue.order
            }
            None => {
                self.declared += 1;
                self.declared
            }
        };
        changes.push(Change::Queue(QueueRecord::new(&spec, order)));
        let fits = |topic: &TopicName| spec.topics.iter().any(|pattern| pattern.matches(topic));
        let kept = self
            .kept
            .iter()
            .filter(|(_, entry)| fits(&entry.message.topic));
        changes.extend(kept.map(|(id, _)| Change::Moved {
            id: *id,
            queue: spec.name.to_string(),
            ephemeral: spec.ephemeral,
        }));
        changes
    }

    /// Forgets what a topic keeps.
    pub(super) fn forget(&self, topic: &TopicName) -> Vec<Change> {
        let of_topic = |entry: &&Entry| entry.message.topic == *topic;
        let kept = self.kept.iter().filter(|(_, entry)| of_topic(entry));
        kept.map(|(id, _)| Change::Done(*id)).collect()
    }

    /// Adds what publishing a message changes, or says why it is refused.
    pub(super) fn publish(
        &mut self,
        outgoing: Outgoing,
        changes: &mut Vec<Change>,
    ) -> Result<Receipt, PublishError> {
        let topic = outgoing.message.topic.clone();
        let size = outgoing.message.payload.content.len();
        if size > MAX_CONTENT {
            return Err(PublishError::TooLarge {
                size,
                limit: MAX_CONTENT,
            });
        }
        let queues = match outgoing.to {
            Destination::Queue(name) if self.queues.contains_key(&name) => vec![name],
            Destination::Queue(name) => return Err(PublishError::UnknownQueue(name)),
            Destination::Topic => self.route(&topic, outgoing.message.strategy),
        };
        if queues.is_empty() && outgoing.mandatory {
            return Err(PublishError::Unroutable(topic));
        }
        // Nobody waits for a reply any more whose requester has gone.
        let dropped = queues.is_empty() && topic.as_str().starts_with("_reply.");
        let places = match queues.as_slice() {
            [] if dropped => Vec::new(),
            [] => vec![None],
            queues => queues.iter().map(Some).collect(),
        };
        if self.len() + changes.len() + places.len() > CAPACITY {
            let text = format!("the broker holds {CAPACITY} messages; wait until they are handled");
            return Err(PublishError::Unavailable(text));
        }
        let due_ms = later(outgoing.delay);
        let message = std::sync::Arc::new(outgoing.message);
        for place in places {
            self.last_id += 1;
            changes.push(Change::Message(MessageRecord {
                id: self.last_id,
                queue: place.map(ToString::to_string),
                key: outgoing.key.as_deref().map(str::to_owned),
                route: outgoing.route,
                due_ms,
                attempts: 0,
                message: message.clone(),
                ephemeral: place.is_some_and(|name| self.is_ephemeral(name)),
            }));
        }
        Ok(Receipt {
            queues: u32::try_from(queues.len()).unwrap_or(u32::MAX),
        })
    }

    /// The queues that get a message: all that match of the group that was declared first, or all that match.
    fn route(&self, topic: &TopicName, strategy: Strategy) -> Vec<QueueName> {
        let matches = |queue: &&QueueState| {
            let mut patterns = queue.spec.topics.iter();
            patterns.any(|pattern| pattern.matches(topic))
        };
        let mut queues: Vec<&QueueState> = self.queues.values().filter(matches).collect();
        queues.sort_by_key(|queue| queue.order);
        if strategy == Strategy::Unicast
            && let Some(group) = queues.first().map(|first| first.spec.group.clone())
        {
            queues.retain(|queue| queue.spec.group == group);
        }
        queues.iter().map(|queue| queue.spec.name.clone()).collect()
    }

    fn len(&self) -> usize {
        let queued = self.queues.values().map(|queue| queue.messages.len());
        self.kept.len() + queued.sum::<usize>()
    }

    fn is_ephemeral(&self, name: &QueueName) -> bool {
        let queue = self.queues.get(name);
        queue.is_some_and(|queue| queue.spec.ephemeral)
    }

    pub(super) fn value(&self, plugin: &str, key: &str) -> Versioned {
        match self.state.get(plugin).and_then(|values| values.get(key)) {
            Some((value, version)) => Versioned {
                value: Some(value.clone()),
                version: *version,
            },
            None => Versioned {
                value: None,
                version: 0,
            },
        }
    }

    pub(super) fn size(&self, plugin: &str) -> u64 {
        let values = self.state.get(plugin).into_iter().flatten();
        values
            .map(|(key, (value, _))| (key.len() + value.len()) as u64)
            .sum()
    }

    pub(super) fn keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<String> {
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let values = self.state.get(plugin).into_iter();
        values
            .flat_map(|values| values.range::<str, _>((first, Bound::Unbounded)))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit)
            .cloned()
            .collect()
    }
}

/// The moment (milliseconds since 1970-01-01 UTC) so much later than now, 0 for at once.
pub(super) fn later(after: Duration) -> i64 {
    if after.is_zero() {
        return 0;
    }
    let after = i64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    // One more, since the clock is rounded down.
    clock::now_ms().saturating_add(after).saturating_add(1)
}
