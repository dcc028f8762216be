//! Passes over what filters and validators refuse: the seed's `FilteredBrokerSubscriber`.
//!
//! What is refused is acknowledged and counted; whether that is right is up to the validators.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::{Received, Refused, Subscriber};
use crate::backend::BackendError;
use crate::topic::Pattern;
use crate::validator::{Checked, Validator, Validity};

/// While so many messages wait for others to end, no more are received.
const PARKED: usize = 1_000;
/// How long to wait before a message is judged again whose validator could not read what it needs.
const PAUSE: Duration = Duration::from_millis(200);

/// A subscription without what its validators refuse.
///
/// A message that a validator cannot judge yet, such as the second copy of one that is being handled, waits and lets
/// others pass.
///
/// ```
/// use std::sync::Arc;
/// use sandbar::message::{Message, Payload};
/// use sandbar::subscriber::{FilteredSubscriber, MemorySubscriber, Subscriber};
/// use sandbar::validator::{DuplicateValidator, WindowLimits, filter};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let message = |text: &str| Message::new("t".parse().unwrap(), Payload::text(text));
/// let (one, empty) = (message("1"), message(""));
/// let messages = [one.clone(), empty, one];
/// let inner = MemorySubscriber::new(vec!["t".parse()?], messages).await?;
/// let duplicates = Arc::new(DuplicateValidator::in_memory(WindowLimits::default()));
/// let not_empty = filter(|message| !message.payload.content.is_empty());
/// let mut subscriber = FilteredSubscriber::new(Box::new(inner), vec![not_empty, duplicates]);
/// let mut count = 0;
/// while let Some(message) = subscriber.next().await {
///     message.ack().await?;
///     count += 1;
/// }
/// assert_eq!((count, subscriber.refused().count()), (1, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FilteredSubscriber {
    inner: Box<dyn Subscriber>,
    validators: Vec<Arc<dyn Validator>>,
    refused: Refused,
    parked: FuturesUnordered<BoxFuture<'static, Received>>,
}

impl FilteredSubscriber {
    /// Asks the validators in this order about what `inner` receives.
    #[must_use]
    pub fn new(inner: Box<dyn Subscriber>, validators: Vec<Arc<dyn Validator>>) -> Self {
        Self {
            // What a subscriber below refused counts as well.
            refused: inner.refused(),
            inner,
            validators,
            parked: FuturesUnordered::new(),
        }
    }

    /// The message if it may be handed out; parks or refuses it otherwise.
    async fn judge(&mut self, received: Received) -> Option<Received> {
        let mut checked = Vec::with_capacity(self.validators.len());
        for validator in &self.validators {
            let validity = loop {
                match validator.validate(&received).await {
                    Ok(validity) => break validity,
                    Err(error) => {
                        tracing::warn!(%error, "a message cannot be judged; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            match validity {
                Validity::Valid => {
                    checked.push(Checked::new(validator.clone(), received.message().clone()));
                }
                Validity::Invalid(why) => {
                    drop(checked);
                    self.refuse(received, &why).await;
                    return None;
                }
                Validity::Busy(ended) => {
                    self.parked.push(Box::pin(async move {
                        ended.await;
                        received
                    }));
                    return None;
                }
            }
        }
        Some(received.checked(checked))
    }

    async fn refuse(&mut self, received: Received, why: &str) {
        let message = received.message().clone();
        tracing::debug!(message_id = %message.identifier, topic = %message.topic, "refused: {why}");
        match received.ack().await {
            Ok(()) => self.refused.add(),
            Err(error) => tracing::warn!(%error, "a message that was refused comes again"),
        }
    }
}

#[async_trait]
impl Subscriber for FilteredSubscriber {
    fn topics(&self) -> &[Pattern] {
        self.inner.topics()
    }

    async fn receive_batch(&mut self, max: usize) -> Result<Vec<Received>, BackendError> {
        loop {
            let room = self.parked.len() < PARKED;
            let batch = tokio::select! {
                biased;
                Some(freed) = self.parked.next() => vec![freed],
                batch = self.inner.receive_batch(max), if room => match batch {
                    Ok(batch) => batch,
                    Err(ended) => {
                        // What waits goes back; nobody could tell it apart from what was never received.
                        self.parked.clear();
                        return Err(ended);
                    }
                },
            };
            let mut handed_out = Vec::with_capacity(batch.len());
            for received in batch {
                handed_out.extend(self.judge(received).await);
            }
            if !handed_out.is_empty() {
                return Ok(handed_out);
            }
        }
    }

    fn refused(&self) -> Refused {
        self.refused.clone()
    }

    async fn close(&mut self) {
        self.parked.clear();
        self.inner.close().await;
    }
}
