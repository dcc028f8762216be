//! A queue's share of its host: the asynchronous side of [`crate::share`], with its clock.
//!
//! Where all queues weigh the same, or only one of them has something to do, it looks at two numbers and does nothing else.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::share::{self, Demand, Patience, Turn};

/// The queues of one host. It is cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shares: Mutex<share::Shares>,
    /// Whether weights differ.
    uneven: AtomicBool,
    /// Queues that have something to do.
    busy: AtomicUsize,
}

/// One of them. It leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    id: u64,
    demand: Arc<Demand>,
}

/// A task with messages to handle.
#[derive(Debug)]
struct Task<'a>(&'a Share);

impl Inner {
    fn lock(&self) -> MutexGuard<'_, share::Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut share::Shares) -> T) -> T {
        let mut shares = self.lock();
        let changed = change(&mut shares);
        self.uneven.store(shares.uneven(), Ordering::Relaxed);
        changed
    }
}

impl Shares {
    pub(super) fn join(&self, weight: u32) -> Arc<Share> {
        let demand: Arc<Demand> = Arc::default();
        let id = self.0.change(|all| all.join(weight, demand.clone()));
        Arc::new(Share {
            shares: self.clone(),
            id,
            demand,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.0.change(|all| all.leave(self.id));
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if self.0.demand.tasks.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.shares.0.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Share {
    /// From now on it has this weight.
    pub(super) fn weigh(&self, weight: u32) {
        self.shares.0.change(|all| all.weigh(self.id, weight));
    }

    /// So many messages are in flight.
    pub(super) fn has_in_flight(&self, count: usize) {
        self.demand.in_flight.store(count, Ordering::Relaxed);
    }

    /// How many messages are.
    pub(super) fn in_flight(&self) -> usize {
        self.demand.in_flight.load(Ordering::Relaxed)
    }

    /// How many messages may be in flight of those that could be.
    pub(super) fn most_in_flight(&self, all: usize) -> usize {
        if self.shares.0.uneven.load(Ordering::Relaxed) {
            self.shares.0.lock().most_in_flight(self.id, all)
        } else {
            all
        }
    }

    /// A task that handles messages, whenever it is its turn.
    pub(super) async fn paced<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        let task = Task::begin(&self);
        let mut work = pin!(work);
        let mut patience = Patience::default();
        poll_fn(|cx| {
            if task.0.alone() {
                return work.as_mut().poll(cx);
            }
            let Some(turn) = task.0.turn(&mut patience) else {
                after_the_others(cx);
                return Poll::Pending;
            };
            let began = Instant::now();
            let polled = work.as_mut().poll(cx);
            task.0.ended(&turn, began);
            polled
        })
        .await
    }

    fn alone(&self) -> bool {
        let Inner { uneven, busy, .. } = &*self.shares.0;
        !uneven.load(Ordering::Relaxed) || busy.load(Ordering::Relaxed) < 2
    }

    fn turn(&self, patience: &mut Patience) -> Option<Turn> {
        self.shares.0.lock().turn(self.id, patience)
    }

    fn ended(&self, turn: &Turn, began: Instant) {
        let took = began.elapsed();
        self.shares.0.lock().ended(turn, took);
    }
}

impl<'a> Task<'a> {
    fn begin(share: &'a Share) -> Self {
        if share.demand.tasks.fetch_add(1, Ordering::Relaxed) == 0 {
            let inner = &share.shares.0;
            inner.busy.fetch_add(1, Ordering::Relaxed);
            if inner.uneven.load(Ordering::Relaxed) {
                inner.lock().wakes(share.id);
            }
        }
        Self(share)
    }
}

/// Wakes this task when everything else that can run on its thread has had the opportunity.
fn after_the_others(cx: &mut Context<'_>) {
    let yielding = pin!(tokio::task::yield_now());
    if yielding.poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
}
