//! What a change means for the table, the same for one that was just written and for one that was read again.
//!
//! Nothing is decided here.

use sandbar::backend::{BackendError, QueueName};

use super::{Change, Entry, MessageRecord, QueueRecord, QueueState, Table};

impl Table {
    /// Applies a change that is durable.
    pub(in super::super) fn apply(&mut self, change: Change) -> Result<(), BackendError> {
        match change {
            Change::Queue(record) => {
                let spec = record.spec()?;
                self.declared = self.declared.max(record.order);
                let new = || QueueState::new(spec.clone(), record.order);
                let queue = self.queues.entry(spec.name.clone()).or_insert_with(new);
                queue.spec = spec;
            }
            Change::QueueGone(name) => {
                self.queues.remove(&name.parse::<QueueName>()?);
            }
            Change::Message(record) => {
                self.last_id = self.last_id.max(record.id);
                let (id, queue) = (record.id, record.queue.clone());
                self.put(id, queue, Entry::from(record))?;
            }
            Change::Moved { id, queue, .. } => {
                if let Some(entry) = self.kept.remove(&id) {
                    self.put(id, Some(queue), entry)?;
                }
            }
            Change::Done(id) => {
                self.kept.remove(&id);
                for queue in self.queues.values_mut() {
                    queue.messages.remove(&id);
                }
            }
            Change::Again {
                id,
                due_ms,
                attempts,
            } => {
                if let Some(entry) = self.entry_mut(id) {
                    (entry.due_ms, entry.attempts, entry.lease) = (due_ms, attempts, None);
                }
            }
            Change::Value { plugin, key, value } => {
                self.version += 1;
                let values = self.state.entry(plugin).or_default();
                match value {
                    Some(value) => values.insert(key, (value.into(), self.version)),
                    None => values.remove(&key),
                };
            }
            Change::Dead(letter) => self.dead.push(letter),
        }
        Ok(())
    }

    fn put(&mut self, id: u64, queue: Option<String>, entry: Entry) -> Result<(), BackendError> {
        match queue {
            None => {
                self.kept.insert(id, entry);
            }
            Some(name) => {
                // Of a queue that was deleted since, nothing is left.
                if let Some(queue) = self.queues.get_mut(&name.parse::<QueueName>()?) {
                    queue.messages.insert(id, entry);
                }
            }
        }
        Ok(())
    }

    /// The changes that lead to what is known now.
    pub(in super::super) fn snapshot(&self) -> impl Iterator<Item = Change> {
        let queues = self.queues.values();
        let queues = queues.map(|queue| Change::Queue(QueueRecord::new(&queue.spec, queue.order)));
        let kept = self.kept.iter().map(|(id, entry)| entry.record(*id, None));
        let queued = self.queues.values().flat_map(|queue| {
            let name = Some(&queue.spec.name);
            let messages = queue.messages.iter();
            messages.map(move |(id, entry)| entry.record(*id, name))
        });
        let values = self.state.iter().flat_map(|(plugin, values)| {
            values.iter().map(|(key, (value, _))| Change::Value {
                plugin: plugin.clone(),
                key: key.clone(),
                value: Some(value.to_vec()),
            })
        });
        let dead = self.dead.iter().cloned().map(Change::Dead);
        queues.chain(kept).chain(queued).chain(values).chain(dead)
    }
}

impl Entry {
    fn record(&self, id: u64, queue: Option<&QueueName>) -> Change {
        Change::Message(MessageRecord {
            id,
            queue: queue.map(ToString::to_string),
            key: self.key.as_deref().map(str::to_owned),
            route: self.route,
            due_ms: self.due_ms,
            attempts: self.attempts,
            message: self.message.clone(),
            ephemeral: false,
        })
    }
}

impl From<MessageRecord> for Entry {
    fn from(record: MessageRecord) -> Self {
        Self {
            message: record.message,
            key: record.key.map(Into::into),
            route: record.route,
            due_ms: record.due_ms,
            attempts: record.attempts,
            lease: None,
        }
    }
}
