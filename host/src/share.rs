//! Whose turn it is when several queues want more of the host than there is of it: to each a share by its weight, and to
//! none of them nothing.
//!
//! Each queue has used some of the host's time, divided by its weight; who has used least comes first (stride scheduling).
//! Who was away begins where the others are, so that nobody saves up and nobody catches up. Pure: no I/O, no `async`, the
//! time is passed in. What waits for a turn, and how, is decided by the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The weights that a queue can have.
pub(crate) const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10;

/// The weight of a queue of which nothing is said.
pub(crate) const DEFAULT_WEIGHT: u32 = 5;

/// What a turn is thought to take before it is known.
const TURN: Duration = Duration::from_millis(1);

/// A turn takes no less than this, so that turns without work are not endless.
const LEAST: Duration = Duration::from_micros(1);

/// How far behind somebody may be who cannot use all of its share: so much is caught up, in turns of weight 1.
const BEHIND: u128 = 10 * per(TURN, 1);

/// A task that lets the others go first so often, without any of them going, goes itself: they don't want to.
const PATIENCE: u32 = 3;

/// The queues of one host.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    members: Vec<Member>,
    last: u64,
    /// How many turns have begun.
    turns: u64,
}

/// What a queue says of itself, without asking anybody.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// Tasks that have messages to handle.
    pub(crate) tasks: AtomicUsize,
    /// Messages in flight.
    pub(crate) in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    id: u64,
    weight: u32,
    demand: Arc<Demand>,
    /// Time by weight.
    used: u128,
    /// Turns that have not ended.
    running: usize,
}

/// How often a task let others go first since one of them went.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    passed: u32,
    /// How many turns there had been.
    turns: u64,
}

/// A turn that has begun.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn {
    id: u64,
    /// What was put down for it.
    charged: u128,
}

/// Time by weight, in units that every weight divides well enough.
const fn per(time: Duration, weight: u32) -> u128 {
    let weight = if weight == 0 { 1 } else { weight };
    time.as_nanos() * 2520 / weight as u128
}

impl Demand {
    fn busy(&self) -> bool {
        self.tasks.load(Ordering::Relaxed) > 0
    }
}

impl Shares {
    /// One queue more; returns its number.
    pub(crate) fn join(&mut self, weight: u32, demand: Arc<Demand>) -> u64 {
        self.last += 1;
        let used = self.members.iter().map(|member| member.used).max();
        self.members.push(Member {
            id: self.last,
            weight: clamp(weight),
            demand,
            used: used.unwrap_or(0),
            running: 0,
        });
        self.last
    }

    /// One less.
    pub(crate) fn leave(&mut self, id: u64) {
        self.members.retain(|member| member.id != id);
    }

    /// From now on it has this weight.
    pub(crate) fn weigh(&mut self, id: u64, weight: u32) {
        if let Some(member) = self.member(id) {
            member.weight = clamp(weight);
        }
    }

    /// Whether there is anything to decide: where all weigh the same, nobody is held up for anybody.
    pub(crate) fn uneven(&self) -> bool {
        let mut weights = self.members.iter().map(|member| member.weight);
        let first = weights.next();
        weights.any(|weight| Some(weight) != first)
    }

    fn member(&mut self, id: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    fn others(&self, id: u64) -> impl Iterator<Item = &Member> {
        let others = self.members.iter();
        others.filter(move |member| member.id != id && member.demand.busy())
    }

    /// It has something to do again: what it did not use while it had nothing is gone.
    pub(crate) fn wakes(&mut self, id: u64) {
        let least = self.others(id).map(|other| other.used).min();
        if let (Some(least), Some(member)) = (least, self.member(id)) {
            member.used = member.used.max(least);
        }
    }

    /// A turn for a task, or `None` if others come first; then it asks again as soon as they had the opportunity.
    pub(crate) fn turn(&mut self, id: u64, patience: &mut Patience) -> Option<Turn> {
        let least = self.others(id).map(|other| other.used).min();
        let turns = self.turns;
        let member = self.member(id)?;
        if let Some(least) = least.filter(|least| *least < member.used) {
            if patience.turns != turns {
                *patience = Patience { passed: 0, turns };
            }
            if patience.passed < PATIENCE {
                patience.passed += 1;
                return None;
            }
            // They wait for something else. What they leave is not saved for them, but who runs is not one of them.
            let (used, weight) = (member.used, member.weight);
            self.catch_up(id, least, used + per(TURN, weight));
        }
        let member = self.member(id)?;
        member.running += 1;
        let charged = per(TURN, member.weight);
        member.used += charged;
        let used = member.used;
        self.turns += 1;
        for other in &mut self.members {
            other.used = other.used.max(used.saturating_sub(BEHIND));
        }
        Some(Turn { id, charged })
    }

    /// Who was behind and does not run comes to where the others are.
    fn catch_up(&mut self, id: u64, least: u128, used: u128) {
        let behind = self.members.iter_mut();
        for other in behind.filter(|other| other.id != id && other.running == 0) {
            if (least..used).contains(&other.used) {
                other.used = used;
            }
        }
    }

    /// The end of a turn.
    pub(crate) fn ended(&mut self, turn: &Turn, took: Duration) {
        if let Some(member) = self.member(turn.id) {
            member.running = member.running.saturating_sub(1);
            let took = per(took.max(LEAST), member.weight);
            member.used = member.used.saturating_sub(turn.charged) + took;
        }
    }

    /// How many messages it may have in flight of those that it could have: all of them, unless a queue that weighs more
    /// presses as well.
    pub(crate) fn most_in_flight(&self, id: u64, all: usize) -> usize {
        let Some(own) = self.members.iter().find(|member| member.id == id) else {
            return all;
        };
        let pressing = self.members.iter().filter(|member| {
            // Half of the least that it may have, whoever else presses.
            let least = part(all, member.weight, *WEIGHTS.end()) / 2;
            member.demand.in_flight.load(Ordering::Relaxed) >= least.max(1)
        });
        let most = pressing.map(|member| member.weight).max().unwrap_or(0);
        part(all, own.weight, most.max(own.weight)).max(1)
    }
}

fn clamp(weight: u32) -> u32 {
    weight.clamp(*WEIGHTS.start(), *WEIGHTS.end())
}

fn part(all: usize, weight: u32, most: u32) -> usize {
    let [weight, most] = [weight, most].map(|it| usize::try_from(it).unwrap_or(1).max(1));
    all * weight / most
}

#[cfg(test)]
mod tests;
