//! The queues of a backend of our own: their names, bindings and messages, and how a receiver waits for them.
//!
//! It holds what `memory` and `embedded` have in common. It takes no lock and makes nothing durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use uuid::Uuid;

use super::route::Routes;
use super::{
    BackendError, Delivery, Destination, Outgoing, PublishError, QueueName, QueueSpec, Release,
    SettleError, Token,
};
use crate::message::Message;
use crate::queue::{Fifo, Item, Slot, Stale, slot_of};
use crate::store::{DeadLetter, FailedAttempt, History, KeptLetter};
use crate::wire::Packet;

/// The largest content in bytes.
pub(super) const MAX_CONTENT: usize = 16 << 20;

/// How long a delivery waits whose effects were refused, by a full queue for example.
pub(super) const REFUSED_MS: i64 = 200;

/// Topics that begin like this are where clients wait for replies: what nobody waits for any more is of no use later.
pub(super) const REPLIES: &str = "_reply.";

/// A message as it waits in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) message: Arc<Message>,
    pub(super) route: Option<u32>,
    /// It is in memory only, because its queue ends with the process.
    pub(super) volatile: bool,
    /// When it was published, milliseconds since 1970-01-01 UTC.
    pub(super) at_ms: i64,
    /// Its attempts so far, if one has failed.
    pub(super) history: Option<Arc<History>>,
}

impl Item<Stored> {
    /// What there is of its attempts after another one.
    pub(super) fn failed(&self, failed: FailedAttempt) -> Arc<History> {
        Arc::new(History::after(self.value.history.as_deref(), failed))
    }

    /// What is kept of it when it becomes a dead letter.
    pub(super) fn letter(&self, id: u64, letter: DeadLetter) -> KeptLetter {
        KeptLetter {
            key: self.key.clone(),
            route: self.value.route,
            published_ms: self.value.at_ms,
            ..KeptLetter::new(id, letter, self.value.history.as_deref())
        }
    }
}

/// What waits in a queue, as far as a delivery is made of it.
pub(super) trait Carried: Clone {
    /// What is delivered.
    fn packet(&self) -> Packet;
    /// The one route that it is meant for.
    fn route(&self) -> Option<u32>;
    /// What tells it from all others of its queue, for ever.
    fn identity(&self, _queue: &QueueName) -> Option<Uuid> {
        None
    }
}

impl Carried for Stored {
    fn packet(&self) -> Packet {
        Packet::Message(self.message.clone())
    }

    fn route(&self) -> Option<u32> {
        self.route
    }
}

/// The queues by name and by slot, each with messages `V`; `E` is what a backend adds to each.
#[derive(Debug)]
pub(super) struct Table<E, V = Stored> {
    names: HashMap<QueueName, Slot>,
    entries: Vec<Option<Entry<E, V>>>,
    free: Vec<Slot>,
    routes: Routes,
    touched: Vec<Slot>,
    declared: u64,
    seed: u64,
}

/// A queue with its messages.
#[derive(Debug)]
pub(super) struct Entry<E, V = Stored> {
    pub(super) spec: QueueSpec,
    pub(super) fifo: Fifo<V>,
    pub(super) extra: E,
    arrived: Arc<Notify>,
    order: u64,
    touched: bool,
}

/// Where a message that may be published goes.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// Into these queues.
    Queues(Arc<[Slot]>),
    /// Into this queue.
    Queue(Slot),
    /// Nowhere yet: it is kept in its topic.
    Keep,
    /// Nowhere: it is a reply that nobody waits for.
    Drop,
}

impl Plan {
    pub(super) fn slots(&self) -> &[Slot] {
        match self {
            Self::Queues(slots) => slots,
            Self::Queue(slot) => std::slice::from_ref(slot),
            Self::Keep | Self::Drop => &[],
        }
    }
}

impl<E, V: Carried> Table<E, V> {
    pub(super) fn new() -> Self {
        Self {
            names: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            routes: Routes::default(),
            touched: Vec::new(),
            declared: 0,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        }
    }

    pub(super) fn slot(&self, name: &QueueName) -> Option<Slot> {
        self.names.get(name).copied()
    }

    /// The names of all queues, in their order.
    pub(super) fn names(&self) -> Vec<QueueName> {
        let mut names: Vec<QueueName> = self.names.keys().cloned().collect();
        names.sort();
        names
    }

    pub(super) fn entry(&mut self, slot: Slot) -> Option<&mut Entry<E, V>> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn named(
        &mut self,
        name: &QueueName,
    ) -> Result<(Slot, &mut Entry<E, V>), BackendError> {
        let unknown = || BackendError::UnknownQueue(name.clone());
        let slot = self.slot(name).ok_or_else(unknown)?;
        let entry = self.entry(slot).ok_or_else(unknown)?;
        Ok((slot, entry))
    }

