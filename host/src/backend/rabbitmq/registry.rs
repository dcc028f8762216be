//! What all hosts of one virtual host agree upon: the order of the groups, and which queue is bound to what.
//!
//! AMQP has no way to ask for bindings, so they are written down: in one message of one queue, which whoever changes
//! anything takes, replaces and puts back. An exclusive queue is the lock. It binds nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connect::Session;
use super::failure::{Failure, answer};
use super::topology::{Declaring, short};

const REGISTRY: &str = "sandbar:registry";
/// Who has it declares.
pub(super) const LOCK: &str = "sandbar:lock";
/// Who has it goes through what was kept.
pub(super) const KEEPING: &str = "sandbar:keeping";
/// How long others may hold the lock. A host that ended without a word loses it when the server notices.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// Written as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registry {
    /// Grows with every change.
    revision: u64,
    /// In the order of their first declaration, which is the order in which they are asked for a message to one group.
    pub(super) groups: Vec<String>,
    /// The bindings by the names of the queues.
    pub(super) queues: BTreeMap<String, BTreeSet<Binding>>,
}

/// The exchange that a queue is bound to, and the routing key.
pub(super) type Binding = (String, String);

/// The registry while nobody else can change it. Ends with [`Locked::release`], or with its connection.
#[derive(Debug)]
pub(super) struct Locked {
    channel: Channel,
    quorum: bool,
    pub(super) registry: Registry,
    saved: Registry,
    /// The message that holds what was saved.
    tag: Option<u64>,
}

impl Registry {
    /// The number of a group, and whether it is new.
    pub(super) fn group(&mut self, name: &str) -> (usize, bool) {
        match self.groups.iter().position(|known| known == name) {
            Some(number) => (number, false),
            None => {
                self.groups.push(name.to_owned());
                (self.groups.len() - 1, true)
            }
        }
    }
}

impl Locked {
    /// Waits for the lock and reads what is written. Two callers of one connection must not do this at the same time.
    pub(super) async fn take(session: &Session, quorum: bool) -> Result<Self, Failure> {
        let channel = lock(session, LOCK).await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let to = Declaring {
            channel: &channel,
            quorum,
        };
        to.queue(REGISTRY, FieldTable::default()).await?;
        let (mut registry, mut tag) = (Registry::default(), None);
        // Two messages are there if whoever was here last ended between writing and forgetting.
        loop {
            let options = BasicGetOptions::default();
            let Some(message) = answer(channel.basic_get(short(REGISTRY), options)).await? else {
                break;
            };
            let found: Registry = serde_json::from_slice(&message.data).map_err(|error| {
                Failure::new(format!(
                    "queue `{REGISTRY}` holds something else than what was written there: {error}; purge it and start \
                     all hosts again"
                ))
            })?;
            let newer = tag.is_none() || found.revision >= registry.revision;
            let older = if newer {
                tag.replace(message.delivery_tag)
            } else {
                Some(message.delivery_tag)
            };
            if newer {
                registry = found;
            }
            if let Some(older) = older {
                answer(channel.basic_ack(older, BasicAckOptions::default())).await?;
            }
        }
        Ok(Self {
            channel,
            quorum,
            saved: registry.clone(),
            registry,
            tag,
        })
    }

    /// What is declared under the lock.
    pub(super) fn declaring(&self) -> Declaring<'_> {
        Declaring {
            channel: &self.channel,
            quorum: self.quorum,
        }
    }

    /// Writes what has changed; returns once it is durable.
    pub(super) async fn save(&mut self) -> Result<(), Failure> {
        if self.registry == self.saved {
            return Ok(());
        }
        self.registry.revision += 1;
        let text = serde_json::to_vec(&self.registry).map_err(|e| Failure::new(e.to_string()))?;
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into());
        let written = async {
            let options = BasicPublishOptions::default();
            let queue = short(REGISTRY);
            let channel = &self.channel;
            let sent = channel.basic_publish(short(""), queue, options, &text, properties);
            sent.await?.await
        };
        if !answer(written).await?.is_ack() {
            return Err(Failure::new(format!(
                "RabbitMQ did not take the message for queue `{REGISTRY}`"
            )));
        }
        if let Some(tag) = self.tag.take() {
            answer(self.channel.basic_ack(tag, BasicAckOptions::default())).await?;
        }
        // The message that was just written is ours to replace.
        let options = BasicGetOptions::default();
        let written = answer(self.channel.basic_get(short(REGISTRY), options)).await?;
        self.tag = written.map(|message| message.delivery_tag);
        self.saved = self.registry.clone();
        Ok(())
    }

    /// Lets others change it. What was not saved is forgotten.
    pub(super) async fn release(self) -> Result<(), Failure> {
        if let Some(tag) = self.tag {
            let options = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            answer(self.channel.basic_nack(tag, options)).await?;
        }
        // Once the queue answers, the message is back.
        self.declaring()
            .queue(REGISTRY, FieldTable::default())
            .await?;
        unlock(&self.channel, LOCK).await
    }
}

/// Waits until nobody else holds a lock. It is held until [`unlock`], or until the connection ends.
pub(super) async fn lock(session: &Session, name: &str) -> Result<Channel, Failure> {
    let until = Instant::now() + PATIENCE;
    let mut step = STEP;
    loop {
        let channel = session.channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        match answer(channel.queue_declare(short(name), options, FieldTable::default())).await {
            Ok(_) => return Ok(channel),
            Err(failure) if failure.locked() && Instant::now() < until => {}
            Err(failure) if failure.locked() => {
                return Err(Failure::new(format!(
                    "another host has held queue `{name}`, which is a lock, for {PATIENCE:?}; look for its connection and \
                     end it"
                )));
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(step.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        step = (step * 2).min(LONGEST_STEP);
    }
}

pub(super) async fn unlock(channel: &Channel, name: &str) -> Result<(), Failure> {
    answer(channel.queue_delete(short(name), QueueDeleteOptions::default())).await?;
    answer(channel.close(200, "done".into())).await
}
