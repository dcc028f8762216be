//! Messages that can be taken, ordered by number, cheap where numbers come in order and never dear.
//!
//! It isn't a priority queue: nothing but the number decides.

use std::collections::{BTreeMap, VecDeque};

use super::Item;

/// Two ordered runs: new messages, which almost always come with the greatest number so far, and those that come back
/// or were parked. The lesser front is the next.
#[derive(Debug)]
pub(super) struct Ready<T> {
    fresh: VecDeque<Item<T>>,
    back: BTreeMap<u64, Item<T>>,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self {
            fresh: VecDeque::new(),
            back: BTreeMap::new(),
        }
    }
}

impl<T> Ready<T> {
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.back.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item<T>> {
        self.fresh.iter().chain(self.back.values())
    }

    /// Takes out everything.
    pub(super) fn take(&mut self) -> Vec<Item<T>> {
        let mut items: Vec<Item<T>> = self.fresh.drain(..).collect();
        items.extend(std::mem::take(&mut self.back).into_values());
        items
    }

    pub(super) fn push(&mut self, item: Item<T>) {
        match self.fresh.back() {
            Some(last) if last.id > item.id => {
                self.back.insert(item.id, item);
            }
            _ => self.fresh.push_back(item),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item<T>> {
        match (self.fresh.front(), self.back.first_key_value()) {
            (Some(fresh), Some((back, _))) if *back < fresh.id => {
                self.back.pop_first().map(|(_, item)| item)
            }
            (None, Some(_)) => self.back.pop_first().map(|(_, item)| item),
            _ => self.fresh.pop_front(),
        }
    }
}
