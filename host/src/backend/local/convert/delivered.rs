//! Deliveries, settlements with their effects, and dead letters.

use std::sync::Arc;

use bytes::Bytes;

use super::super::frame::{Illegible, detach};
use super::super::protocol::{
    Blob, Changes, Delivered, Ending, Letter, Parcel, Sent, Sentence, Tried,
};
use super::list;
use crate::backend::{Delivery, Effects, Release, Settlement, Token, Verdict};
use crate::store::{DeadLetter, FailedAttempt, StateEffects};
use crate::wire::{Packet, RawPacket};

impl<'a> From<&'a Packet> for Parcel<'a> {
    fn from(packet: &'a Packet) -> Self {
        match packet {
            Packet::Message(message) => Self::Message((&**message).into()),
            Packet::Raw(raw) => Self::Raw {
                topic: &raw.topic,
                broker_id: raw.broker_id.as_deref(),
                properties: raw
                    .properties
                    .iter()
                    .map(|(name, value)| (&**name, &**value))
                    .collect(),
                body: Blob(&raw.body),
            },
        }
    }
}

impl Parcel<'_> {
    fn read(self, frame: &Bytes) -> Result<Packet, Illegible> {
        let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(match self {
            Self::Message(note) => Packet::Message(Arc::new(note.read(frame)?)),
            Self::Raw {
                topic,
                broker_id,
                properties,
                body,
            } => Packet::Raw(RawPacket {
                topic: topic.to_owned(),
                broker_id: broker_id.map(str::to_owned),
                properties: properties.into_iter().map(text).collect(),
                body: detach(frame, body.0),
            }),
        })
    }
}

impl<'a> From<&'a Delivery> for Delivered<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            packet: (&delivery.packet).into(),
            attempt: delivery.attempt,
            key: delivery.key.as_deref(),
            route: delivery.route,
            token: delivery.token().into(),
        }
    }
}

impl Delivered<'_> {
    /// A delivery that goes back to `release` when it is dropped.
    pub(in super::super) fn read(
        self,
        frame: &Bytes,
        release: &Arc<dyn Release>,
    ) -> Result<Delivery, Illegible> {
        let packet = self.packet.read(frame)?;
        let mut delivery = Delivery::new(packet, self.attempt, self.token.into(), release.clone());
        delivery.key = self.key.map(Arc::from);
        delivery.route = self.route;
        Ok(delivery)
    }
}

impl<'a> From<&'a Settlement> for Ending<'a> {
    fn from(settlement: &'a Settlement) -> Self {
        let effects = &settlement.effects;
        Self {
            token: settlement.token.into(),
            verdict: match &settlement.verdict {
                Verdict::Ack => Sentence::Ack,
                Verdict::Retry { after, failed } => Sentence::Retry(*after, (&**failed).into()),
                Verdict::DeadLetter(letter) => Sentence::DeadLetter(Box::new((&**letter).into())),
            },
            publishes: effects.publishes.iter().map(Sent::from).collect(),
            state: effects.state.as_deref().map(Changes::from),
        }
    }
}

impl Ending<'_> {
    pub(in super::super) fn read(
        self,
        frame: &Bytes,
    ) -> Result<(Token, Verdict, Effects), Illegible> {
        let verdict = match self.verdict {
            Sentence::Ack => Verdict::Ack,
            Sentence::Retry(after, tried) => Verdict::Retry {
                after,
                failed: Box::new(tried.read()),
            },
            Sentence::DeadLetter(letter) => Verdict::DeadLetter(Box::new(letter.read(frame)?)),
        };
        let effects = Effects {
            publishes: list(self.publishes, |sent| sent.read(frame))?,
            state: self.state.map(|changes| Box::new(changes.read(frame))),
        };
        Ok((self.token.into(), verdict, effects))
    }
}

impl<'a> From<&'a FailedAttempt> for Tried<'a> {
    fn from(failed: &'a FailedAttempt) -> Self {
        Self {
            attempt: failed.attempt,
            at_ms: failed.at_ms,
            reason: failed.reason,
            error: &failed.error,
        }
    }
}

impl Tried<'_> {
    pub(in super::super) fn read(self) -> FailedAttempt {
        FailedAttempt::new(self.attempt, self.at_ms, self.reason, self.error)
    }
}

impl<'a> From<&'a StateEffects> for Changes<'a> {
    fn from(effects: &'a StateEffects) -> Self {
        let value = |value: &'a Option<Bytes>| value.as_deref().map(Blob);
        Self {
            plugin: &effects.plugin,
            reads: effects
                .reads
                .iter()
                .map(|(key, version)| (&**key, *version))
                .collect(),
            writes: effects
                .writes
                .iter()
                .map(|(key, bytes)| (&**key, value(bytes)))
                .collect(),
        }
    }
}

impl Changes<'_> {
    fn read(self, frame: &Bytes) -> StateEffects {
        let value = |blob: Blob<'_>| detach(frame, blob.0);
        StateEffects {
            plugin: self.plugin.into(),
            reads: self
                .reads
                .into_iter()
                .map(|(key, version)| (key.into(), version))
                .collect(),
            writes: self
                .writes
                .into_iter()
                .map(|(key, blob)| (key.into(), blob.map(value)))
                .collect(),
        }
    }
}

impl<'a> From<&'a DeadLetter> for Letter<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        Self {
            packet: (&letter.packet).into(),
            reason: letter.reason,
            error: &letter.error,
            plugin: letter.plugin.as_deref(),
            digest: letter.digest.as_deref(),
            queue: &letter.queue,
            attempts: letter.attempts,
            at_ms: letter.at_ms,
            report: letter.report.clone(),
        }
    }
}

impl Letter<'_> {
    pub(in super::super) fn read(self, frame: &Bytes) -> Result<DeadLetter, Illegible> {
        Ok(DeadLetter {
            packet: self.packet.read(frame)?,
            reason: self.reason,
            error: self.error.to_owned(),
            plugin: self.plugin.map(str::to_owned),
            digest: self.digest.map(str::to_owned),
            queue: self.queue.to_owned(),
            attempts: self.attempts,
            at_ms: self.at_ms,
            report: self.report,
        })
    }
}
