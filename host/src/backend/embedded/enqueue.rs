//! What publishing and settling decide at once, under the lock: everything is checked, then it is put into the group
//! that the writer takes next.
//!
//! Nothing here is visible to receivers before it is committed; only plugin state is.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::group::{Again, Call, Ended, Settled};
use super::shared::{Inner, Shared};
use crate::backend::table::{Plan, Stored, later};
use crate::backend::{
    Destination, Outgoing, PublishError, QueueName, Receipt, SettleError, Settlement, Token,
    Verdict,
};
use crate::clock;
use crate::queue::{Item, Slot};
use crate::store::sqlite::{Columns, NewRow, StateRow};
use crate::store::{KeptLetter, StateEffects};

/// A message with its columns, which are written outside of the lock.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) outgoing: Outgoing,
    columns: Arc<Columns>,
}

impl Prepared {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        let columns = Columns::new(&outgoing.message, outgoing.key.clone(), outgoing.route);
        let columns = Arc::new(columns);
        Self { outgoing, columns }
    }
}

/// Results that are known, or come with the commit.
pub(super) type Results<T> = Result<Vec<T>, oneshot::Receiver<Vec<T>>>;

impl Shared {
    /// Decides about messages; `Err` gives them back because publishers have to wait.
    pub(super) fn publish(
        &self,
        batch: Vec<Prepared>,
    ) -> Result<Results<Result<Receipt, PublishError>>, Vec<Prepared>> {
        let now = clock::steady_ms();
        let mut inner = self.lock();
        if inner.closed {
            return Ok(Ok(batch
                .iter()
                .map(|_| Err(PublishError::Closed))
                .collect()));
        }
        if !inner.group.has_room() {
            return Err(batch);
        }
        let mut written = false;
        let results: Vec<_> = batch
            .into_iter()
            .map(|prepared| {
                let plan = inner.admit(&prepared.outgoing)?;
                written |= !matches!(plan, Plan::Drop);
                Ok(inner.enter(prepared, &plan, now, false))
            })
            .collect();
        if !written {
            return Ok(Ok(results));
        }
        let (caller, receiver) = oneshot::channel();
        inner.group.add_call(Call::Publish(results, caller));
        self.leave(inner);
        Ok(Err(receiver))
    }

    /// Decides about settlements, each with what it publishes.
    pub(super) fn settle(
        &self,
        batch: Vec<(Settlement, Vec<Prepared>)>,
    ) -> Results<Result<(), SettleError>> {
        let (lease_now, now) = (self.clock.now_ms(), clock::steady_ms());
        let mut inner = self.lock();
        if inner.closed {
            return Ok(batch.iter().map(|_| Err(SettleError::Closed)).collect());
        }
        if let Some(results) = inner.end_volatile(&batch, lease_now) {
            self.leave(inner);
            return Ok(results);
        }
        let call = inner.group.next_call();
        let mut results = Vec::with_capacity(batch.len());
        for (settlement, publishes) in batch {
            let place = (call, results.len());
            results.push(inner.settle(settlement, publishes, lease_now, now, place));
        }
        if results.iter().all(Result::is_err) {
            self.leave(inner);
            return Ok(results);
        }
        let (caller, receiver) = oneshot::channel();
        inner.group.add_call(Call::Settle(results, caller));
        self.leave(inner);
        Err(receiver)
    }
}

impl Inner {
    /// Ends deliveries of which nothing is on disk, if all of the batch are such and cause nothing: their reader waits
    /// for no transaction.
    fn end_volatile(
        &mut self,
        batch: &[(Settlement, Vec<Prepared>)],
        lease_now: i64,
    ) -> Option<Vec<Result<(), SettleError>>> {
        for (settlement, publishes) in batch {
            let (_, entry) = self.table.of(settlement.token).ok()?;
            entry.fifo.expire(lease_now);
            let item = entry.fifo.get(settlement.token).ok()?;
            let nothing = publishes.is_empty() && settlement.effects.state.is_none();
            if !(nothing && item.value.volatile && settlement.verdict == Verdict::Ack) {
                return None;
            }
        }
        let end = |(settlement, _): &(Settlement, _)| {
            let (slot, entry) = self
                .table
                .of(settlement.token)
                .map_err(|_| SettleError::Stale)?;
            let item = entry
                .fifo
                .claim(settlement.token)
                .map_err(|_| SettleError::Stale)?;
            entry.unload(&item);
            entry.fifo.finish(item.id, item.key.as_ref());
            self.table.touch(slot);
            self.check_hunger(slot);
            Ok(())
        };
        Some(batch.iter().map(end).collect())
    }

    fn settle(
        &mut self,
        settlement: Settlement,
        publishes: Vec<Prepared>,
        lease_now: i64,
        now: i64,
        place: (usize, usize),
    ) -> Result<(), SettleError> {
        let token = settlement.token;
        let (slot, entry) = self.table.of(token).map_err(|_| SettleError::Stale)?;
        entry.fifo.expire(lease_now);
        entry.fifo.get(token).map_err(|_| SettleError::Stale)?;
        let applied = self.apply(slot, settlement, publishes, now, place);
        if let Err(error) = &applied
            && let Some(entry) = self.table.entry(slot)
            && entry.take_back(token, error, lease_now)
        {
            self.table.touch(slot);
        }
        applied
    }

