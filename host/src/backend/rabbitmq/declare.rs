//! Queues that come and go, with their bindings.
//!
//! The bindings of a queue are to the exchange for all groups and to that of its own group. What they were before is in
//! the `registry`, since the server doesn't tell.

use std::collections::BTreeSet;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::RabbitMqOptions;
use super::connect::Session;
use super::failure::{Failure, answer};
use super::registry::{Binding, Locked};
use super::shared::{Feed, Shared};
use super::topology::{
    Declaring, EPHEMERAL, MULTICAST, OURS, QUEUES, add_group, arguments, group_exchange, short,
    text,
};
use crate::backend::{BackendError, QueueName, QueueSpec};
use crate::topic::Pattern;

/// How long a queue that ends with its process outlives its consumers: long enough to connect again.
const EPHEMERAL_MS: i32 = 60_000;

impl Shared {
    /// Declares a queue with its bindings, and remembers that it is ours.
    pub(super) async fn declare(&self, spec: &QueueSpec) -> Result<(), Failure> {
        let session = match self.ready().await {
            Ok(session) => session,
            Err(error) => return Err(Failure::new(error.to_string())),
        };
        let _one = self.declaring.lock().await;
        let channel = session.channel().await?;
        let to = Declaring {
            channel: &channel,
            quorum: false,
        };
        for name in std::iter::once(&spec.name).chain(&spec.dead_letter) {
            let ephemeral = spec.ephemeral && *name == spec.name;
            to.queue(name.as_str(), queue_arguments(&self.options, ephemeral))
                .await?;
            to.bind(name.as_str(), QUEUES, name.as_str(), FieldTable::default())
                .await?;
        }
        if is_anonymous(spec) {
            self.rebind(to, spec).await?;
        } else {
            self.rebind_in_group(&session, spec).await?;
        }
        let mut inner = self.lock();
        match inner.table.slot(&spec.name) {
            Some(slot) => {
                inner.table.redeclare(slot, spec.clone());
                if let Some(entry) = inner.table.entry(slot) {
                    entry.extra.ours = true;
                }
            }
            None => {
                inner.table.add(spec.clone(), Feed::new(true));
            }
        }
        Ok(())
    }

    /// Bindings of a queue that nobody else declares: what they were is known here.
    async fn rebind(&self, to: Declaring<'_>, spec: &QueueSpec) -> Result<(), Failure> {
        let before = {
            let mut inner = self.lock();
            let known = inner.table.named(&spec.name);
            known
                .map(|(_, entry)| entry.spec.topics.clone())
                .unwrap_or_default()
        };
        for exchange in [MULTICAST, EPHEMERAL] {
            for topic in &spec.topics {
                to.bind(
                    spec.name.as_str(),
                    exchange,
                    &routing_key(topic),
                    FieldTable::default(),
                )
                .await?;
            }
            for topic in before.iter().filter(|topic| !spec.topics.contains(topic)) {
                to.unbind(spec.name.as_str(), exchange, &routing_key(topic))
                    .await?;
            }
        }
        Ok(())
    }

    async fn rebind_in_group(&self, session: &Session, spec: &QueueSpec) -> Result<(), Failure> {
        let mut locked = Locked::take(session, self.options.quorum).await?;
        let changed = change(&mut locked, spec).await;
        // Whatever happened, others get their turn.
        let released = locked.release().await;
        changed.and(released)
    }

    /// Deletes a queue with everything that is known of it.
    pub(super) async fn delete(&self, name: &QueueName) -> Result<(), BackendError> {
        let session = self.ready().await?;
        let anonymous = {
            let mut inner = self.open()?;
            let anonymous = inner
                .table
                .named(name)
                .is_ok_and(|(_, entry)| is_anonymous(&entry.spec));
            // From now on nobody declares it again because it is gone.
            if let Some((slot, _)) = inner.table.hide(name) {
                inner.table.remove(slot);
            }
            anonymous
        };
        let _one = self.declaring.lock().await;
        if anonymous {
            let channel = session.channel().await?;
            return Ok(delete(&channel, name).await?);
        }
        let mut locked = Locked::take(&session, self.options.quorum).await?;
        let deleted = async {
            delete(locked.declaring().channel, name).await?;
            locked.registry.queues.remove(name.as_str());
            locked.save().await
        };
        let deleted = deleted.await;
        let released = locked.release().await;
        Ok(deleted.and(released)?)
    }
}

