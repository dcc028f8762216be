//! What everybody who uses the postgres broker shares: the queues as far as they are known here, what is in flight, what
//! is decided, and what waits for the tasks that talk to the database. One lock guards it; nobody holds it across I/O.
//!
//! It doesn't talk to the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claimer::Errands;
use super::group::Group;
use super::overlay::Overlay;
use super::reader::Reads;
use super::remote::Remote;
use crate::backend::table::Table;
use crate::backend::{BackendError, PostgresOptions, QueueName, QueueSpec, Release, Token};
use crate::queue::Slot;
use crate::store::postgres::{Failure, First, Hold, News, Place, Session, Topology};

/// Tasks that claim; each has its queues.
pub(super) const CLAIMERS: usize = 2;

/// A queue that somebody has received from within this time is looked after.
const LATELY: Duration = Duration::from_secs(60);

/// The broker without its tasks.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    pub(super) place: Arc<Place>,
    pub(super) options: PostgresOptions,
    /// This host among those that share the database.
    pub(super) host: Arc<str>,
    /// For what is rare: queues that come and go, lists, questions about the server.
    pub(super) session: AsyncMutex<Session>,
    /// Wakes a writer.
    pub(super) writing: Notify,
    /// Wakes the writer of what has to do with state.
    pub(super) ordered: Notify,
    pub(super) claiming: [Notify; CLAIMERS],
    pub(super) reading: Notify,
    pub(super) keeping: Notify,
    /// Wakes publishers that wait for room.
    pub(super) room: Notify,
    /// Ends everything that would otherwise go on for ever.
    pub(super) ended: CancellationToken,
    /// What the server refused last, and when, until it has written something.
    pub(super) refused: Mutex<Option<(Instant, Failure)>>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) table: Table<Remote>,
    slots: HashMap<i64, Slot>,
    /// The version of the queues in `table`.
    pub(super) topology: i64,
    /// Calls that have to do with state, which are written in their order.
    pub(super) ordered: Group,
    /// All other calls.
    pub(super) free: Group,
    pub(super) errands: [Errands; CLAIMERS],
    pub(super) reads: Reads,
    pub(super) states: Overlay,
    /// What the other hosts are still to be told: the queues changed, and the least ready numbers by queue.
    pub(super) changed: bool,
    /// Something may have been said that this host did not hear.
    pub(super) missed: bool,
    ready: HashMap<i64, i64>,
    /// When something that this host delayed is due.
    pub(super) due: Option<Instant>,
    /// Messages without a queue, as far as they are counted.
    pub(super) kept: u64,
    /// Dead letters that were written since the keeper looked.
    pub(super) buried: usize,
    /// The ephemeral queues of this host.
    pub(super) mine: HashMap<QueueName, QueueSpec>,
    fence: u64,
    pub(super) closed: bool,
}

impl Shared {
    pub(super) fn new(place: Arc<Place>, options: PostgresOptions, topology: Topology) -> Self {
        let (seed, fence) = Uuid::new_v4().as_u64_pair();
        let inner = Inner {
            table: Table::new(),
            slots: HashMap::new(),
            topology: 0,
            ordered: Group::default(),
            free: Group::default(),
            errands: Default::default(),
            reads: Reads::default(),
            states: Overlay::new(seed),
            changed: false,
            missed: false,
            ready: HashMap::new(),
            due: None,
            kept: 0,
            buried: 0,
            mine: HashMap::new(),
            fence,
            closed: false,
        };
        let shared = Self {
            inner: Mutex::new(inner),
            session: AsyncMutex::new(Session::new(place.clone())),
            place,
            options,
            host: Uuid::now_v7().simple().to_string().into(),
            writing: Notify::new(),
            ordered: Notify::new(),
            claiming: Default::default(),
            reading: Notify::new(),
            keeping: Notify::new(),
            room: Notify::new(),
            ended: CancellationToken::new(),
            refused: Mutex::default(),
        };
        shared.lock().install(topology);
        shared
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
        self.ended.cancel();
    }

    /// Frees the lock, then wakes the receivers of what has arrived.
    pub(super) fn leave(&self, mut inner: MutexGuard<'_, Inner>) {
        let wakeups = inner.table.wakeups();
        drop(inner);
        wakeups.wake();
    }

    /// Learns of the queues as they are.
    pub(super) fn install(&self, topology: Topology) {
        let mut inner = self.lock();
        inner.install(topology);
        self.leave(inner);
    }

    /// Learns what is ready, and when something is due.
    pub(super) fn found(&self, ready: &[First], due: Option<Duration>) {
        let mut inner = self.lock();
        inner.arrived(ready);
        if let Some(due) = due {
            inner.expect(due);
        }
        self.leave(inner);
    }

    /// Has a claimer give messages back, each after so many milliseconds. Must not block.
    pub(super) fn give_back(&self, slot: Slot, holds: impl IntoIterator<Item = (Hold, i64)>) {
        let lane = lane_of(slot);
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        if let Some(errands) = inner.errands.get_mut(lane) {
            errands.releases.extend(holds);
        }
        drop(inner);
        self.wake_claimer(lane);
    }

    pub(super) fn wake_claimer(&self, lane: usize) {
        if let Some(claiming) = self.claiming.get(lane) {
            claiming.notify_one();
        }
    }
}

