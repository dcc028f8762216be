//! What everybody who uses the embedded broker shares: the queues as far as they are in memory, what is decided, and
//! what waits for the writer. One lock guards it; nobody holds it across I/O.
//!
//! It doesn't touch the database.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::admin::Admin;
use super::group::Group;
use super::spill::Spill;
use super::state::States;
use crate::backend::table::{Table, Wakeups};
use crate::backend::waiting::Clock;
use crate::backend::{BackendError, EmbeddedOptions, Release, Token};
use crate::clock;
use crate::queue::Slot;
use crate::store::sqlite::{Failure, Place, Reader};

/// The broker without its writer.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    pub(super) reader: AsyncMutex<Option<Reader>>,
    /// Who has it may remove dead letters.
    pub(super) letters: Arc<AsyncMutex<()>>,
    /// Wakes the writer.
    pub(super) work: Notify,
    /// Wakes publishers that wait for room.
    pub(super) room: Notify,
    /// For leases, which end with the process.
    pub(super) clock: Clock,
    pub(super) folder: PathBuf,
    pub(super) file: Place,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) table: Table<Spill>,
    pub(super) states: States,
    pub(super) group: Group,
    pub(super) admin: Vec<Admin>,
    pub(super) options: EmbeddedOptions,
    pub(super) next_id: u64,
    /// The greatest number of a dead letter so far.
    pub(super) last_letter: u64,
    /// Messages without a queue, those included that are about to be written.
    pub(super) kept: u64,
    /// No message in the database is due before this moment (of the wall clock).
    pub(super) next_due: i64,
    /// Queues that can take more from the database.
    pub(super) hungry: Vec<Slot>,
    /// Why nothing can be written, while that is so.
    pub(super) trouble: Option<Failure>,
    /// Why nothing will be written any more: a flush failed.
    pub(super) broken: Option<Failure>,
    pub(super) closed: bool,
}

impl Shared {
    pub(super) fn new(inner: Inner, reader: Reader, folder: PathBuf) -> Self {
        Self {
            inner: Mutex::new(inner),
            reader: AsyncMutex::new(Some(reader)),
            letters: Arc::default(),
            work: Notify::new(),
            room: Notify::new(),
            clock: Clock::start(),
            file: Place::of(&folder),
            folder,
        }
    }

    /// No code that runs under the lock panics halfway through a change.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> Result<MutexGuard<'_, Inner>, BackendError> {
        let inner = self.lock();
        if inner.closed {
            Err(BackendError::Closed)
        } else {
            Ok(inner)
        }
    }

    /// Refuses everything from now on and ends all waiting.
    pub(super) fn shut(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.table.wake_all();
        drop(inner);
        self.room.notify_waiters();
        self.work.notify_one();
    }

    /// Frees the lock, then wakes who has to act.
    pub(super) fn leave(&self, mut inner: MutexGuard<'_, Inner>) {
        let wakeups: Wakeups = inner.table.wakeups();
        let work = inner.has_work();
        drop(inner);
        wakeups.wake();
        if work {
            self.work.notify_one();
        }
    }
}

impl Inner {
    /// Whether the writer has something to do, apart from what becomes due.
    pub(super) fn has_work(&self) -> bool {
        !(self.group.is_empty() && self.admin.is_empty() && self.hungry.is_empty())
    }

    /// Notes that a queue can take more from the database, if it can and there is more.
    pub(super) fn check_hunger(&mut self, slot: Slot) {
        let window = self.options.window;
        if let Some(entry) = self.table.entry(slot)
            && entry.becomes_hungry(window)
        {
            self.hungry.push(slot);
        }
    }

    /// Notes that something in the database becomes due.
    pub(super) fn expect(&mut self, due: i64) {
        self.next_due = self.next_due.min(due);
    }

    /// How long until something in the database is due.
    pub(super) fn until_due(&self) -> Option<u64> {
        let far = self.next_due == i64::MAX;
        (!far).then(|| {
            self.next_due
                .saturating_sub(clock::steady_ms())
                .max(1)
                .unsigned_abs()
        })
    }
}

impl Release for Shared {
    fn release(&self, token: Token) {
        let mut inner = self.lock();
        let Ok((slot, entry)) = inner.table.of(token) else {
            return;
        };
        if entry.fifo.release(token).is_ok() {
            inner.table.touch(slot);
            self.leave(inner);
        }
    }
}

/// The same, as deliveries hold it.
pub(super) fn releaser(shared: &Arc<Shared>) -> Arc<dyn Release> {
    shared.clone()
}
