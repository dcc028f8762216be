//! Bringing messages from the database into memory: those that spilled, and those whose time has come.
//!
//! The writer does it between two transactions, so that nothing is committed while it reads and every message is either
//! read here or handed over after its commit, never both.

use std::sync::Arc;

use super::shared::{Inner, Shared};
use super::spill::Spill;
use crate::backend::table::Stored;
use crate::clock;
use crate::queue::{Item, Slot};
use crate::store::sqlite::{Database, Due, Failure, StoredRow};

/// What there is to read for a queue, and how much of it.
struct Appetite<T> {
    queue: i64,
    after: T,
    rows: usize,
    bytes: usize,
}

impl Shared {
    /// Fills a queue up: first with what is due, then with what spilled.
    pub(super) async fn feed(&self, slot: Slot, database: &mut Database) -> Result<(), Failure> {
        let now = clock::steady_ms();
        let due = self.lock().appetite_for_due(slot, now);
        if let Some(Appetite {
            queue,
            after,
            rows,
            bytes,
        }) = due
        {
            let page = database.due_page(queue, after, now, rows, bytes).await?;
            let last = page.last.unwrap_or(after);
            let next = database.next_due(queue, last).await?.unwrap_or(i64::MAX);
            self.fed(slot, page.rows, |spill| {
                spill.due_after = last;
                spill.next_due = next;
            });
        }
        let spilled = self.lock().appetite(slot);
        if let Some(Appetite {
            queue,
            after,
            rows,
            bytes,
        }) = spilled
        {
            let page = database.ready_page(queue, after, rows, bytes).await?;
            let last = page.last.map_or(after, |(_, id)| id);
            self.fed(slot, page.rows, |spill| {
                spill.after = (!page.end).then_some(last)
            });
        }
        Ok(())
    }

    /// Puts what was read into memory.
    fn fed(&self, slot: Slot, rows: Vec<StoredRow>, note: impl FnOnce(&mut Spill)) {
        let mut inner = self.lock();
        if let Some(entry) = inner.table.entry(slot) {
            note(&mut entry.extra);
            let next = entry.extra.next_due;
            inner.expect(next);
        }
        inner.load(slot, rows);
        self.leave(inner);
    }
}

impl Inner {
    fn appetite_for_due(&mut self, slot: Slot, now: i64) -> Option<Appetite<Due>> {
        let window = self.options.window;
        let entry = self.table.entry(slot)?;
        let (rows, bytes) = entry.room_for_due(window);
        let spill = &mut entry.extra;
        spill.hungry = false;
        let due = spill.next_due <= now;
        spill.blocked = due && rows == 0;
        let (queue, after) = (spill.id, spill.due_after);
        (due && rows > 0).then_some(Appetite {
            queue,
            after,
            rows,
            bytes,
        })
    }

    fn appetite(&mut self, slot: Slot) -> Option<Appetite<u64>> {
        let window = self.options.window;
        let entry = self.table.entry(slot)?;
        let (rows, bytes) = entry.room(window);
        let (queue, after) = (entry.extra.id, entry.extra.after?);
        (rows > 0 && bytes > 0).then_some(Appetite {
            queue,
            after,
            rows,
            bytes,
        })
    }

    fn load(&mut self, slot: Slot, rows: Vec<StoredRow>) {
        let Some(entry) = self.table.entry(slot) else {
            return;
        };
        for row in rows {
            let value = Stored {
                message: Arc::new(row.message),
                route: row.route,
                volatile: false,
                at_ms: row.at_ms,
                history: row.history.map(Arc::new),
            };
            let (id, attempts, key) = (row.id, row.attempts, row.key);
            entry.load(Item {
                id,
                attempts,
                key,
                value,
            });
        }
        self.table.touch(slot);
        self.check_hunger(slot);
    }

    /// The queues for which something is due, as far as there is room.
    pub(super) fn due_queues(&mut self, now: i64) -> Vec<Slot> {
        if self.next_due > now {
            return Vec::new();
        }
        let (mut due, mut next) = (Vec::new(), i64::MAX);
        for (slot, entry) in self
            .table
            .iter_mut()
            .filter(|(_, entry)| !entry.extra.blocked)
        {
            if entry.extra.next_due <= now {
                due.push(slot);
            } else {
                next = next.min(entry.extra.next_due);
            }
        }
        self.next_due = next;
        due
    }
}
