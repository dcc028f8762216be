//! What publishing and settling do to the memory broker, under its lock: first everything is checked, then everything
//! is done.
//!
//! It neither locks nor wakes; it only notes which queues were touched.

use std::sync::Arc;

use super::Inner;
use crate::backend::table::{Plan, Stored, later};
use crate::backend::{
    DeclaredQueue, Destination, Outgoing, PublishError, Queue, QueueSpec, Receipt, SettleError,
    Settlement, Verdict,
};
use crate::queue::{Item, Slot};

/// Messages that one settlement is about to add: (queue, how many).
pub(super) type Added = Vec<(Slot, usize)>;

impl Inner {
    pub(super) fn declare(&mut self, spec: QueueSpec) -> DeclaredQueue {
        let dead_letter = spec.dead_letter.clone().map(|name| {
            if self.table.slot(&name).is_none() {
                self.table.add(QueueSpec::new(name.clone(), Vec::new()), ());
            }
            Queue { name }
        });
        let (name, topics) = (spec.name.clone(), spec.topics.clone());
        let slot = match self.table.slot(&name) {
            Some(slot) => {
                self.table.redeclare(slot, spec);
                slot
            }
            None => self.table.add(spec, ()),
        };
        for (item, due) in self.kept.take(&topics) {
            self.push(slot, item, due);
        }
        DeclaredQueue {
            queue: Queue { name },
            dead_letter,
        }
    }

    pub(super) fn publish(
        &mut self,
        outgoing: Outgoing,
        now: i64,
    ) -> Result<Receipt, PublishError> {
        let mut added = std::mem::take(&mut self.added);
        added.clear();
        let plan = self.admit(&outgoing, &mut added);
        self.added = added;
        Ok(self.enter(outgoing, &plan?, now))
    }

    /// Applies a settlement, or releases its delivery and changes nothing else.
    pub(super) fn settle(&mut self, settlement: Settlement, now: i64) -> Result<(), SettleError> {
        let token = settlement.token;
        let (slot, entry) = self.table.of(token).map_err(|_| SettleError::Stale)?;
        entry.fifo.expire(now);
        entry.fifo.get(token).map_err(|_| SettleError::Stale)?;
        let applied = self.apply(slot, settlement, now);
        if let Err(error) = &applied
            && let Some(entry) = self.table.entry(slot)
            && entry.take_back(token, error, now)
        {
            self.table.touch(slot);
        }
        applied
    }

    fn apply(&mut self, slot: Slot, settlement: Settlement, now: i64) -> Result<(), SettleError> {
        let Settlement {
            token,
            verdict,
            effects,
        } = settlement;
        let state = effects.state.as_deref();
        if state.is_some_and(|state| !self.state.unchanged(state)) {
            return Err(SettleError::Conflict);
        }
        let copy = matches!(verdict, Verdict::DeadLetter(_))
            .then(|| self.dead_letter_copy(slot, token))
            .flatten();
        let mut added = std::mem::take(&mut self.added);
        added.clear();
        let published = effects.publishes.iter().chain(&copy);
        let plans: Result<Vec<Plan>, _> = published
            .map(|outgoing| self.admit(outgoing, &mut added))
            .collect();
        self.added = added;
        let plans = plans.map_err(SettleError::Refused)?;

        let entry = self.table.entry(slot).ok_or(SettleError::Stale)?;
        let item = entry.fifo.claim(token).map_err(|_| SettleError::Stale)?;
        match verdict {
            Verdict::Ack => entry.fifo.finish(item.id, item.key.as_ref()),
            Verdict::Retry { after, failed } => {
                let mut item = item;
                item.value.history = Some(item.failed(*failed));
                entry.fifo.retry(item, later(now, after));
                entry.hurry();
            }
            Verdict::DeadLetter(letter) => {
                entry.fifo.finish(item.id, item.key.as_ref());
                self.letters.bury(&item, *letter);
            }
        }
        // The next message of the key may have become ready.
        self.table.touch(slot);
        if let Some(state) = effects.state {
            self.state.write(*state);
        }
        for (outgoing, plan) in effects.publishes.into_iter().chain(copy).zip(&plans) {
            self.enter(outgoing, plan, now);
        }
        Ok(())
    }

    /// What goes to the dead-letter queue of a queue, if it has one.
    fn dead_letter_copy(&mut self, slot: Slot, token: crate::backend::Token) -> Option<Outgoing> {
        let entry = self.table.entry(slot)?;
        let name = entry.spec.dead_letter.clone()?;
        let item = entry.fifo.get(token).ok()?;
        let copy = Outgoing {
            to: Destination::Queue(name.clone()),
            key: item.key.clone(),
            ..Outgoing::new((*item.value.message).clone())
        };
        // Without its queue, for somebody deleted it, the letter is in the store all the same.
        self.table.slot(&name).map(|_| copy)
    }

    /// Whether a message may enter, on top of what the same settlement already `added`.
    pub(super) fn admit(
        &mut self,
        outgoing: &Outgoing,
        added: &mut Added,
    ) -> Result<Plan, PublishError> {
        let plan = self.table.plan(outgoing)?;
        if matches!(plan, Plan::Keep) {
            self.kept.admit(&outgoing.message.topic)?;
        }
        for slot in plan.slots() {
            let more = match added.iter_mut().find(|(other, _)| other == slot) {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    added.push((*slot, 1));
                    1
                }
            };
            let capacity = self.capacity;
            if let Some(entry) = self.table.entry(*slot)
                && entry.fifo.len() + more > capacity
            {
                return Err(PublishError::Full(entry.spec.name.clone()));
            }
        }
        Ok(plan)
    }

    /// Puts an admitted message into its queues.
    pub(super) fn enter(&mut self, outgoing: Outgoing, plan: &Plan, now: i64) -> Receipt {
        let due = (!outgoing.delay.is_zero()).then(|| later(now, outgoing.delay));
        let topic = outgoing.message.topic.clone();
        let value = Stored {
            message: Arc::new(outgoing.message),
            route: outgoing.route,
            volatile: true,
            at_ms: crate::clock::now_ms(),
            history: None,
        };
        let key = outgoing.key;
        let slots = plan.slots();
        for slot in slots {
            let item = self.item(key.clone(), value.clone());
            self.push(*slot, item, due);
        }
        if matches!(plan, Plan::Keep) {
            let item = self.item(key, value);
            self.kept.push(topic, item, due);
        }
        Receipt {
            queues: u32::try_from(slots.len()).unwrap_or(u32::MAX),
        }
    }

    fn item(&mut self, key: Option<Arc<str>>, value: Stored) -> Item<Stored> {
        let id = self.next_id;
        self.next_id += 1;
        Item {
            id,
            attempts: 0,
            key,
            value,
        }
    }

    fn push(&mut self, slot: Slot, item: Item<Stored>, due: Option<i64>) {
        let Some(entry) = self.table.entry(slot) else {
            return;
        };
        match due {
            Some(due) => {
                entry.fifo.push_delayed(item, due);
                entry.hurry();
            }
            None => {
                entry.fifo.push(item);
                self.table.touch(slot);
            }
        }
    }
}