/// Deleting a queue that doesn't exist is no error for the server either.
pub(super) async fn delete(channel: &lapin::Channel, name: &QueueName) -> Result<(), Failure> {
    let options = QueueDeleteOptions::default();
    answer(channel.queue_delete(short(name.as_str()), options))
        .await
        .map(drop)
}

/// Whether a queue exists; never creates one.
pub(super) async fn exists(session: &Session, name: &QueueName) -> Result<bool, Failure> {
    Ok(depth(session, name).await?.is_some())
}

/// What the server says of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Those that were given to nobody.
    pub(super) messages: u32,
    pub(super) consumers: u32,
}

/// How much waits in a queue, if it exists; never creates one.
pub(super) async fn depth(session: &Session, name: &QueueName) -> Result<Option<Depth>, Failure> {
    let channel = session.channel().await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let asked = channel.queue_declare(short(name.as_str()), options, FieldTable::default());
    match answer(asked).await {
        Ok(queue) => Ok(Some(Depth {
            messages: queue.message_count(),
            consumers: queue.consumer_count(),
        })),
        Err(failure) if failure.not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Refuses names that mean something to us or to the server.
pub(super) fn check_name(name: &QueueName) -> Result<(), BackendError> {
    let reserved = [OURS, "amq."];
    match reserved
        .iter()
        .find(|start| name.as_str().starts_with(**start))
    {
        Some(start) => Err(BackendError::Invalid(format!(
            "queue name `{name}` begins with `{start}`, which is reserved on RabbitMQ; use another one"
        ))),
        None => Ok(()),
    }
}

/// A queue that ends with its process and names no group but itself. All of these together are one group, which comes
/// after all others.
fn is_anonymous(spec: &QueueSpec) -> bool {
    spec.ephemeral && spec.group == spec.name.as_str()
}

fn queue_arguments(options: &RabbitMqOptions, ephemeral: bool) -> FieldTable {
    if ephemeral {
        return arguments([("x-expires", AMQPValue::LongInt(EPHEMERAL_MS))]);
    }
    let mut table = FieldTable::default();
    if options.quorum {
        table.insert(short("x-queue-type"), text("quorum"));
    }
    if options.single_active {
        table.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
    }
    table
}

/// Writes down what a queue is going to be bound to, then binds it. Bindings that are no longer wanted are written down
/// until they are gone.
async fn change(locked: &mut Locked, spec: &QueueSpec) -> Result<(), Failure> {
    let (number, new) = locked.registry.group(&spec.group);
    let name = spec.name.as_str();
    let group = group_exchange(number);
    let wanted: BTreeSet<Binding> = spec
        .topics
        .iter()
        .flat_map(|topic| [MULTICAST, &group].map(|exchange| binding(exchange, topic)))
        .collect();
    let queues = &mut locked.registry.queues;
    let known = queues.entry(name.to_owned()).or_default();
    let stale: Vec<Binding> = known.difference(&wanted).cloned().collect();
    known.extend(wanted.iter().cloned());
    locked.save().await?;
    let to = locked.declaring();
    if new {
        add_group(to, number).await?;
    }
    for (exchange, key) in &wanted {
        to.bind(name, exchange, key, FieldTable::default()).await?;
    }
    for (exchange, key) in &stale {
        to.unbind(name, exchange, key).await?;
    }
    locked.registry.queues.insert(name.to_owned(), wanted);
    locked.save().await
}

fn binding(exchange: &str, topic: &Pattern) -> Binding {
    (exchange.to_owned(), routing_key(topic))
}

/// A pattern as RabbitMQ writes it: its `#` stands for none or more, ours for one or more.
fn routing_key(pattern: &Pattern) -> String {
    let text = pattern.as_str();
    match text.strip_suffix('>') {
        Some("") => "#".to_owned(),
        Some(head) if head.ends_with('.') => format!("{head}*.#"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_as_the_server_reads_them() {
        for (ours, theirs) in [
            ("a.b", "a.b"),
            ("user.*", "user.*"),
            ("user.>", "user.*.#"),
            ("user.#", "user.*.#"),
            (">", "#"),
            ("a.*.>", "a.*.*.#"),
            ("a>", "a>"),
        ] {
            assert_eq!(routing_key(&ours.parse().unwrap()), theirs, "{ours}");
        }
    }
}
