//! The order in which the messages of one queue are handed out: ready, leased, delayed, or parked behind a key.
//!
//! Pure: no I/O, no `async`, the clock is passed in (milliseconds of any epoch, always the same one), and a message is a
//! number with a value of which nothing is known. It doesn't know topics, doesn't wake anybody and makes nothing
//! durable: that is what the backends add.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::backend::Token;

mod ready;
#[cfg(test)]
mod tests;
mod waiting;

use ready::Ready;
pub(crate) use waiting::Census;

/// The place of a queue in its table. A fence carries it in its low bits, so that a token finds its queue.
pub(crate) type Slot = u32;

const SLOT_BITS: u32 = 24;

/// The slot of the queue that a token belongs to.
pub(crate) fn slot_of(token: Token) -> Slot {
    u32::try_from(token.fence & ((1 << SLOT_BITS) - 1)).unwrap_or(Slot::MAX)
}

/// A message in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item<T> {
    /// Its number, unique and greater than that of every earlier message.
    pub(crate) id: u64,
    /// How often it was tried before.
    pub(crate) attempts: u32,
    /// Messages of one key are handed out one after the other.
    pub(crate) key: Option<Arc<str>>,
    /// The message.
    pub(crate) value: T,
}

/// The token is of another delivery, or its lease ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale;

/// The messages of one queue that are in memory.
///
/// Of the messages of one key at most one is ready, leased, delayed for a retry, [claimed](Self::claim) or
/// [away](Self::away); the others are parked in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    ready: Ready<T>,
    leased: HashMap<u64, Leased<T>, BuildHasherDefault<IdHasher>>,
    delayed: BTreeMap<(i64, u64), Item<T>>,
    keys: HashMap<Arc<str>, Held<T>>,
    parked: usize,
    /// No lease ends before this moment.
    first_end: i64,
    fence: u64,
}

#[derive(Debug)]
struct Leased<T> {
    item: Item<T>,
    fence: u64,
    end: i64,
}

/// A key with the message that has its turn and those that wait for it.
#[derive(Debug)]
struct Held<T> {
    holder: u64,
    parked: BTreeMap<u64, Item<T>>,
}

impl<T: Clone> Fifo<T> {
    /// An empty queue. Of two queues that ever had the same slot and numbers in common, `seed` makes the fences differ.
    pub(crate) fn new(slot: Slot, seed: u64) -> Self {
        Self {
            ready: Ready::default(),
            leased: HashMap::default(),
            delayed: BTreeMap::new(),
            keys: HashMap::new(),
            parked: 0,
            first_end: i64::MAX,
            fence: (seed << SLOT_BITS) | u64::from(slot),
        }
    }

