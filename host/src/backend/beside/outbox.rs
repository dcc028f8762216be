//! The outbox: messages that were published by a commit in the host's own store wait there until the broker has confirmed
//! them.
//!
//! What the broker would never take is refused before that commit. If it turns out later, because a queue was deleted
//! meanwhile, the message becomes a dead letter; nothing is dropped.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backend::{
    Backend as _, BackendError, Delivery, Destination, Effects, EmbeddedBackend, Outgoing,
    PublishError, Queue, QueueName, Receipt, SourceEvent, Verdict,
};
use crate::clock;
use crate::message::Message;
use crate::retry::RetryPolicy;
use crate::store::Reason;
use crate::wire::{self, Form, Packet};

/// The header that carries what else there is to know about a message that is published.
const HEADER: &str = "sandbar-outbox";
/// Messages that are sent at once.
const BATCH: usize = 256;

/// Who gets what waits.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// As [`Backend::publish`](crate::backend::Backend::publish); waits for a broker that is away, and says so if that
    /// lasts.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>>;
}

/// Everything about a message that is published but the message and its key.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    queue: Option<String>,
    /// An earlier release kept the key here, and its messages in no order of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    delay: Duration,
    /// When the delay is over: it begins when the message is published, not when the broker gets it.
    #[serde(default)]
    due_ms: Option<i64>,
    mandatory: bool,
    route: Option<u32>,
    /// The same however often it is sent, so that whoever gets it twice can tell.
    nonce: Uuid,
}

/// A message as it waits in the outbox. Those of one key keep their order there too.
pub(super) fn wrap(
    outgoing: &Outgoing,
    outbox: &QueueName,
    now_ms: i64,
) -> Result<Outgoing, PublishError> {
    let delay_ms = i64::try_from(outgoing.delay.as_millis()).unwrap_or(i64::MAX);
    let rest = Rest {
        queue: match &outgoing.to {
            Destination::Topic => None,
            Destination::Queue(name) => Some(name.to_string()),
        },
        key: None,
        delay: outgoing.delay,
        due_ms: Some(now_ms.saturating_add(delay_ms)),
        mandatory: outgoing.mandatory,
        route: outgoing.route,
        nonce: outgoing.identity.unwrap_or_else(Uuid::new_v4),
    };
    let rest =
        serde_json::to_string(&rest).map_err(|error| PublishError::Invalid(error.to_string()))?;
    let mut message = outgoing.message.clone();
    message.payload.headers.put(HEADER, &rest);
    Ok(Outgoing {
        to: Destination::Queue(outbox.clone()),
        key: outgoing.key.clone(),
        ..Outgoing::new(message)
    })
}

/// The reverse of [`wrap`].
fn unwrap(message: &Message, key: Option<Arc<str>>, now_ms: i64) -> Result<Outgoing, String> {
    let mut message = message.clone();
    let rest = message.payload.headers.get(HEADER).unwrap_or_default();
    let rest: Rest = serde_json::from_str(rest).map_err(|error| error.to_string())?;
    message.payload.headers.remove(HEADER);
    let to = match rest.queue {
        None => Destination::Topic,
        Some(name) => Destination::Queue(name.parse().map_err(|e: BackendError| e.to_string())?),
    };
    // A clock that was set back makes nothing wait for longer than it was to.
    let left = rest.due_ms.map_or(rest.delay, |due_ms| {
        let left = u64::try_from(due_ms.saturating_sub(now_ms)).unwrap_or_default();
        Duration::from_millis(left).min(rest.delay)
    });
    Ok(Outgoing {
        to,
        message,
        key: key.or_else(|| rest.key.map(Into::into)),
        delay: left,
        mandatory: rest.mandatory,
        route: rest.route,
        identity: Some(rest.nonce),
    })
}

