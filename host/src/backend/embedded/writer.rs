//! The one task that writes: it takes whatever waits into one transaction, again and again.
//!
//! It never waits for company: one message alone is written at once. While a transaction is being flushed the next one is
//! written, and those after it gather. It survives every failure of the disk but that of a flush, after which nobody can
//! say what is on it. What follows from a transaction is decided in `outcome`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::admin::{Admin, Task};
use super::group::Group;
use super::shared::Shared;
use crate::backend::BackendError;
use crate::backend::retention::{CHUNK, Pruner};
use crate::clock;
use crate::kill_point::kill_point;
use crate::queue::Slot;
use crate::store::sqlite::{Confirmation, Database, Failure, Flusher, Room};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);
/// What is due is looked for this often at least: timers stand still while the machine sleeps.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The owner of the connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    database: Database,
    flusher: Flusher,
    backoff: Duration,
    forget_at: Instant,
    pruner: Pruner,
}

/// What the writer does next.
struct Turn {
    group: Group,
    tasks: Vec<(
        Task,
        tokio::sync::oneshot::Sender<Result<u64, BackendError>>,
    )>,
    feed: Vec<Slot>,
    closed: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, database: Database, flusher: Flusher) -> Self {
        let pruner = Pruner::new(shared.lock().options.letters);
        Self {
            shared,
            database,
            flusher,
            backoff: FIRST_BACKOFF,
            forget_at: Instant::now() + FORGET_EVERY,
            pruner,
        }
    }

    /// Works until the broker is closed and everything that was accepted is written.
    pub(super) async fn run(mut self) {
        loop {
            let room = self.flusher.room().await;
            let turn = self.turn();
            let idle = turn.group.is_empty() && turn.tasks.is_empty() && turn.feed.is_empty();
            if idle && turn.closed {
                break;
            }
            if idle && !self.pruner.due() {
                self.wait().await;
            }
            if self.pruner.due() {
                let pruned = self.prune().await;
                self.report(&pruned).await;
            }
            if idle {
                continue;
            }
            if !self.work(turn, room).await && !self.shared.lock().closed {
                sleep(self.backoff).await;
                self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
            }
        }
        if let Err(error) = self.end().await {
            tracing::warn!(%error, "the database was not closed cleanly; nothing that was confirmed is lost");
        }
    }

    /// Takes everything that waits.
    fn turn(&self) -> Turn {
        let mut inner = self.shared.lock();
        let group = std::mem::take(&mut inner.group);
        let orders = std::mem::take(&mut inner.admin);
        let tasks = orders
            .into_iter()
            .map(|Admin { order, caller }| (inner.begin(order), caller))
            .collect();
        let mut feed = std::mem::take(&mut inner.hungry);
        let closed = inner.closed;
        if closed {
            feed.clear();
        } else {
            feed.extend(inner.due_queues(clock::steady_ms()));
        }
        drop(inner);
        self.shared.room.notify_waiters();
        Turn {
            group,
            tasks,
            feed,
            closed,
        }
    }

    /// Removes some dead letters that were kept long enough.
    async fn prune(&mut self) -> Result<(), Failure> {
        if let Some((before_ms, most)) = self.pruner.begin() {
            let pruned = self.database.prune_letters(before_ms, most, CHUNK);
            let (old, too_many) = pruned.await?;
            self.pruner.ended(old, too_many);
        }
        Ok(())
    }

    async fn wait(&mut self) {
        let due = self.shared.lock().until_due().map(Duration::from_millis);
        let due = Instant::now() + due.unwrap_or(FORGET_EVERY).min(LOOK_EVERY);
        let due = due.min(self.forget_at).min(self.pruner.at());
        drop(tokio::time::timeout_at(due, self.shared.work.notified()).await);
        if Instant::now() >= self.forget_at {
            self.forget_at = Instant::now() + FORGET_EVERY;
            let forgotten = self.shared.forget_kept(&mut self.database).await;
            self.report(&forgotten).await;
        }
    }

    /// Does everything of a turn; `false` if something failed.
    async fn work(&mut self, turn: Turn, room: Option<Room>) -> bool {
        let broken = self.shared.lock().broken.clone();
        let (None, Some(room)) = (broken.clone(), room) else {
            let reason =
                broken.unwrap_or_else(|| Failure("nothing is flushed any more".to_owned()));
            self.refuse(turn, &reason);
            return false;
        };
        let mut good = true;
        let mut group = turn.group;
        let mut confirmations: Vec<Confirmation> = Vec::new();
        let mut leads = false;
        if !group.is_empty() {
            let batch = group.batch();
            self.pruner.written(batch.dead.len());
            // What ends with the process needs no transaction.
            let volatile = batch.is_empty();
            let written = match volatile {
                true => Ok(()),
                false => {
                    kill_point("before-commit");
                    let applied = self.database.apply(&batch).await;
                    kill_point("committed");
                    applied
                }
            };
            good &= self.report(&written).await;
            match written {
                Ok(()) if volatile => self.shared.flushed(self.shared.committed(group)),
                Ok(()) => {
                    let (shared, committed) = (self.shared.clone(), self.shared.committed(group));
                    leads = committed.leads();
                    confirmations.push(Box::new(move |flushed| match flushed {
                        Ok(()) => {
                            kill_point("flushed");
                            shared.flushed(committed);
                            kill_point("confirmed");
                        }
                        Err(reason) => shared.not_flushed(committed, reason),
                    }));
                }
                Err(reason) => self.shared.failed(group, &reason),
            }
        }
        for (task, caller) in turn.tasks {
            let done = self.shared.execute(task, &mut self.database).await;
            good &= self.report(&done).await;
            confirmations.push(Box::new(move |flushed| {
                let done = flushed.clone().and(done);
                // Who no longer listens doesn't need to know.
                drop(caller.send(done.map_err(|error| BackendError::Unavailable(error.0))));
            }));
        }
        room.hand_over(confirmations, leads);
        self.database.make_room().await;
        for slot in turn.feed {
            let fed = self.shared.feed(slot, &mut self.database).await;
            good &= self.report(&fed).await;
            if fed.is_err() {
                self.shared.lock().hungry.push(slot);
            }
        }
        good
    }

    /// Does nothing of a turn.
    fn refuse(&self, turn: Turn, reason: &Failure) {
        self.shared.failed(turn.group, reason);
        for (_, caller) in turn.tasks {
            drop(caller.send(Err(BackendError::Unavailable(reason.0.clone()))));
        }
    }

    /// Says once what is wrong, and once that it is over; brings the connection back into order.
    async fn report<T>(&mut self, done: &Result<T, Failure>) -> bool {
        match done {
            Ok(_) => {
                let over = {
                    let mut inner = self.shared.lock();
                    let broken = inner.broken.is_some();
                    inner.trouble.take_if(|_| !broken)
                };
                if over.is_some() {
                    tracing::info!(folder = %self.shared.folder.display(), "the broker can write again");
                }
                self.backoff = FIRST_BACKOFF;
                true
            }
            Err(reason) => {
                self.database.recover().await;
                let before = self.shared.lock().trouble.replace(reason.clone());
                if before.as_ref() != Some(reason) {
                    tracing::error!(%reason, "the broker cannot write; it keeps trying");
                }
                false
            }
        }
    }

    /// Deletes the queues that end with the process, and ends.
    async fn end(mut self) -> Result<(), Failure> {
        self.flusher.end().await;
        if let Some(broken) = self.shared.lock().broken.clone() {
            return Err(broken);
        }
        let ephemeral: Vec<i64> = {
            let mut inner = self.shared.lock();
            let queues = inner
                .table
                .iter_mut()
                .filter(|(_, entry)| entry.spec.ephemeral);
            queues.map(|(_, entry)| entry.extra.id).collect()
        };
        for queue in ephemeral {
            self.database.delete_queue(queue).await?;
        }
        self.database.close().await
    }
}