    fn apply(
        &mut self,
        slot: Slot,
        settlement: Settlement,
        mut publishes: Vec<Prepared>,
        now: i64,
        place: (usize, usize),
    ) -> Result<(), SettleError> {
        let Settlement {
            token,
            verdict,
            effects,
        } = settlement;
        let state = effects.state.as_deref();
        if state.is_some_and(|state| !self.states.unchanged(state)) {
            return Err(SettleError::Conflict);
        }
        if matches!(verdict, Verdict::DeadLetter(_)) {
            publishes.extend(self.dead_letter_copy(slot, token));
        }
        let plans = self.admit_all(&publishes)?;
        let entry = self.table.entry(slot).ok_or(SettleError::Stale)?;
        let item = entry.fifo.claim(token).map_err(|_| SettleError::Stale)?;
        let (again, letter) = match verdict {
            Verdict::Ack => (None, None),
            Verdict::Retry { after, failed } => {
                let due = later(now, after).max(1);
                let history = item.failed(*failed);
                (Some(Again { due, history }), None)
            }
            Verdict::DeadLetter(letter) => {
                self.last_letter += 1;
                (None, Some(item.letter(self.last_letter, *letter)))
            }
        };
        let queue = (slot, entry.extra.id);
        let delivery = Some(Ended { queue, item, again });
        self.group.add_settled(Settled {
            delivery,
            state: state.is_some(),
            result: place,
        });
        let state = effects.state.map(|state| *state);
        self.cause(
            letter,
            state.into_iter().collect(),
            publishes.into_iter().zip(plans).collect(),
            now,
        );
        Ok(())
    }

    /// Adds what the settlement that was added last causes, all of which may be.
    pub(super) fn cause(
        &mut self,
        letter: Option<KeptLetter>,
        states: Vec<StateEffects>,
        publishes: Vec<(Prepared, Plan)>,
        now: i64,
    ) {
        if let Some(letter) = letter {
            self.group.add_dead(letter);
        }
        for state in states {
            self.states.write(&state);
            let plugin = state.plugin;
            for (key, value) in state.writes {
                let plugin = plugin.clone();
                self.group.add_state(StateRow { plugin, key, value });
            }
        }
        for (prepared, plan) in publishes {
            self.enter(prepared, &plan, now, true);
        }
    }

    /// What goes to the dead-letter queue of a queue, if it has one.
    fn dead_letter_copy(&mut self, slot: Slot, token: Token) -> Option<Prepared> {
        let entry = self.table.entry(slot)?;
        let name = entry.spec.dead_letter.clone()?;
        let item = entry.fifo.get(token).ok()?;
        let copy = Outgoing {
            to: Destination::Queue(name.clone()),
            key: item.key.clone(),
            ..Outgoing::new((*item.value.message).clone())
        };
        // Without its queue, for somebody deleted it, the letter is in the store all the same.
        self.table.slot(&name).map(|_| Prepared::new(copy))
    }

    /// Where messages of a settlement go, if all of them may be published.
    pub(super) fn admit_all(&mut self, publishes: &[Prepared]) -> Result<Vec<Plan>, SettleError> {
        let plans: Result<Vec<Plan>, _> = publishes
            .iter()
            .map(|prepared| self.admit(&prepared.outgoing))
            .collect();
        plans.map_err(SettleError::Refused)
    }

    pub(super) fn admit(&mut self, outgoing: &Outgoing) -> Result<Plan, PublishError> {
        let plan = self.table.plan(outgoing)?;
        if matches!(plan, Plan::Keep) && self.kept >= self.options.kept {
            let topic = &outgoing.message.topic;
            // The name of a topic is legal as the name of a queue.
            return Err(match topic.as_str().parse::<QueueName>() {
                Ok(name) => PublishError::Full(name),
                Err(_) => PublishError::Unroutable(topic.clone()),
            });
        }
        Ok(plan)
    }

    /// Puts an admitted message into the group, once for each of its queues.
    pub(super) fn enter(
        &mut self,
        prepared: Prepared,
        plan: &Plan,
        now: i64,
        caused: bool,
    ) -> Receipt {
        let Prepared { outgoing, columns } = prepared;
        // For people; what is due goes by a clock that nobody sets.
        let at_ms = clock::now_ms();
        let due = if outgoing.delay.is_zero() {
            0
        } else {
            later(now, outgoing.delay)
        };
        let value = Stored {
            message: Arc::new(outgoing.message),
            route: outgoing.route,
            volatile: false,
            at_ms,
            history: None,
        };
        let window = self.options.window;
        let keep = matches!(plan, Plan::Keep);
        self.kept += u64::from(keep);
        let queues = plan.slots().iter().map(Some).chain(keep.then_some(None));
        for slot in queues {
            let id = self.next_id;
            self.next_id += 1;
            let entry = slot.and_then(|slot| Some((*slot, self.table.entry(*slot)?)));
            let volatile = due == 0 && entry.as_ref().is_some_and(|(_, e)| e.is_volatile(window));
            let queue = entry.map(|(slot, entry)| (slot, entry.extra.id));
            let row = NewRow {
                id,
                queue: queue.map_or(0, |(_, id)| id),
                due,
                at_ms,
                columns: columns.clone(),
            };
            let item = Item {
                id,
                attempts: 0,
                key: outgoing.key.clone(),
                value: Stored {
                    volatile,
                    ..value.clone()
                },
            };
            self.group.add_message(row, queue, item, caused);
        }
        Receipt {
            queues: u32::try_from(plan.slots().len()).unwrap_or(u32::MAX),
        }
    }
}
