//! What everybody who uses the broker shares: the queues that are consumed with what has arrived of each, and the ways to
//! the server. One lock guards the queues; nobody holds it across a wait.
//!
//! What is done with it is in the files beside this one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::RabbitMqOptions;
use super::arrived::Arrived;
use super::connect::Session;
use super::failure::Failure;
use super::link::Link;
use super::publish::Publisher;
use super::registry::Locked;
use super::topology;
use crate::backend::beside::Ledger;
use crate::backend::table::{Table, Wakeups};
use crate::backend::waiting::Clock;
use crate::backend::{BackendError, Release, Token};
use crate::queue::Slot;

/// How long a call waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The broker as its parts see it.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// For leases, which end with the process.
    pub(super) clock: Clock,
    pub(super) options: RabbitMqOptions,
    /// For consumers and declarations. Publishers have a connection of their own, because a server that takes no
    /// messages at the moment takes nothing from their connection, acknowledgements included.
    pub(super) link: Link,
    pub(super) publisher: Publisher,
    pub(super) ledger: Arc<Ledger>,
    /// Held by whoever replays dead letters.
    pub(super) letters: tokio::sync::Mutex<()>,
    /// The connection over which everything of ours was found complete.
    complete: AtomicU64,
    /// Held by whoever declares something.
    pub(super) declaring: tokio::sync::Mutex<()>,
    /// Held by whoever goes through what was kept.
    pub(super) keeping: tokio::sync::Mutex<()>,
    /// What goes on without anybody who waits for it.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) table: Table<Feed, Arrived>,
    pub(super) next_id: u64,
    pub(super) closed: bool,
}

/// What is known of a queue besides the messages that have arrived.
#[derive(Debug)]
pub(super) struct Feed {
    /// The consumer that the messages came from; none has the number 0.
    pub(super) epoch: u64,
    /// Why nothing can arrive at the moment.
    pub(super) trouble: watch::Sender<Option<Failure>>,
    /// How many want its messages.
    pub(super) interest: usize,
    /// Nobody wants them any more.
    pub(super) idle: Arc<Notify>,
    /// There is a task that consumes it.
    pub(super) running: bool,
    /// Deliveries whose settlement has begun and not ended.
    pub(super) settling: usize,
    /// It was declared here, so that it is declared again if somebody else deletes it.
    pub(super) ours: bool,
    /// Tells it from another queue that gets its place later.
    pub(super) number: u64,
}

impl Feed {
    pub(super) fn new(ours: bool) -> Self {
        Self {
            epoch: 0,
            trouble: watch::Sender::new(None),
            interest: 0,
            idle: Arc::default(),
            running: false,
            settling: 0,
            ours,
            number: super::link::next_epoch(),
        }
    }
}

impl Shared {
    pub(super) fn new(
        options: RabbitMqOptions,
        link: Link,
        publisher: Publisher,
        ledger: Ledger,
    ) -> Self {
        Self {
            inner: Mutex::new(Inner {
                table: Table::new(),
                next_id: 1,
                closed: false,
            }),
            clock: Clock::start(),
            options,
            link,
            publisher,
            ledger: Arc::new(ledger),
            letters: tokio::sync::Mutex::default(),
            complete: AtomicU64::new(0),
            declaring: tokio::sync::Mutex::default(),
            keeping: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
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

    /// Frees the lock, then wakes who has to act.
    pub(super) fn leave(mut inner: MutexGuard<'_, Inner>) {
        let wakeups: Wakeups = inner.table.wakeups();
        drop(inner);
        wakeups.wake();
    }

    /// A connection over which all exchanges and queues of ours are there.
    pub(super) async fn ready(&self) -> Result<Arc<Session>, BackendError> {
        drop(self.open()?);
        let session = match self.link.session(PATIENCE).await {
            Ok(session) => session,
            Err(Some(failure)) => return Err(failure.into()),
            Err(None) => return Err(BackendError::Closed),
        };
        self.complete(&session).await?;
        Ok(session)
    }

    /// Makes sure that all exchanges and queues of ours are there.
    pub(super) async fn complete(&self, session: &Session) -> Result<(), Failure> {
        let broken = self.publisher.found_incomplete();
        let known = || self.complete.load(Ordering::Acquire) == session.epoch;
        if known() && !broken {
            return Ok(());
        }
        let _one = self.declaring.lock().await;
        if broken || !known() {
            self.complete_topology(session, broken).await?;
            self.complete.store(session.epoch, Ordering::Release);
        }
        Ok(())
    }

    async fn complete_topology(&self, session: &Session, anyway: bool) -> Result<(), Failure> {
        if !anyway && topology::is_complete(session).await? {
            return Ok(());
        }
        let locked = Locked::take(session, self.options.quorum).await?;
        topology::declare(locked.declaring(), locked.registry.groups.len()).await?;
        locked.release().await
    }
}

impl Inner {
    /// The queue in a place, if it still is the one that is meant.
    pub(super) fn feed(
        &mut self,
        slot: Slot,
        number: u64,
    ) -> Option<&mut crate::backend::table::Entry<Feed, Arrived>> {
        let entry = self.table.entry(slot)?;
        (entry.extra.number == number).then_some(entry)
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
            Self::leave(inner);
        }
    }
}
