//! A message in flight: from its delivery to its settlement, which happens exactly once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Outgoing, QueueName};
use crate::clock;
use crate::store::{DeadLetter, FailedAttempt, Reason, StateEffects};
use crate::wire::Packet;

/// Identifies one delivery of one message. A later delivery of the same message has another token, and a token of an
/// earlier one (or of an earlier connection) is refused as stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The message, in the backend's own numbers.
    pub id: u64,
    /// Which delivery of it.
    pub fence: u64,
}

/// A message that was received and waits to be settled. Dropping it unsettled gives it back at once, without counting
/// an attempt.
#[derive(Debug)]
pub struct Delivery {
    /// What arrived.
    pub packet: Packet,
    /// 1 for the first time it is handled.
    pub attempt: u32,
    /// The key whose order it keeps.
    pub key: Option<Arc<str>>,
    /// Meant for this route only.
    pub route: Option<u32>,
    /// The same each time that this message comes out of this queue, also after a crash of the host; `None` if the broker
    /// cannot tell.
    pub identity: Option<Uuid>,
    token: Token,
    release: Option<Arc<dyn Release>>,
}

/// Takes back deliveries that were dropped unsettled. Must not block.
pub trait Release: Send + Sync + fmt::Debug {
    /// The delivery is ready again.
    fn release(&self, token: Token);
}

impl Delivery {
    /// A delivery that goes back to `release` when it is dropped unsettled.
    #[must_use]
    pub fn new(packet: Packet, attempt: u32, token: Token, release: Arc<dyn Release>) -> Self {
        Self {
            packet,
            attempt,
            key: None,
            route: None,
            identity: None,
            token,
            release: Some(release),
        }
    }

    /// Which delivery this is.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The same delivery under another token, given back in another way.
    #[cfg(feature = "rabbitmq")]
    pub(super) fn rename(
        mut self,
        how: impl FnOnce(Token, Arc<dyn Release>) -> (Token, Arc<dyn Release>),
    ) -> Self {
        if let Some(release) = self.release.take() {
            let (token, release) = how(self.token, release);
            self.token = token;
            self.release = Some(release);
        }
        self
    }

    /// Ends it. The settlement must be given to [`settle`](super::Backend::settle); if it is lost, the lease runs out.
    #[must_use]
    pub fn settle(mut self, verdict: Verdict, effects: Effects) -> Settlement {
        self.release = None;
        Settlement {
            token: self.token,
            verdict,
            effects,
        }
    }

    /// Ends it as a dead letter that no handler has seen.
    pub(crate) fn bury(self, queue: &QueueName, reason: Reason, error: String) -> Settlement {
        tracing::warn!(%queue, %reason, "kept as a dead letter: {error}");
        let letter = DeadLetter {
            packet: self.packet.clone(),
            reason,
            error,
            plugin: None,
            digest: None,
            queue: queue.to_string(),
            attempts: self.attempt,
            at_ms: clock::now_ms(),
            report: None,
        };
        self.settle(Verdict::DeadLetter(Box::new(letter)), Effects::default())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release.release(self.token);
        }
    }
}

/// The end of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Which one.
    pub token: Token,
    /// How it ends.
    pub verdict: Verdict,
    /// What it caused.
    pub effects: Effects,
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Done.
    Ack,
    /// Deliver it again, with the attempt counted.
    Retry {
        /// Not before this time has passed.
        after: Duration,
        /// The attempt that ends with this delivery; it is kept with the message.
        failed: Box<FailedAttempt>,
    },
    /// Keep it with the reason, and do not deliver it again.
    DeadLetter(Box<DeadLetter>),
}

/// What handling a message caused, visible together with its verdict or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Messages, the reply among them.
    pub publishes: Vec<Outgoing>,
    /// Changes of the plugin's state.
    pub state: Option<Box<StateEffects>>,
}
