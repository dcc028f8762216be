//! What the end of a message from an inbox causes, as the store keeps it: messages for the broker wait in the outbox.
//!
//! It commits nothing.

use super::QueuedBackend;
use super::marked::unmark;
use crate::backend::{
    Destination, Outgoing, PublishError, QueueName, SettleError, Settlement, Token, Verdict,
};
use crate::store::DeadLetter;
use crate::wire::{self, Form};

impl QueuedBackend {
    /// The same for the store. What the broker would refuse comes again, as everywhere.
    pub(super) fn through_the_store(
        &self,
        settlement: Settlement,
    ) -> Result<Settlement, SettleError> {
        let Settlement {
            token,
            verdict,
            mut effects,
        } = settlement;
        let token = unmark(token);
        if let Verdict::DeadLetter(letter) = &verdict {
            effects.publishes.extend(self.copy(token, letter));
        }
        let kept: Result<Vec<Outgoing>, PublishError> = effects
            .publishes
            .into_iter()
            .map(|outgoing| self.kept(outgoing))
            .collect();
        match kept {
            Ok(publishes) => {
                effects.publishes = publishes;
                let settlement = Settlement {
                    token,
                    verdict,
                    effects,
                };
                Ok(settlement)
            }
            Err(error) => {
                let error = SettleError::Refused(error);
                self.store.take_back(token, &error);
                Err(error)
            }
        }
    }

    /// What goes to the dead-letter queue of a subscription, if it has one.
    fn copy(&self, token: Token, letter: &DeadLetter) -> Option<Outgoing> {
        let queue: QueueName = letter.queue.parse().ok()?;
        let dead_letter = self.inbox(&queue)?.spec().dead_letter?;
        let message = wire::decode(Form::Native, &letter.packet).ok()?;
        Some(Outgoing {
            to: Destination::Queue(dead_letter),
            key: self.store.key_of(token),
            ..Outgoing::new((*message).clone())
        })
    }

    /// A message that is published, as the store keeps it. One for a queue with an inbox here, such as the parts of an
    /// event that was split, needs no way through the broker.
    fn kept(&self, outgoing: Outgoing) -> Result<Outgoing, PublishError> {
        if let Destination::Queue(queue) = &outgoing.to
            && let Some(inbox) = self.inbox(queue)
        {
            return Ok(Outgoing {
                to: Destination::Queue(inbox.queue().name.clone()),
                ..outgoing
            });
        }
        self.remote.check(std::slice::from_ref(&outgoing))?;
        self.ledger.wrap(&outgoing)
    }
}
