//! What every backend of our own promises: one body for each behaviour, run for every backend in the table.
//!
//! Each case gets an empty [`Broker`] and returns an error or panics when the promise is broken. What a backend says that
//! it cannot do is skipped, with a line about it. Nothing here knows which backend it is; what only one of them promises is tested beside the table, in `tests/contract.rs`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{
    Backend, BackendError, Capabilities, Delivery, Effects, Outgoing, PublishError, Queue,
    QueueName, QueueSpec, Receipt, SettleError, Settlement, Verdict,
};
use sandbar::message::{Headers, Message, Payload};
use sandbar::store::{DeadLetter, FailedAttempt, Reason, StateEffects, Store};
use sandbar::topic::{Pattern, TopicName};
use sandbar::wire::{self, Form, Packet};

mod delivery;
mod letters;
mod lifecycle;
mod limits;
mod order;
mod queues;
mod routing;
mod settling;
mod state;

pub use delivery::*;
pub use letters::*;
pub use lifecycle::*;
pub use limits::*;
pub use order::*;
pub use queues::*;
pub use routing::*;
pub use settling::*;
pub use state::*;

/// Why a case ended early.
pub type Failure = Box<dyn Error + Send + Sync>;
/// The end of a case.
pub type Outcome = Result<(), Failure>;

/// How long a message that must come may take. Nothing is asserted about speed.
pub const SOON: Duration = Duration::from_secs(20);
/// How long we look for a message that must not come.
pub const NEVER: Duration = Duration::from_millis(60);
/// The same where a message has to pass a server.
const NEVER_FROM_SERVER: Duration = Duration::from_millis(400);

/// Calls a macro with the names of all cases.
#[macro_export]
macro_rules! contract_cases {
    ($callback:ident) => {
        $callback! {
            publish_then_receive
            a_subscription_delivers
            concurrent_receivers_share_the_messages
            a_waiting_receiver_is_woken
            redelivery_on_retry_after_its_delay
            redelivery_on_drop
            redelivery_on_lease_expiry
            extending_keeps_a_lease
            a_delayed_message_comes_when_due
            a_late_subscriber_sees_earlier_messages
            a_queue_keeps_its_order
            a_key_keeps_its_order_through_retries
            a_key_has_one_message_in_flight
            keys_do_not_wait_for_each_other
            several_topics_and_wildcards
            unicast_goes_to_one_group
            multicast_goes_to_every_group
            a_queue_can_be_addressed_by_name
            mandatory_messages_need_a_queue
            replies_to_nobody_are_dropped
            declaring_twice_is_the_same
            redeclaring_with_fewer_topics_unbinds_only_this_queue
            unknown_queues_are_errors
            deleting_while_consuming_ends_the_consumer
            nothing_falls_between_publishing_and_declaring
            deleting_a_topic_forgets_what_it_kept
            closing_while_receiving_ends_the_wait
            everything_after_close_is_an_error
            headers_and_metadata_survive
            content_of_every_size_survives
            one_bad_message_does_not_fail_the_others
            settling_twice_is_stale
            effects_appear_with_the_acknowledgement
            a_stale_settlement_has_no_effect
            a_refused_effect_releases_the_delivery
            a_dead_letter_is_kept_and_forwarded
            state_is_read_and_written
            state_conflicts_release_the_delivery
            the_next_call_sees_the_state_of_the_last
            state_keys_are_listed_in_order
            state_is_measured
        }
    };
}

/// The same for what an operator does with dead letters.
#[macro_export]
macro_rules! letter_cases {
    ($callback:ident) => {
        $callback! {
            attempts_are_kept_with_the_message
            letters_are_paged_and_filtered
            a_replayed_letter_is_a_message_again
            a_letter_outlives_its_queue
            letters_are_worked_on_in_parts
            purged_letters_are_gone
        }
    };
}

/// The same for what an operator asks about queues, which a backend may leave to the tools of its broker.
#[macro_export]
macro_rules! queue_cases {
    ($callback:ident) => {
        $callback! {
            queues_are_counted
            receivers_are_counted
            purging_a_queue_leaves_what_is_in_flight
        }
    };
}

/// A backend under test with its store.
#[derive(Debug, Clone)]
pub struct Broker {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// The store that commits with it.
    pub store: Arc<dyn Store>,
}

