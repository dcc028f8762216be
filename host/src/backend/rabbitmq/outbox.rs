//! Messages that were published by a settlement with state: they wait in the host's own store until RabbitMQ has confirmed
//! them.
//!
//! They were decided in `ledger`; nothing here can refuse them any more.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::outgoing::Parcel;
use super::shared::Shared;
use crate::backend::{
    Backend as _, BackendError, Delivery, Destination, Effects, EmbeddedBackend, Outgoing,
    PublishError, QueueName, SourceEvent, Verdict,
};
use crate::message::Message;
use crate::wire::{self, Form};

/// The queue in the host's own store.
const OUTBOX: &str = "(rabbitmq-outbox)";
/// The header that carries what else there is to know about a message that is published.
const HEADER: &str = "sandbar-outbox";
/// Messages that are sent at once.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_secs(1);

/// Its name.
pub(super) fn name() -> Result<QueueName, BackendError> {
    OUTBOX.parse()
}

/// Everything about a message that is published but the message.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    queue: Option<String>,
    key: Option<String>,
    delay: Duration,
    mandatory: bool,
    route: Option<u32>,
    /// The same however often it is sent, so that whoever gets it twice can tell.
    nonce: Uuid,
}

/// A message as it waits in the outbox.
pub(super) fn wrap(outgoing: &Outgoing) -> Result<Outgoing, String> {
    let rest = Rest {
        queue: match &outgoing.to {
            Destination::Topic => None,
            Destination::Queue(name) => Some(name.to_string()),
        },
        key: outgoing.key.as_deref().map(str::to_owned),
        delay: outgoing.delay,
        mandatory: outgoing.mandatory,
        route: outgoing.route,
        nonce: Uuid::new_v4(),
    };
    let rest = serde_json::to_string(&rest).map_err(|error| error.to_string())?;
    let mut message = outgoing.message.clone();
    message.payload.headers.put(HEADER, &rest);
    Ok(Outgoing {
        to: Destination::Queue(name().map_err(|error| error.to_string())?),
        ..Outgoing::new(message)
    })
}

/// The reverse of [`wrap`].
pub(super) fn unwrap(message: &Message) -> Result<(Outgoing, Uuid), String> {
    let mut message = message.clone();
    let rest = message.payload.headers.get(HEADER).unwrap_or_default();
    let rest: Rest = serde_json::from_str(rest).map_err(|error| error.to_string())?;
    message.payload.headers.remove(HEADER);
    let to = match rest.queue {
        None => Destination::Topic,
        Some(name) => Destination::Queue(name.parse().map_err(|e: BackendError| e.to_string())?),
    };
    let outgoing = Outgoing {
        to,
        message,
        key: rest.key.map(Into::into),
        delay: rest.delay,
        mandatory: rest.mandatory,
        route: rest.route,
    };
    Ok((outgoing, rest.nonce))
}

/// Sends what waits, until the store is closed.
pub(super) async fn forward(shared: Arc<Shared>, store: Arc<EmbeddedBackend>) {
    let Ok(name) = name() else { return };
    let queue = crate::backend::Queue { name };
    let mut source = match store.clone().subscribe(&queue).await {
        Ok(source) => source,
        Err(error) => return tracing::error!(%error, "the outbox cannot be read"),
    };
    let stop = shared.stop.clone();
    while let Some(event) = stop.run_until_cancelled(source.next(BATCH)).await {
        match event {
            SourceEvent::Delivered(batch) => {
                // What was not sent when the end comes waits for the next start.
                let sending = async {
                    if !send(&shared, &store, batch).await {
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                if stop.run_until_cancelled(sending).await.is_none() {
                    return;
                }
            }
            SourceEvent::Fatal(_) => return,
            SourceEvent::Stalled(_) | SourceEvent::Reconnected => {}
        }
    }
}

/// Sends a batch; what was not taken waits in its old place. Returns whether all was taken.
async fn send(shared: &Shared, store: &EmbeddedBackend, batch: Vec<Delivery>) -> bool {
    let mut parcels = Vec::with_capacity(batch.len());
    let mut sent = Vec::with_capacity(batch.len());
    for delivery in batch {
        let message = wire::decode(Form::Native, &delivery.packet).map_err(|e| e.to_string());
        let parcel = message
            .and_then(|message| unwrap(&message))
            .and_then(|(outgoing, nonce)| {
                Parcel::named(&outgoing, nonce).map_err(|e| e.to_string())
            });
        match parcel {
            Ok(parcel) => {
                parcels.push(parcel);
                sent.push(delivery);
            }
            Err(error) => {
                // It could not be sent later either.
                tracing::error!(
                    error,
                    "a message of a handler cannot be published; it is dropped"
                );
                let dropped = delivery.settle(Verdict::Ack, Effects::default());
                store.settle(vec![dropped]).await;
            }
        }
    }
    let published = match shared.ready().await {
        Ok(_) => shared.publisher.publish(&parcels).await,
        Err(_) => return false,
    };
    let mut all = true;
    let mut done = Vec::with_capacity(sent.len());
    for (delivery, published) in sent.into_iter().zip(published) {
        match published {
            Err(PublishError::Unavailable(_) | PublishError::Full(_) | PublishError::Closed) => {
                all = false;
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a message of a handler cannot be published; it is dropped");
            }
            Ok(_) => {}
        }
        done.push(delivery.settle(Verdict::Ack, Effects::default()));
    }
    store.settle(done).await;
    all
}
