//! Publishing: over channels on which the server confirms what it has taken, and says what nobody gets.
//!
//! A confirmation that doesn't come in time is an error, never a success; the message may have been taken all the same.
//! What a message looks like is decided in `outgoing`.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use uuid::Uuid;

use super::connect::Session;
use super::failure::{Failure, answer};
use super::link::Link;
use super::outgoing::{Parcel, Unrouted};
use super::{delay, headers};
use crate::backend::{PublishError, Receipt};

/// How long a publisher waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the server may take to confirm.
const CONFIRM: Duration = Duration::from_secs(30);

/// What publishing a message came to.
pub(super) type Published = Result<Receipt, PublishError>;

/// Publishes over one connection, which is made again whenever it ends.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    lanes: tokio::sync::Mutex<Option<Arc<Lanes>>>,
    /// An exchange of ours was missing.
    incomplete: AtomicBool,
}

/// The channels of one connection.
#[derive(Debug)]
struct Lanes {
    session: Arc<Session>,
    /// For messages that always have somewhere to go.
    fast: Lane,
    /// For messages whose sender wants to know if nobody gets them: one batch after the other, since the client says
    /// that something was returned, but not reliably for which message.
    careful: tokio::sync::Mutex<Lane>,
    /// So many bits of delays have been declared.
    delays: AtomicU32,
    declaring: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Lane {
    channel: Channel,
    order: Mutex<()>,
}

impl Lane {
    async fn open(session: &Session) -> Result<Self, Failure> {
        let channel = session.channel().await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self {
            channel,
            order: Mutex::new(()),
        })
    }

    /// Sends a message and waits for its confirmation.
    async fn send(&self, parcel: &Parcel, mandatory: bool) -> Result<Confirmation, lapin::Error> {
        let options = BasicPublishOptions {
            mandatory,
            ..BasicPublishOptions::default()
        };
        let mut sending = Box::pin(self.channel.basic_publish(
            parcel.exchange.clone(),
            parcel.routing_key.clone(),
            options,
            &parcel.body,
            parcel.properties.clone(),
        ));
        // The client numbers a message and queues its frames in the first poll. Confirmations are told apart by these
        // numbers, so nobody else's frames may come in between.
        let begun = poll_fn(|context| {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(sending.as_mut().poll(context))
        });
        let sent = match begun.await {
            Poll::Ready(sent) => sent,
            Poll::Pending => sending.await,
        };
        sent?.await
    }
}

impl Publisher {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            lanes: tokio::sync::Mutex::default(),
            incomplete: AtomicBool::new(false),
        }
    }

    /// An exchange of ours is missing.
    pub(super) fn find_incomplete(&self) {
        self.incomplete.store(true, Ordering::Release);
    }

    /// Whether an exchange of ours was missing since this was asked before.
    pub(super) fn found_incomplete(&self) -> bool {
        self.incomplete.swap(false, Ordering::AcqRel)
    }

    /// The connection, without waiting for one.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Option<Failure>> {
        self.link.session(Duration::ZERO).await
    }

    pub(super) async fn close(&self) {
        self.link.close().await;
    }

    /// Publishes messages; one result each, in the order given.
    pub(super) async fn publish(&self, parcels: &[Parcel]) -> Vec<Published> {
        let lanes = match self.lanes().await {
            Ok(lanes) => lanes,
            Err(error) => return parcels.iter().map(|_| Err(error.clone())).collect(),
        };
        let (results, trouble) = lanes.publish(parcels).await;
        if let Some(failure) = trouble {
            if failure.not_found() {
                self.find_incomplete();
            }
            // Whoever comes next gets channels that work.
            let mut current = self.lanes.lock().await;
            if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, &lanes)) {
                *current = None;
            }
        }
        results
    }

    async fn lanes(&self) -> Result<Arc<Lanes>, PublishError> {
        let session = match self.link.session(PATIENCE).await {
            Ok(session) => session,
            Err(Some(failure)) => return Err(failure.into()),
            Err(None) => return Err(PublishError::Closed),
        };
        let mut current = self.lanes.lock().await;
        if let Some(lanes) = &*current
            && lanes.session.epoch == session.epoch
        {
            return Ok(lanes.clone());
        }
        let lanes = Arc::new(Lanes {
            fast: Lane::open(&session).await?,
            careful: tokio::sync::Mutex::new(Lane::open(&session).await?),
            delays: AtomicU32::new(0),
            declaring: tokio::sync::Mutex::default(),
            session,
        });
        *current = Some(lanes.clone());
        Ok(lanes)
    }
}

