//! Everything that waits in a queue at once: counted for people, or taken out.

use super::{Fifo, Item};

/// How many messages are in which place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) ready: usize,
    pub(crate) leased: usize,
    /// Never tried, and not due.
    pub(crate) delayed: usize,
    /// Tried before, and not due.
    pub(crate) retrying: usize,
    pub(crate) parked: usize,
}

/// Messages that were taken out.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    /// They are away, as if claimed, with their keys.
    pub(crate) away: Vec<Item<T>>,
    /// They had no key yet.
    pub(crate) parked: Vec<Item<T>>,
}

impl<T: Clone> Fifo<T> {
    /// Counts what is in memory.
    pub(crate) fn census(&self) -> Census {
        let retrying = self.delayed.values().filter(|item| item.attempts > 0);
        let retrying = retrying.count();
        Census {
            ready: self.ready.len(),
            leased: self.leased.len(),
            delayed: self.delayed.len() - retrying,
            retrying,
            parked: self.parked,
        }
    }

    /// Every message in memory, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item<T>> {
        let parked = self.keys.values().flat_map(|held| held.parked.values());
        self.ready
            .iter()
            .chain(self.leased.values().map(|leased| &leased.item))
            .chain(self.delayed.values())
            .chain(parked)
    }

    /// Takes out all that waits; what is leased stays.
    pub(crate) fn take_waiting(&mut self) -> Taken<T> {
        let mut away = self.ready.take();
        away.extend(std::mem::take(&mut self.delayed).into_values());
        let parked = self.keys.values_mut();
        let parked = parked
            .flat_map(|held| std::mem::take(&mut held.parked).into_values())
            .collect();
        self.parked = 0;
        Taken { away, parked }
    }

    /// They are gone.
    pub(crate) fn forget(&mut self, taken: &Taken<T>) {
        for item in &taken.away {
            self.finish(item.id, item.key.as_ref());
        }
    }

    /// They are not gone after all; what was not due is ready.
    pub(crate) fn restore(&mut self, taken: Taken<T>) {
        for item in taken.away.into_iter().chain(taken.parked) {
            self.push(item);
        }
    }
}