    /// The queue that a delivery came from.
    pub(super) fn of(&mut self, token: Token) -> Result<(Slot, &mut Entry<E, V>), Stale> {
        let slot = slot_of(token);
        Ok((slot, self.entry(slot).ok_or(Stale)?))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Entry<E, V>)> {
        (0..)
            .zip(&mut self.entries)
            .filter_map(|(slot, entry)| Some((slot, entry.as_mut()?)))
    }

    /// Adds a queue that doesn't exist, with its bindings.
    pub(super) fn add(&mut self, spec: QueueSpec, extra: E) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot::try_from(self.entries.len().saturating_sub(1)).unwrap_or(Slot::MAX)
        });
        self.declared += 1;
        self.seed = self.seed.wrapping_add(1);
        self.routes
            .bind(slot, self.declared, &spec.group, &spec.topics);
        self.names.insert(spec.name.clone(), slot);
        if let Some(place) = self.entries.get_mut(slot as usize) {
            *place = Some(Entry {
                spec,
                fifo: Fifo::new(slot, self.seed),
                extra,
                arrived: Arc::default(),
                order: self.declared,
                touched: false,
            });
        }
        slot
    }

    /// Gives a queue a new specification of the same name.
    pub(super) fn redeclare(&mut self, slot: Slot, spec: QueueSpec) {
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        self.routes
            .bind(slot, entry.order, &spec.group, &spec.topics);
        entry.spec = spec;
    }

    /// Forgets the messages of a queue; whatever was delivered of them is stale from now on.
    #[cfg(feature = "rabbitmq")]
    pub(super) fn renew(&mut self, slot: Slot) {
        self.seed = self.seed.wrapping_add(1);
        let seed = self.seed;
        if let Some(entry) = self.entry(slot) {
            entry.fifo = Fifo::new(slot, seed);
        }
    }

    /// Takes the name and the bindings from a queue that is being deleted. Its deliveries can still be settled.
    pub(super) fn hide(&mut self, name: &QueueName) -> Option<(Slot, &mut Entry<E, V>)> {
        let slot = self.names.remove(name)?;
        self.routes.unbind(slot);
        Some((slot, self.entry(slot)?))
    }

    /// Undoes [`hide`](Self::hide), unless the name was given away.
    pub(super) fn unhide(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        self.names.entry(entry.spec.name.clone()).or_insert(slot);
        self.routes
            .bind(slot, entry.order, &entry.spec.group, &entry.spec.topics);
    }

    /// Removes a queue that is [hidden](Self::hide); whoever waits for it learns that it is gone.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.touched.retain(|touched| *touched != slot);
        if let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::take) {
            self.free.push(slot);
            entry.arrived.notify_waiters();
        }
    }

    /// Where a message goes, if it may be published at all.
    pub(super) fn plan(&mut self, outgoing: &Outgoing) -> Result<Plan, PublishError> {
        let (message, size) = (&outgoing.message, outgoing.message.payload.content.len());
        if size > MAX_CONTENT {
            return Err(PublishError::TooLarge {
                size,
                limit: MAX_CONTENT,
            });
        }
        if let Destination::Queue(name) = &outgoing.to {
            let slot = self
                .slot(name)
                .ok_or_else(|| PublishError::UnknownQueue(name.clone()))?;
            return Ok(Plan::Queue(slot));
        }
        let queues = self.routes.route(&message.topic, message.strategy);
        if !queues.is_empty() {
            return Ok(Plan::Queues(queues));
        }
        if outgoing.mandatory {
            return Err(PublishError::Unroutable(message.topic.clone()));
        }
        if message.topic.as_str().starts_with(REPLIES) {
            tracing::debug!(topic = %message.topic, "nobody waits for this reply any more; it is dropped");
            return Ok(Plan::Drop);
        }
        Ok(Plan::Keep)
    }

    /// Remembers that messages of a queue became ready, or that one becomes ready earlier than known before.
    pub(super) fn touch(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut)
            && !entry.touched
        {
            entry.touched = true;
            self.touched.push(slot);
        }
    }

    /// Whom to wake, once the lock is free: one receiver of each queue that was touched.
    pub(super) fn wakeups(&mut self) -> Wakeups {
        let mut wakeups = Vec::with_capacity(self.touched.len());
        while let Some(slot) = self.touched.pop() {
            if let Some(entry) = self.entry(slot) {
                entry.touched = false;
                wakeups.push(entry.arrived.clone());
            }
        }
        Wakeups(wakeups)
    }

    /// Wakes every receiver of every queue.
    pub(super) fn wake_all(&self) {
        for entry in self.entries.iter().flatten() {
            entry.arrived.notify_waiters();
        }
    }
}