impl Broker {
    /// How long to look for a message that must not come.
    #[must_use]
    pub fn never(&self) -> Duration {
        if self.backend.capabilities().transactional {
            NEVER
        } else {
            NEVER_FROM_SERVER
        }
    }

    /// Whether the broker promises what a part of a case is about; says so if not.
    #[must_use]
    pub fn promises(&self, what: &str, capability: impl Fn(&Capabilities) -> bool) -> bool {
        let promised = capability(&self.backend.capabilities());
        if !promised {
            println!("skipped: {} doesn't promise {what}", self.backend.kind());
        }
        promised
    }

    /// Checks how many queues got a message, as far as the broker knows.
    pub fn check_count(&self, receipt: Receipt, queues: u32) {
        if self.promises("to count queues", |can| can.counts_queues) {
            assert_eq!(receipt.queues, queues);
        } else {
            assert!(receipt.queues <= 1, "1 stands for taken");
        }
    }

    /// A queue of its own group, bound to these topics.
    ///
    /// # Errors
    /// When the names are wrong or the backend refuses.
    pub async fn queue(&self, name: &str, topics: &[&str]) -> Result<Queue, Failure> {
        self.declare(spec(name, topics)?).await
    }

    /// A queue.
    ///
    /// # Errors
    /// When the backend refuses.
    pub async fn declare(&self, spec: QueueSpec) -> Result<Queue, Failure> {
        Ok(self.backend.declare_queue(spec).await?.queue)
    }

    /// Publishes one message.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<Receipt, PublishError> {
        let mut results = self.backend.publish(vec![outgoing]).await;
        assert_eq!(results.len(), 1, "one result for one message");
        results.pop().unwrap_or(Err(PublishError::Closed))
    }

    /// Publishes texts to a topic, in one batch.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn send(&self, topic: &str, texts: &[&str]) -> Outcome {
        let batch: Result<Vec<_>, _> = texts.iter().map(|text| message(topic, text)).collect();
        for result in self.backend.publish(batch?).await {
            result?;
        }
        Ok(())
    }

    /// Receives exactly `count` deliveries.
    ///
    /// # Errors
    /// When they don't come.
    pub async fn take(&self, queue: &Queue, count: usize) -> Result<Vec<Delivery>, Failure> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let more = self
                .backend
                .receive(queue, count - taken.len(), SOON)
                .await?;
            if more.is_empty() {
                return Err(format!(
                    "got {} of {count} messages: {:?}",
                    taken.len(),
                    texts(&taken)
                )
                .into());
            }
            taken.extend(more);
        }
        assert_eq!(taken.len(), count);
        Ok(taken)
    }

    /// Receives exactly one delivery.
    ///
    /// # Errors
    /// When none comes.
    pub async fn one(&self, queue: &Queue) -> Result<Delivery, Failure> {
        self.take(queue, 1)
            .await?
            .pop()
            .ok_or_else(|| "no delivery".into())
    }

    /// Makes sure that nothing can be received.
    ///
    /// # Errors
    /// When something can.
    pub async fn nothing(&self, queue: &Queue) -> Outcome {
        let taken = self.backend.receive(queue, 10, self.never()).await?;
        if taken.is_empty() {
            return Ok(());
        }
        Err(format!(
            "expected nothing in {}, got {:?}",
            queue.name,
            texts(&taken)
        )
        .into())
    }

    /// Settles one delivery.
    ///
    /// # Errors
    /// As the backend says.
    pub async fn settle(&self, settlement: Settlement) -> Result<(), SettleError> {
        let mut results = self.backend.settle(vec![settlement]).await;
        assert_eq!(results.len(), 1, "one result for one settlement");
        results.pop().unwrap_or(Err(SettleError::Closed))
    }

    /// Acknowledges deliveries in one batch.
    ///
    /// # Errors
    /// When one cannot be.
    pub async fn ack(&self, deliveries: Vec<Delivery>) -> Result<(), SettleError> {
        let batch = deliveries
            .into_iter()
            .map(|delivery| delivery.settle(Verdict::Ack, Effects::default()));
        self.backend
            .settle(batch.collect())
            .await
            .into_iter()
            .collect()
    }

    /// Has a delivery come again after a time.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), SettleError> {
        let verdict = again(&delivery, after);
        self.settle(delivery.settle(verdict, Effects::default()))
            .await
    }
}