impl Inner {
    fn install(&mut self, topology: Topology) {
        if topology.version <= self.topology {
            return;
        }
        self.topology = topology.version;
        let known: HashMap<i64, ()> = topology.queues.iter().map(|row| (row.id, ())).collect();
        let gone: Vec<(i64, Slot)> = self
            .slots
            .extract_if(|id, _| !known.contains_key(id))
            .collect();
        for (_, slot) in gone {
            let name = self.table.entry(slot).map(|entry| entry.spec.name.clone());
            if let Some(name) = name {
                self.table.hide(&name);
                self.table.remove(slot);
            }
        }
        for row in topology.queues {
            match self.slots.get(&row.id) {
                Some(slot) => {
                    let entry = self.table.entry(*slot);
                    if entry.is_some_and(|entry| entry.spec != row.spec) {
                        self.table.redeclare(*slot, row.spec);
                    }
                }
                None => {
                    let slot = self.table.add(row.spec, Remote::new(row.id));
                    self.slots.insert(row.id, slot);
                }
            }
        }
    }

    pub(super) fn arrived(&mut self, ready: &[First]) {
        for First { queue, id } in ready {
            let Some(slot) = self.slots.get(queue).copied() else {
                continue;
            };
            if let Some(entry) = self.table.entry(slot) {
                entry.extra.arrived(*id);
                self.table.touch(slot);
            }
        }
    }

    /// A message is about to be given back, after so many milliseconds.
    pub(super) fn returned(&mut self, hold: &Hold, delay_ms: i64, now: Instant) {
        let Some(slot) = self.slot(hold.queue) else {
            return;
        };
        let Some(entry) = self.table.entry(slot) else {
            return;
        };
        if delay_ms == 0 {
            entry.extra.arrived(hold.id);
        } else {
            let delay = Duration::from_millis(delay_ms.unsigned_abs());
            entry.extra.put_off(hold.id.cast_unsigned(), now + delay);
        }
    }

    /// The queues that receivers of this host have asked for lately.
    pub(super) fn wanted(&mut self) -> Vec<i64> {
        let now = Instant::now();
        let lately = |wanted: Instant| now.duration_since(wanted) < LATELY;
        self.table
            .iter_mut()
            .filter(|(_, entry)| entry.extra.wanted.is_some_and(lately))
            .map(|(_, entry)| entry.extra.id)
            .collect()
    }

    /// How many receivers of this host wait, by the number of the queue.
    pub(super) fn receivers(&mut self) -> HashMap<i64, usize> {
        self.table
            .iter_mut()
            .map(|(_, entry)| (entry.extra.id, entry.receivers()))
            .filter(|(_, receivers)| *receivers > 0)
            .collect()
    }

    /// The ephemeral queues of this host that are gone although nobody here deleted them.
    pub(super) fn lost(&self) -> Vec<QueueSpec> {
        let lost = self.mine.values();
        lost.filter(|spec| self.table.slot(&spec.name).is_none())
            .cloned()
            .collect()
    }

    /// Notes what the other hosts should know.
    pub(super) fn tell(&mut self, ready: &[First]) {
        for First { queue, id } in ready {
            let known = self.ready.entry(*queue).or_insert(*id);
            *known = (*known).min(*id);
        }
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self) -> bool {
        self.changed || !self.ready.is_empty()
    }

    /// What there is to tell.
    pub(super) fn news(&mut self) -> News {
        News {
            topology: std::mem::take(&mut self.changed),
            ready: self
                .ready
                .drain()
                .map(|(queue, id)| First { queue, id })
                .collect(),
        }
    }

    /// Notes that something becomes due after this time.
    pub(super) fn expect(&mut self, after: Duration) {
        let due = Instant::now() + after.min(Duration::from_secs(24 * 60 * 60));
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// A fence that no claim has had, for a queue of this slot.
    pub(super) fn next_fence(&mut self, slot: Slot) -> u64 {
        const SLOT: u64 = 1 << 24;
        self.fence = self.fence.wrapping_add(SLOT);
        (self.fence & !(SLOT - 1)) | u64::from(slot)
    }

    /// The slot of a queue.
    pub(super) fn slot(&self, queue: i64) -> Option<Slot> {
        self.slots.get(&queue).copied()
    }
}

impl Release for Shared {
    fn release(&self, token: Token) {
        let mut inner = self.lock();
        let Ok((slot, entry)) = inner.table.of(token) else {
            return;
        };
        let queue = entry.extra.id;
        if entry.extra.take(token.id, token.fence).is_some() {
            drop(inner);
            self.give_back(slot, [(hold(queue, token), 0)]);
        }
    }
}

/// The same, as deliveries hold it.
pub(super) fn releaser(shared: &Arc<Shared>) -> Arc<dyn Release> {
    shared.clone()
}

/// Which claimer has a queue.
pub(super) fn lane_of(slot: Slot) -> usize {
    slot as usize % CLAIMERS
}

/// A token as the database knows it.
pub(super) fn hold(queue: i64, token: Token) -> Hold {
    Hold {
        queue,
        id: token.id.cast_signed(),
        fence: token.fence.cast_signed(),
    }
}

/// Says once that a task cannot work, and once that it can again. A connection that is lost once is no trouble.
#[derive(Debug)]
pub(super) struct Trouble {
    task: &'static str,
    failures: u32,
    said: Option<Failure>,
}

impl Trouble {
    pub(super) fn new(task: &'static str) -> Self {
        Self {
            task,
            failures: 0,
            said: None,
        }
    }

    pub(super) fn begins(&mut self, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        let once = self.failures == 1 && matches!(failure, Failure::Lost(_) | Failure::Again(_));
        if !once && self.said.as_ref() != Some(failure) {
            tracing::error!(error = %failure, "the broker cannot {}; it keeps trying", self.task);
            self.said = Some(failure.clone());
        }
    }

    pub(super) fn ends(&mut self) {
        self.failures = 0;
        if self.said.take().is_some() {
            tracing::info!("the broker can {} again", self.task);
        }
    }
}

/// How long to wait before the next try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(Duration::from_millis(20))
    }

    pub(super) async fn wait(&mut self) {
        // Many hosts lose the server at the same moment.
        tokio::time::sleep(self.0.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}