    /// How many messages there are, those in flight included.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.leased.len() + self.delayed.len() + self.parked
    }

    /// How many can be taken now.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Adds a message: ready, or parked if another one has the turn of its key.
    pub(crate) fn push(&mut self, item: Item<T>) {
        if let Some(key) = &item.key {
            match self.keys.entry(key.clone()) {
                Entry::Occupied(mut held) if held.get().holder != item.id => {
                    self.parked += 1;
                    held.get_mut().parked.insert(item.id, item);
                    return;
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    free.insert(Held {
                        holder: item.id,
                        parked: BTreeMap::new(),
                    });
                }
            }
        }
        self.ready.push(item);
    }

    /// Adds a message that enters when `due`; until then it holds no key.
    pub(crate) fn push_delayed(&mut self, item: Item<T>, due: i64) {
        self.delayed.insert((due, item.id), item);
    }

    /// Gives the turn of a key to a message that is [away](Self::away).
    pub(crate) fn hold(&mut self, key: Arc<str>, holder: u64) {
        self.keys.entry(key).or_insert_with(|| Held {
            holder,
            parked: BTreeMap::new(),
        });
    }

    /// Leases up to `max` messages until `end`, the oldest first.
    pub(crate) fn take(
        &mut self,
        max: usize,
        end: i64,
        mut each: impl FnMut(&Item<T>, Token),
    ) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(item) = self.ready.pop() else { break };
            self.fence = self.fence.wrapping_add(1 << SLOT_BITS);
            let fence = self.fence;
            each(&item, Token { id: item.id, fence });
            self.leased.insert(item.id, Leased { item, fence, end });
            taken += 1;
        }
        if taken > 0 {
            self.first_end = self.first_end.min(end);
        }
        taken
    }

    /// The message that was delivered with this token.
    pub(crate) fn get(&self, token: Token) -> Result<&Item<T>, Stale> {
        match self.leased.get(&token.id) {
            Some(leased) if leased.fence == token.fence => Ok(&leased.item),
            _ => Err(Stale),
        }
    }

    /// Ends a lease and hands over its message, whose key stays held: what becomes of it is decided by
    /// [`finish`](Self::finish), [`put_back`](Self::put_back), [`retry`](Self::retry) or nobody while it is *away*.
    pub(crate) fn claim(&mut self, token: Token) -> Result<Item<T>, Stale> {
        match self.leased.entry(token.id) {
            Entry::Occupied(leased) if leased.get().fence == token.fence => {
                Ok(leased.remove().item)
            }
            _ => Err(Stale),
        }
    }

    /// A claimed message is done or dead: the next one of its key has its turn.
    pub(crate) fn finish(&mut self, id: u64, key: Option<&Arc<str>>) {
        let Some(key) = key else { return };
        let Some(held) = self.keys.get_mut(key) else {
            return;
        };
        if held.holder != id {
            return;
        }
        match held.parked.pop_first() {
            Some((next, item)) => {
                held.holder = next;
                self.parked -= 1;
                self.ready.push(item);
            }
            None => {
                self.keys.remove(key);
            }
        }
    }

    /// A claimed message is ready again, in its old place.
    pub(crate) fn put_back(&mut self, item: Item<T>) {
        self.ready.push(item);
    }

    /// A claimed message is ready again when `due`, with the attempt counted. Its key stays held.
    pub(crate) fn retry(&mut self, mut item: Item<T>, due: i64) {
        item.attempts = item.attempts.saturating_add(1);
        self.push_delayed(item, due);
    }

    /// A delivery is ready again, without an attempt counted.
    pub(crate) fn release(&mut self, token: Token) -> Result<(), Stale> {
        let item = self.claim(token)?;
        self.put_back(item);
        Ok(())
    }

    /// A delivery is ready again when `due`, without an attempt counted. Its key stays held.
    pub(crate) fn put_off(&mut self, token: Token, due: i64) -> Result<(), Stale> {
        let item = self.claim(token)?;
        self.push_delayed(item, due);
        Ok(())
    }

    /// Moves the end of a lease.
    pub(crate) fn extend(&mut self, token: Token, end: i64) -> Result<(), Stale> {
        match self.leased.get_mut(&token.id) {
            Some(leased) if leased.fence == token.fence => {
                leased.end = end;
                self.first_end = self.first_end.min(end);
                Ok(())
            }
            _ => Err(Stale),
        }
    }

    /// Makes ready what is due and what was leased for too long (its fence is invalid from then on).
    pub(crate) fn expire(&mut self, now: i64) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                break;
            }
            let item = first.remove();
            self.push(item);
        }
        if self.first_end > now {
            return;
        }
        // Few messages are in flight, and this runs at most once for every end of a lease that passes.
        let late: Vec<u64> = self
            .leased
            .iter()
            .filter(|(_, l)| l.end <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(leased) = self.leased.remove(&id) {
                self.ready.push(leased.item);
            }
        }
        self.first_end = self
            .leased
            .values()
            .map(|leased| leased.end)
            .min()
            .unwrap_or(i64::MAX);
    }

    /// The earliest moment at which [`expire`](Self::expire) may have something to do.
    pub(crate) fn next_due(&self) -> Option<i64> {
        let delayed = self
            .delayed
            .first_key_value()
            .map_or(i64::MAX, |(key, _)| key.0);
        let next = delayed.min(self.first_end);
        (next != i64::MAX).then_some(next)
    }
}

/// Numbers that are handed out one after the other are spread by one multiplication; nobody outside chooses them.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}