/// A queue of its own group, with a lease that no test outlasts by accident.
///
/// # Errors
/// When a name is not legal.
pub fn spec(name: &str, topics: &[&str]) -> Result<QueueSpec, Failure> {
    let topics: Result<Vec<Pattern>, _> = topics.iter().map(|topic| topic.parse()).collect();
    Ok(QueueSpec::new(name.parse()?, topics?))
}

/// A text on its way to a topic.
///
/// # Errors
/// When the topic is not legal.
pub fn message(topic: &str, text: &str) -> Result<Outgoing, Failure> {
    Ok(Outgoing::new(Message::new(
        topic.parse::<TopicName>()?,
        Payload::text(text),
    )))
}

/// A text with a key.
///
/// # Errors
/// When the topic is not legal.
pub fn keyed(topic: &str, key: &str, text: &str) -> Result<Outgoing, Failure> {
    Ok(Outgoing {
        key: Some(key.into()),
        ..message(topic, text)?
    })
}

/// The name of a queue.
///
/// # Errors
/// When it is not legal.
pub fn name(name: &str) -> Result<QueueName, BackendError> {
    name.parse()
}

/// The message of a delivery. Its headers are sorted, since not every broker keeps their order.
///
/// # Errors
/// When it carries something else.
pub fn content(delivery: &Delivery) -> Result<Message, Failure> {
    let message = wire::decode(Form::Native, &delivery.packet)?;
    Ok(sorted(&message))
}

/// A message with its headers sorted.
#[must_use]
pub fn sorted(message: &Message) -> Message {
    let mut pairs: Vec<(&str, &str)> = message.payload.headers.iter().collect();
    pairs.sort_unstable();
    let mut sorted = message.clone();
    sorted.payload.headers = Headers::default();
    for (name, value) in pairs {
        let legal = sorted.payload.headers.insert(name, value);
        legal.expect("it was a header before");
    }
    sorted
}

/// The contents of deliveries as text.
#[must_use]
pub fn texts(deliveries: &[Delivery]) -> Vec<String> {
    let text = |delivery: &Delivery| match &delivery.packet {
        Packet::Message(message) => String::from_utf8_lossy(&message.payload.content).into_owned(),
        Packet::Raw(raw) => String::from_utf8_lossy(&raw.body).into_owned(),
    };
    deliveries.iter().map(text).collect()
}

/// Effects that publish.
#[must_use]
pub fn publishing(publishes: Vec<Outgoing>) -> Effects {
    Effects {
        publishes,
        state: None,
    }
}

/// Effects on the state of the plugin `p`.
#[must_use]
pub fn writing(reads: &[(&str, u64)], writes: &[(&str, Option<&str>)]) -> Effects {
    let value = |text: &str| bytes::Bytes::copy_from_slice(text.as_bytes());
    Effects {
        publishes: Vec::new(),
        state: Some(Box::new(StateEffects {
            plugin: "p".into(),
            reads: reads
                .iter()
                .map(|(key, version)| ((*key).into(), *version))
                .collect(),
            writes: writes
                .iter()
                .map(|(key, text)| ((*key).into(), text.map(value)))
                .collect(),
        })),
    }
}

/// The verdict that a delivery failed and comes again after a time.
#[must_use]
pub fn again(delivery: &Delivery, after: Duration) -> Verdict {
    let at_ms = 1_700_000_000_000 + i64::from(delivery.attempt);
    let failed = FailedAttempt::new(delivery.attempt, at_ms, Reason::Retry, "not yet");
    Verdict::Retry {
        after,
        failed: Box::new(failed),
    }
}

/// The letter for a delivery.
#[must_use]
pub fn letter(delivery: &Delivery, error: &str) -> DeadLetter {
    // A broker that delivers what other programs can read keeps what of it is a message as one.
    let message = wire::decode(Form::Native, &delivery.packet);
    DeadLetter {
        packet: message.map_or_else(|_| delivery.packet.clone(), Packet::Message),
        reason: Reason::Rejected,
        error: error.to_owned(),
        plugin: Some("p".to_owned()),
        digest: Some("sha256:00".to_owned()),
        queue: "q".to_owned(),
        attempts: delivery.attempt,
        at_ms: 1_700_000_000_000,
        report: None,
    }
}
