//! What one transaction does for the calls that it takes: where messages go, which deliveries end, what is refused.
//!
//! It decides and talks to nobody; the writer carries it out, and tells it what the database found.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::group::{Call, Prepared, Replayed, Settling};
use super::overlay::ABSENT;
use super::shared::Inner;
use crate::backend::table::{Plan as Place, millis};
use crate::backend::{
    Destination, Outgoing, PublishError, QueueName, Receipt, SettleError, Token, Verdict, again,
};
use crate::store::postgres::{Failure, Hold, Keys, NewRow, RetryRow, StateKey, StateRow};
use crate::store::{History, KeptLetter};

/// What is to be done, in the order of the calls.
#[derive(Debug)]
pub(super) struct Plan<'c> {
    units: Vec<Unit<'c>>,
    rows: Vec<Row>,
    /// Keys that were read and have no value.
    absent: HashSet<StateKey>,
}

/// A message that is published, or a settlement with all that it caused.
#[derive(Debug)]
struct Unit<'c> {
    settling: Option<&'c Settling>,
    /// The dead letter that this was.
    letter: Option<i64>,
    /// How many queues a message goes to.
    result: Result<u32, Refusal>,
}

#[derive(Debug)]
enum Refusal {
    Publish(PublishError),
    Settle(SettleError),
    Replay(Replayed),
}

/// A row that is written if its unit is not refused.
#[derive(Debug)]
struct Row {
    unit: usize,
    what: What,
    row: NewRow,
}

/// How a message enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Ready,
    /// Behind the others of its key.
    Keyed,
    Later,
    Kept,
}

/// What a call gets.
#[derive(Debug)]
pub(super) enum Results {
    Publish(Vec<Result<Receipt, PublishError>>),
    Settle(Vec<Result<(), SettleError>>),
    Replay(Result<Vec<Replayed>, Failure>),
}

impl<'c> Plan<'c> {
    /// Plans with the queues as they are known; the deliveries in `stale` are known to be too late.
    pub(super) fn new(
        inner: &mut Inner,
        most_kept: u64,
        calls: &'c [Call],
        stale: &HashSet<Token>,
    ) -> Self {
        let mut plan = Self {
            units: Vec::new(),
            rows: Vec::new(),
            absent: HashSet::new(),
        };
        let mut room = most_kept.saturating_sub(inner.kept);
        for call in calls {
            match call {
                Call::Publish { batch, .. } => {
                    for one in batch {
                        let result = plan.route(inner, &mut room, one);
                        plan.units.push(Unit {
                            settling: None,
                            letter: None,
                            result: result.map_err(Refusal::Publish),
                        });
                    }
                }
                Call::Replay { batch, .. } => {
                    for (letter, one) in batch {
                        let result = plan.replay(inner, &mut room, one);
                        plan.units.push(Unit {
                            settling: None,
                            letter: Some(*letter),
                            result: result
                                .map_err(|error| Refusal::Replay(Replayed::Refused(error))),
                        });
                    }
                }
                Call::Settle { .. } => {
                    for settling in call.settlements() {
                        let result = if stale.contains(&settling.token) {
                            Err(SettleError::Stale)
                        } else {
                            plan.cause(inner, &mut room, settling)
                        };
                        plan.units.push(Unit {
                            settling: Some(settling),
                            letter: None,
                            result: result.map(|()| 0).map_err(Refusal::Settle),
                        });
                    }
                }
            }
        }
        plan
    }

    /// The rows of a message that was a dead letter.
    fn replay(&mut self, inner: &mut Inner, room: &mut u64, one: &Prepared) -> Result<u32, String> {
        let before = self.rows.len();
        let queues = self.route(inner, room, one);
        let queues = queues.map_err(|error| error.to_string())?;
        if self.rows.len() == before {
            return Err(again::nobody_waits(&one.outgoing.message.topic));
        }
        Ok(queues)
    }

    /// What a settlement publishes, all or nothing.
    fn cause(
        &mut self,
        inner: &mut Inner,
        room: &mut u64,
        settling: &Settling,
    ) -> Result<(), SettleError> {
        let before = self.rows.len();
        let copy = dead_letter_copy(inner, settling);
        for one in settling.publishes.iter().chain(&copy) {
            if let Err(error) = self.route(inner, room, one) {
                self.rows.truncate(before);
                return Err(SettleError::Refused(error));
            }
        }
        Ok(())
    }