impl<E, V: Carried> Entry<E, V> {
    /// A delivery whose settlement failed is ready again; `false` if it is somebody else's by now. What was refused is
    /// refused again most likely, so that it waits a little.
    pub(super) fn take_back(&mut self, token: Token, error: &SettleError, now: i64) -> bool {
        let SettleError::Refused(_) = error else {
            return self.fifo.release(token).is_ok();
        };
        self.hurry();
        let due = now.saturating_add(REFUSED_MS);
        self.fifo.put_off(token, due).is_ok()
    }

    /// How many receivers wait for a message: each of them holds what would wake it.
    pub(super) fn receivers(&self) -> usize {
        Arc::strong_count(&self.arrived).saturating_sub(1)
    }

    /// The length of a lease in milliseconds.
    pub(super) fn lease_ms(&self) -> i64 {
        millis(self.spec.lease).max(1)
    }

    /// Wakes receivers of this queue.
    #[cfg(feature = "postgres")]
    pub(super) fn arrived(&self) -> &Arc<Notify> {
        &self.arrived
    }

    /// Wakes every receiver, because something becomes ready earlier than they were told.
    pub(super) fn hurry(&self) {
        self.arrived.notify_waiters();
    }

    /// Moves the end of a lease that has not run out.
    pub(super) fn extend(&mut self, token: Token, now: i64, end: i64) -> Result<(), SettleError> {
        self.fifo.expire(now);
        if self.fifo.ready() > 0 {
            self.arrived.notify_one();
        }
        self.fifo
            .extend(token, end)
            .map_err(|Stale| SettleError::Stale)?;
        if end < now.saturating_add(self.lease_ms()) {
            self.hurry();
        }
        Ok(())
    }

    /// Takes what is ready, or says how to wait for it.
    pub(super) fn take(&mut self, max: usize, now: i64, release: &Arc<dyn Release>) -> Attempt {
        self.fifo.expire(now);
        let mut deliveries = Vec::with_capacity(max.min(self.fifo.ready()));
        let queue = &self.spec.name;
        self.fifo
            .take(max, now.saturating_add(self.lease_ms()), |item, token| {
                let attempt = item.attempts.saturating_add(1);
                let packet = item.value.packet();
                let mut delivery = Delivery::new(packet, attempt, token, release.clone());
                delivery.key.clone_from(&item.key);
                delivery.route = item.value.route();
                delivery.identity = item.value.identity(queue);
                deliveries.push(delivery);
            });
        if !deliveries.is_empty() {
            if self.fifo.ready() > 0 {
                self.arrived.notify_one();
            }
            return Attempt::Taken(deliveries);
        }
        // A lease that begins later ends later than this as well, so that nobody needs to be told of it.
        let until_due = self
            .fifo
            .next_due()
            .map_or(i64::MAX, |due| due.saturating_sub(now));
        let recheck = until_due.clamp(1, self.lease_ms());
        Attempt::Empty {
            arrived: self.arrived.clone(),
            recheck: Duration::from_millis(recheck.unsigned_abs()),
        }
    }
}

/// Receivers to wake.
#[derive(Debug)]
#[must_use]
pub(super) struct Wakeups(Vec<Arc<Notify>>);

impl Wakeups {
    pub(super) fn wake(self) {
        for arrived in self.0 {
            arrived.notify_one();
        }
    }
}

/// What a look into a queue found.
#[derive(Debug)]
pub(super) enum Attempt {
    /// At least one delivery.
    Taken(Vec<Delivery>),
    /// Nothing: look again when something arrived, or after this time.
    Empty {
        /// Wakes one receiver when something became ready.
        arrived: Arc<Notify>,
        /// Nothing becomes ready by itself before this time has passed.
        recheck: Duration,
    },
}

/// Whole milliseconds, rounded up.
pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// The moment so much later; one more, since `now` is rounded down.
pub(super) fn later(now: i64, after: Duration) -> i64 {
    now.saturating_add(millis(after))
        .saturating_add(i64::from(!after.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_early() {
        assert_eq!(later(7, Duration::ZERO), 7);
        // The clock may have been a moment before 8.
        assert_eq!(later(7, Duration::from_millis(150)), 158);
        assert_eq!(later(7, Duration::from_nanos(1)), 9);
        assert_eq!(later(7, Duration::MAX), i64::MAX);
    }
}
