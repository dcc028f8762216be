//! Which messages of a queue are in memory and which only in the database.
//!
//! The rule: what is ready is in memory up to a number `after`, and in the database alone behind it; what is due later is
//! in the database alone until its time has come. It is pure bookkeeping; who reads the database is the writer.

use crate::backend::table::{Entry, Stored};
use crate::queue::Item;
use crate::store::sqlite::Due;

/// Bytes of the messages of one queue in memory.
const BYTES: usize = 32 << 20;
/// Messages in memory for each that may be ready, those included that are in flight or wait for their key.
const ALL: usize = 8;

/// What the embedded broker knows of a queue besides its messages in memory.
#[derive(Debug)]
pub(super) struct Spill {
    /// Its number on disk.
    pub(super) id: i64,
    /// Messages with greater numbers that are ready are only in the database; `None`: there are none.
    pub(super) after: Option<u64>,
    /// What was due until this place is in memory.
    pub(super) due_after: Due,
    /// When the next message behind that place is due.
    pub(super) next_due: i64,
    /// Something is due for which there was no room.
    pub(super) blocked: bool,
    /// It is in the list of those that can take more.
    pub(super) hungry: bool,
    bytes: usize,
}

impl Spill {
    /// A queue of which nothing is in memory.
    pub(super) fn on_disk(id: i64) -> Self {
        Self {
            id,
            after: Some(0),
            due_after: (0, 0),
            next_due: 0,
            blocked: false,
            hungry: false,
            bytes: 0,
        }
    }

    /// A queue without messages.
    pub(super) fn empty(id: i64) -> Self {
        Self {
            after: None,
            next_due: i64::MAX,
            ..Self::on_disk(id)
        }
    }
}

fn size(item: &Item<Stored>) -> usize {
    let payload = &item.value.message.payload;
    payload.content.len() + payload.headers.size() + 200
}

impl Entry<Spill> {
    /// How many more messages and bytes may be in memory.
    pub(super) fn room(&self, window: usize) -> (usize, usize) {
        let ready = window.saturating_sub(self.fifo.ready());
        let all = (window * ALL).saturating_sub(self.fifo.len());
        (ready.min(all), BYTES.saturating_sub(self.extra.bytes))
    }

    /// The same for what is due. One is always taken when nothing is ready, for it may hold the key behind which
    /// everything else is parked.
    pub(super) fn room_for_due(&self, window: usize) -> (usize, usize) {
        match self.room(window) {
            (0, _) | (_, 0) if self.fifo.ready() == 0 => (1, 1),
            (0, _) | (_, 0) => (0, 0),
            room => room,
        }
    }

    fn has_room(&self, window: usize) -> bool {
        let (rows, bytes) = self.room(window);
        rows > 0 && bytes > 0
    }

    /// Whether it should be fed and wasn't known to; it is from then on.
    pub(super) fn becomes_hungry(&mut self, window: usize) -> bool {
        let (rows, bytes) = self.room(window);
        let low = rows > window / 2 && bytes > BYTES / 2;
        let stuck = self.fifo.ready() == 0;
        let spill = &mut self.extra;
        let wants = (low && spill.after.is_some()) || ((low || stuck) && spill.blocked);
        let newly = wants && !spill.hungry;
        spill.hungry |= wants;
        newly
    }

    /// Whether a new message of this queue is kept in memory only. A reader that falls behind gets its messages through
    /// the database as well, so that they take no more memory than others.
    pub(super) fn is_volatile(&self, window: usize) -> bool {
        self.spec.ephemeral && self.extra.after.is_none() && self.fifo.len() < window / 2
    }

    /// A message is in memory.
    pub(super) fn load(&mut self, item: Item<Stored>) {
        self.extra.bytes += size(&item);
        self.fifo.push(item);
    }

    /// A claimed message is no longer in memory.
    pub(super) fn unload(&mut self, item: &Item<Stored>) {
        self.extra.bytes = self.extra.bytes.saturating_sub(size(item));
    }

    /// A message is on disk: it is ready in memory, or found there later. Returns when it is due, if it is then that
    /// it has to be fetched.
    pub(super) fn arrive(&mut self, item: Item<Stored>, due: i64, window: usize) -> Option<i64> {
        if due > 0 {
            return self.arrive_later(item, due);
        }
        if item.value.volatile || (self.extra.after.is_none() && self.has_room(window)) {
            self.load(item);
        } else {
            self.extra.after.get_or_insert(item.id.saturating_sub(1));
        }
        None
    }

    /// The same for a message that is due at some moment.
    pub(super) fn arrive_later(&mut self, item: Item<Stored>, due: i64) -> Option<i64> {
        if (due, item.id) <= self.extra.due_after {
            self.load(item);
            return None;
        }
        self.extra.next_due = self.extra.next_due.min(due);
        Some(due)
    }
}