    /// The rows of a message; how many queues it goes to.
    fn route(
        &mut self,
        inner: &mut Inner,
        room: &mut u64,
        one: &Prepared,
    ) -> Result<u32, PublishError> {
        let Prepared { outgoing, columns } = one;
        let place = inner.table.plan(outgoing)?;
        let delay_ms = millis(outgoing.delay);
        let what = match (delay_ms, &outgoing.key) {
            (1.., _) => What::Later,
            (_, Some(_)) => What::Keyed,
            (_, None) => What::Ready,
        };
        let unit = self.units.len();
        let mut add = |what, queue| {
            let columns = columns.clone();
            let row = NewRow {
                queue,
                delay_ms,
                columns,
            };
            self.rows.push(Row { unit, what, row });
        };
        if matches!(place, Place::Keep) {
            *room = room.checked_sub(1).ok_or_else(|| full(outgoing))?;
            add(What::Kept, 0);
            return Ok(0);
        }
        for slot in place.slots() {
            if let Some(entry) = inner.table.entry(*slot) {
                add(what, entry.extra.id);
            }
        }
        Ok(u32::try_from(place.slots().len()).unwrap_or(u32::MAX))
    }

    fn settlements(&self) -> impl Iterator<Item = &'c Settling> {
        self.units
            .iter()
            .filter(|unit| unit.result.is_ok())
            .filter_map(|unit| unit.settling)
    }

    /// The plugins whose state is read or written.
    pub(super) fn plugins(&self) -> Vec<&'c str> {
        let plugins: BTreeSet<&str> = self
            .settlements()
            .flat_map(|settling| {
                let reads = settling.reads.iter().map(|(key, _)| key);
                reads.chain(settling.writes.iter().map(|row| &row.key))
            })
            .map(|(plugin, _)| &**plugin)
            .collect();
        plugins.into_iter().collect()
    }

    /// The keys that were read.
    pub(super) fn reads(&self) -> Vec<StateKey> {
        let keys: HashSet<&StateKey> = self
            .settlements()
            .flat_map(|settling| settling.reads.iter().map(|(key, _)| key))
            .collect();
        keys.into_iter().cloned().collect()
    }

    /// Refuses what read something else than what is there, one settlement after the other.
    pub(super) fn check(&mut self, reads: Vec<StateKey>, mut versions: HashMap<StateKey, i64>) {
        let absent = reads.into_iter().filter(|key| !versions.contains_key(key));
        self.absent = absent.collect();
        for unit in &mut self.units {
            let (Some(settling), Ok(_)) = (unit.settling, &unit.result) else {
                continue;
            };
            let holds = settling
                .reads
                .iter()
                .all(|(key, version)| versions.get(key).copied().unwrap_or(ABSENT) == *version);
            if !holds {
                unit.result = Err(Refusal::Settle(SettleError::Conflict));
                continue;
            }
            for row in &settling.writes {
                if row.value.is_some() {
                    versions.insert(row.key.clone(), row.version);
                } else {
                    versions.remove(&row.key);
                }
            }
        }
    }

    /// The keys of which another message may have the turn afterwards.
    pub(super) fn keys(&self) -> Keys {
        let mut keys = Keys::default();
        for settling in self.settlements() {
            if let (Some(key), Verdict::Ack | Verdict::DeadLetter(_)) =
                (&settling.lease.key, &settling.verdict)
            {
                keys.add(settling.hold.queue, key.as_bytes());
            }
        }
        for row in self.rows(What::Keyed) {
            if let Some(key) = row.columns.key() {
                keys.add(row.queue, key.as_bytes());
            }
        }
        keys
    }

    /// The dead letters that are to be messages.
    pub(super) fn undead(&self) -> Vec<i64> {
        let accepted = self.units.iter().filter(|unit| unit.result.is_ok());
        accepted.filter_map(|unit| unit.letter).collect()
    }

    /// Leaves out the dead letters that somebody else removed.
    pub(super) fn unburied(&mut self, ids: &HashSet<i64>) {
        for unit in &mut self.units {
            if unit.letter.is_some_and(|letter| !ids.contains(&letter)) && unit.result.is_ok() {
                unit.result = Err(Refusal::Replay(Replayed::Gone));
            }
        }
    }

    /// The deliveries that are over.
    pub(super) fn finished(&self) -> Vec<Hold> {
        let finished = self
            .settlements()
            .filter(|settling| !matches!(settling.verdict, Verdict::Retry { .. }));
        finished.map(|settling| settling.hold).collect()
    }

    /// The deliveries that come again.
    pub(super) fn retries(&self) -> Vec<RetryRow> {
        let retry = |settling: &Settling| match &settling.verdict {
            Verdict::Retry { after, failed } => Some(RetryRow {
                hold: settling.hold,
                after_ms: millis(*after),
                history: History::after(settling.lease.history.as_ref(), (**failed).clone()),
            }),
            _ => None,
        };
        self.settlements().filter_map(retry).collect()
    }

    /// Refuses the deliveries that did not end because they were somebody else's by then. Those that write state cannot
    /// be taken out any more, for what follows may have read it: these are returned.
    pub(super) fn ended(&mut self, ended: &HashSet<i64>) -> Vec<Token> {
        let mut state = Vec::new();
        for unit in &mut self.units {
            let (Some(settling), Ok(_)) = (unit.settling, &unit.result) else {
                continue;
            };
            if !ended.contains(&settling.hold.id) {
                unit.result = Err(Refusal::Settle(SettleError::Stale));
                if !settling.writes.is_empty() {
                    state.push(settling.token);
                }
            }
        }
        state
    }

    /// The rows of one kind that are to be written.
    pub(super) fn rows(&self, what: What) -> Vec<&NewRow> {
        let accepted = |row: &&Row| {
            row.what == what
                && self
                    .units
                    .get(row.unit)
                    .is_some_and(|unit| unit.result.is_ok())
        };
        self.rows
            .iter()
            .filter(accepted)
            .map(|row| &row.row)
            .collect()
    }

    /// The dead letters.
    pub(super) fn letters(&self) -> Vec<KeptLetter> {
        let letter = |settling: &Settling| match &settling.verdict {
            Verdict::DeadLetter(letter) => Some(KeptLetter {
                key: settling.lease.key.clone(),
                route: settling.lease.route,
                published_ms: settling.lease.at_ms,
                // The database gives it its number.
                ..KeptLetter::new(0, (**letter).clone(), settling.lease.history.as_ref())
            }),
            _ => None,
        };
        self.settlements().filter_map(letter).collect()
    }

    /// The values of state, the last one of each key: those of keys that have none yet, and the others.
    pub(super) fn state(&self) -> (Vec<&'c StateRow>, Vec<&'c StateRow>) {
        let rows: HashMap<&StateKey, &StateRow> = self
            .settlements()
            .flat_map(|settling| settling.writes.iter().map(|row| (&row.key, row)))
            .collect();
        rows.into_values()
            .partition(|row| row.value.is_some() && self.absent.contains(&row.key))
    }

    /// What each call gets.
    pub(super) fn results(self, calls: &[Call]) -> Vec<Results> {
        let mut units = self.units.into_iter().map(|unit| unit.result);
        let mut next = || units.next().unwrap_or(Ok(0));
        calls
            .iter()
            .map(|call| match call {
                Call::Publish { batch, .. } => {
                    let results = batch.iter().map(|_| match next() {
                        Ok(queues) => Ok(Receipt { queues }),
                        Err(Refusal::Publish(error)) => Err(error),
                        // A call is refused in its own way.
                        Err(Refusal::Settle(_) | Refusal::Replay(_)) => Err(PublishError::Closed),
                    });
                    Results::Publish(results.collect())
                }
                Call::Replay { batch, .. } => {
                    let results = batch.iter().map(|_| match next() {
                        Ok(_) => Replayed::Done,
                        Err(Refusal::Replay(replayed)) => replayed,
                        Err(Refusal::Publish(_) | Refusal::Settle(_)) => Replayed::Gone,
                    });
                    Results::Replay(Ok(results.collect()))
                }
                Call::Settle { batch, .. } => {
                    let results = batch.iter().map(|settling| match settling {
                        Err(error) => Err(error.clone()),
                        Ok(_) => match next() {
                            Ok(_) => Ok(()),
                            Err(Refusal::Settle(error)) => Err(error),
                            Err(Refusal::Publish(_) | Refusal::Replay(_)) => {
                                Err(SettleError::Closed)
                            }
                        },
                    });
                    Results::Settle(results.collect())
                }
            })
            .collect()
    }
}

fn full(outgoing: &Outgoing) -> PublishError {
    let topic = &outgoing.message.topic;
    // The name of a topic is legal as the name of a queue.
    match topic.as_str().parse::<QueueName>() {
        Ok(name) => PublishError::Full(name),
        Err(_) => PublishError::Unroutable(topic.clone()),
    }
}

/// What goes to the dead-letter queue of a queue, if it has one. Without that, for somebody deleted it, the letter is in
/// the store all the same.
fn dead_letter_copy(inner: &mut Inner, settling: &Settling) -> Option<Prepared> {
    if !matches!(settling.verdict, Verdict::DeadLetter(_)) {
        return None;
    }
    let (_, entry) = inner.table.of(settling.token).ok()?;
    let name = entry.spec.dead_letter.clone()?;
    inner.table.slot(&name)?;
    Some(Prepared::new(Outgoing {
        to: Destination::Queue(name),
        key: settling.lease.key.clone(),
        ..Outgoing::new((*settling.lease.message).clone())
    }))
}