impl Lanes {
    /// Publishes, and says why the channels should not be used again, if that is so.
    async fn publish(self: &Arc<Self>, parcels: &[Parcel]) -> (Vec<Published>, Option<Failure>) {
        if let Some(highest) = parcels.iter().filter_map(|parcel| parcel.delay).max()
            && let Err(failure) = self.declare_delays(highest).await
        {
            let failed = parcels.iter().map(|_| Err(failure.clone().into()));
            return (failed.collect(), Some(failure));
        }
        let (careful, fast): (Vec<&Parcel>, Vec<&Parcel>) =
            parcels.iter().partition(|parcel| parcel.unrouted.is_some());
        let (careful, fast) = tokio::join!(self.carefully(careful), self.fast(fast));
        let (mut careful, mut fast) = (careful.into_iter(), fast.into_iter());
        let mut trouble = None;
        let results = parcels.iter().map(|parcel| {
            let result = match parcel.unrouted {
                Some(_) => careful.next(),
                None => fast.next(),
            };
            let result = result.unwrap_or_else(|| Err(Failure::new("not published")));
            result.unwrap_or_else(|failure| {
                trouble = Some(failure.clone());
                Err(failure.into())
            })
        });
        (results.collect(), trouble)
    }

    async fn fast(&self, parcels: Vec<&Parcel>) -> Vec<Result<Published, Failure>> {
        let sent = join_all(parcels.iter().map(|parcel| async {
            let sent = self.in_time(self.fast.send(parcel, false)).await?;
            Ok(outcome(parcel, &sent))
        }));
        sent.await
    }

    /// One batch at a time: what is returned meanwhile belongs to it, and is told apart by the numbers of its messages.
    async fn carefully(&self, parcels: Vec<&Parcel>) -> Vec<Result<Published, Failure>> {
        if parcels.is_empty() {
            return Vec::new();
        }
        let lane = self.careful.lock().await;
        let sent = parcels
            .iter()
            .map(|parcel| self.in_time(lane.send(parcel, true)));
        let sent = join_all(sent).await;
        let confirmations = sent.iter().flatten();
        let returned: Vec<Uuid> = confirmations.filter_map(returned).collect();
        let results = parcels.iter().zip(sent).map(|(parcel, sent)| {
            let sent = sent?;
            Ok(match &parcel.unrouted {
                Some(unrouted) if returned.contains(&parcel.nonce) => nobody(unrouted),
                _ => outcome(parcel, &sent),
            })
        });
        results.collect()
    }

    async fn in_time(
        &self,
        sending: impl Future<Output = Result<Confirmation, lapin::Error>>,
    ) -> Result<Confirmation, Failure> {
        match tokio::time::timeout(CONFIRM, sending).await {
            Ok(confirmation) => Ok(confirmation?),
            Err(_) => {
                let why = match self.session.blocked() {
                    Some(reason) => format!("; it takes no messages because of: {reason}"),
                    None => String::new(),
                };
                Err(Failure::new(format!(
                    "RabbitMQ has not confirmed a message for {CONFIRM:?}{why}; it may have been taken"
                )))
            }
        }
    }

    async fn declare_delays(self: &Arc<Self>, highest: u32) -> Result<(), Failure> {
        let highest = delay::highest_with(highest);
        if self.delays.load(Ordering::Acquire) > highest {
            return Ok(());
        }
        let lanes = self.clone();
        // It goes on even if nobody waits for it, because others wait for the lock that it takes.
        let declaring = tokio::spawn(async move {
            let _one = lanes.declaring.lock().await;
            if lanes.delays.load(Ordering::Acquire) <= highest {
                delay::prepare(&lanes.session, highest).await?;
                lanes.delays.store(highest + 1, Ordering::Release);
            }
            Ok(())
        });
        let declared = declaring.await;
        declared.unwrap_or_else(|error| Err(Failure::new(error.to_string())))
    }
}

/// The number of a message that came back.
fn returned(confirmation: &Confirmation) -> Option<Uuid> {
    let (Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = confirmation
    else {
        return None;
    };
    let table = message.properties.headers().as_ref()?;
    Uuid::parse_str(headers::text(table, headers::NONCE)?).ok()
}

fn nobody(unrouted: &Unrouted) -> Published {
    match unrouted {
        Unrouted::Topic(topic) => Err(PublishError::Unroutable(topic.clone())),
        Unrouted::Queue(queue) => Err(PublishError::UnknownQueue(queue.clone())),
        Unrouted::Reply => {
            tracing::debug!("nobody waits for a reply any more; it is dropped");
            Ok(Receipt { queues: 0 })
        }
    }
}

fn outcome(parcel: &Parcel, confirmation: &Confirmation) -> Published {
    if confirmation.is_nack() {
        return Err(PublishError::Unavailable(format!(
            "RabbitMQ did not take a message for `{}`; a queue is full, or cannot be written",
            parcel.routing_key
        )));
    }
    Ok(Receipt { queues: 1 })
}