/// Sends what waits, until the store is closed. Whoever calls it breaks it off when the host ends; what was not sent then
/// waits for the next start.
pub(crate) async fn forward(store: Arc<EmbeddedBackend>, outbox: QueueName, target: &dyn Target) {
    let queue = Queue { name: outbox };
    let mut source = match store.clone().subscribe(&queue).await {
        Ok(source) => source,
        Err(error) => return tracing::error!(%error, "the outbox cannot be read"),
    };
    // While the broker refuses, it is asked again for ever.
    let backoff = RetryPolicy {
        max_attempts: u32::MAX,
        max: Duration::from_secs(5),
        ..RetryPolicy::default()
    };
    let mut failures = 0_u32;
    loop {
        match source.next(BATCH).await {
            SourceEvent::Delivered(batch) => match send(&store, &queue.name, target, batch).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(%error, "messages of handlers wait in the outbox until the broker takes them");
                    }
                    let after = backoff.after(failures, rand::random());
                    tokio::time::sleep(after.unwrap_or(backoff.max)).await;
                }
            },
            SourceEvent::Fatal(_) => return,
            SourceEvent::Stalled(_) | SourceEvent::Reconnected => {}
        }
    }
}

/// Sends a batch; what was not taken waits in its old place, and why is the error.
async fn send(
    store: &EmbeddedBackend,
    outbox: &QueueName,
    target: &dyn Target,
    batch: Vec<Delivery>,
) -> Result<(), PublishError> {
    let now_ms = clock::now_ms();
    let mut done = Vec::new();
    let (mut waiting, mut parcels) = (Vec::new(), Vec::new());
    for mut delivery in batch {
        let message =
            wire::decode(Form::Native, &delivery.packet).map_err(|error| error.to_string());
        let outgoing = message.and_then(|message| unwrap(&message, delivery.key.clone(), now_ms));
        match outgoing {
            Ok(outgoing) => {
                // If it ends as a dead letter, then as the message that it was.
                delivery.packet = Packet::Message(Arc::new(outgoing.message.clone()));
                waiting.push(delivery);
                parcels.push(outgoing);
            }
            Err(error) => done.push(delivery.bury(outbox, Reason::Malformed, error)),
        }
    }
    let published = target.publish(parcels).await;
    let mut trouble = Ok(());
    for (delivery, published) in waiting.into_iter().zip(published) {
        match published {
            Ok(_) => done.push(delivery.settle(Verdict::Ack, Effects::default())),
            Err(error) => match error.for_good() {
                Some(reason) => done.push(delivery.bury(outbox, reason, error.to_string())),
                None => trouble = Err(error),
            },
        }
    }
    store.settle(done).await;
    trouble
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    #[test]
    fn what_is_published_survives_the_outbox() {
        let message = Message::new("t".parse().unwrap(), Payload::text("x"));
        let outgoing = Outgoing {
            key: Some("k".into()),
            delay: Duration::from_millis(7),
            route: Some(3),
            mandatory: true,
            to: Destination::Queue("q".parse().unwrap()),
            identity: Some(Uuid::from_u128(9)),
            ..Outgoing::new(message)
        };
        let outbox = "outbox".parse().unwrap();
        let wrapped = wrap(&outgoing, &outbox, 1_000).unwrap();
        assert_eq!(wrapped.to, Destination::Queue(outbox));
        assert_eq!(wrapped.delay, Duration::ZERO);
        for (now_ms, left) in [(1_000, 7), (1_005, 2), (9_000, 0), (0, 7)] {
            let found = unwrap(&wrapped.message, wrapped.key.clone(), now_ms);
            let expected = Outgoing {
                delay: Duration::from_millis(left),
                ..outgoing.clone()
            };
            assert_eq!(found, Ok(expected), "at {now_ms}");
        }
    }

    #[test]
    fn what_an_earlier_release_left_is_sent_as_it_meant() {
        let mut message = Message::new("t".parse().unwrap(), Payload::text("x"));
        let rest = r#"{"queue":null,"key":"k","delay":{"secs":1,"nanos":0},"mandatory":false,"route":null,
                       "nonce":"00000000-0000-0000-0000-000000000009"}"#;
        message.payload.headers.put(HEADER, rest);
        let found = unwrap(&message, None, 5).unwrap();
        assert_eq!(
            (found.key.as_deref(), found.delay),
            (Some("k"), Duration::from_secs(1))
        );
    }
}
