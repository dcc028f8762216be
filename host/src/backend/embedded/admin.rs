//! Queues and topics that come and go: what the writer does for the callers of `declare_queue` and its like.
//!
//! A queue exists once it is on disk, and can be published to until it is being deleted.

use tokio::sync::oneshot;

use super::shared::{Inner, Shared};
use super::spill::Spill;
use crate::backend::table::Table;
use crate::backend::{BackendError, DeclaredQueue, Queue, QueueName, QueueSpec};
use crate::clock;
use crate::queue::Slot;
use crate::store::sqlite::{Database, Declared, Failure};
use crate::topic::TopicName;

/// Something to do, and who waits for it.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) order: Order,
    /// Gets the number of messages that were removed, where somebody may want to know.
    pub(super) caller: oneshot::Sender<Result<u64, BackendError>>,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Make a queue, or change it.
    Declare(QueueSpec),
    /// Delete a queue.
    Delete(QueueName),
    /// Forget what a topic keeps.
    DeleteTopic(TopicName),
    /// Remove what waits in a queue.
    Purge(QueueName),
    /// See whether the database can be written.
    Probe,
}

/// What the writer decided about an order when it took it.
#[derive(Debug)]
pub(super) enum Task {
    /// With numbers from here on for messages that were kept.
    Declare(QueueSpec, Option<u64>),
    /// The queue is out of all bindings already.
    Delete(Slot, i64),
    DeleteTopic(TopicName),
    Purge(Slot),
    Probe,
    Nothing,
}

impl Inner {
    /// Begins an order. What was published before is in the group that the writer took at the same moment.
    pub(super) fn begin(&mut self, order: Order) -> Task {
        match order {
            Order::Declare(spec) => {
                let first = (self.kept > 0).then_some(self.next_id);
                self.next_id += self.kept;
                Task::Declare(spec, first)
            }
            Order::Delete(name) => match self.table.hide(&name) {
                Some((slot, entry)) => Task::Delete(slot, entry.extra.id),
                None => Task::Nothing,
            },
            Order::DeleteTopic(topic) => Task::DeleteTopic(topic),
            Order::Purge(name) => self.table.slot(&name).map_or(Task::Nothing, Task::Purge),
            Order::Probe => Task::Probe,
        }
    }

    /// Puts into a queue what was published while it was being declared, when nobody knew of its bindings yet.
    fn adopt(&mut self, slot: Slot) {
        let Some(entry) = self.table.entry(slot) else {
            return;
        };
        let topics = &entry.spec.topics;
        let wanted = |topic: &TopicName| topics.iter().any(|pattern| pattern.matches(topic));
        let adopted = self.group.adopt((slot, entry.extra.id), wanted);
        self.kept = self
            .kept
            .saturating_sub(u64::try_from(adopted).unwrap_or(u64::MAX));
    }
}

impl Shared {
    /// Has the writer do something, and waits for it; how many messages it removed.
    pub(super) async fn order(&self, order: Order) -> Result<u64, BackendError> {
        let (caller, done) = oneshot::channel();
        self.submit(Admin { order, caller })?;
        done.await.unwrap_or(Err(BackendError::Closed))
    }

    fn submit(&self, admin: Admin) -> Result<(), BackendError> {
        let mut inner = self.open()?;
        inner.admin.push(admin);
        self.leave(inner);
        Ok(())
    }

    /// Does what was begun.
    pub(super) async fn execute(
        &self,
        task: Task,
        database: &mut Database,
    ) -> Result<u64, Failure> {
        let done = match task {
            Task::Declare(spec, first) => self.declare(spec, first, database).await,
            Task::Purge(slot) => return self.purge(slot, database).await,
            Task::Probe => database.probe().await,
            Task::Delete(slot, id) => {
                let deleted = database.delete_queue(id).await;
                let mut inner = self.lock();
                match &deleted {
                    Ok(()) => inner.table.remove(slot),
                    Err(_) => inner.table.unhide(slot),
                }
                self.leave(inner);
                deleted
            }
            Task::DeleteTopic(topic) => {
                database.delete_topic(&topic).await?;
                self.recount(database).await
            }
            Task::Nothing => Ok(()),
        };
        done.map(|()| 0)
    }

    async fn declare(
        &self,
        spec: QueueSpec,
        first: Option<u64>,
        database: &mut Database,
    ) -> Result<(), Failure> {
        let dead_letter = {
            let inner = self.lock();
            let missing =
                |name: &&QueueName| inner.table.slot(name).is_none() && **name != spec.name;
            spec.dead_letter
                .as_ref()
                .filter(missing)
                .map(|name| QueueSpec::new(name.clone(), Vec::new()))
        };
        let now = clock::now_ms();
        let declared = database
            .declare(&spec, dead_letter.as_ref(), first, now)
            .await?;
        let dead_letter = dead_letter.zip(declared.dead_letter);
        self.add(spec, declared, dead_letter, first);
        if declared.moved > 0 {
            self.recount(database).await
        } else {
            Ok(())
        }
    }

    /// Makes known what was declared.
    fn add(
        &self,
        spec: QueueSpec,
        declared: Declared,
        dead_letter: Option<(QueueSpec, i64)>,
        first: Option<u64>,
    ) {
        let mut inner = self.lock();
        if let Some((spec, id)) = dead_letter {
            inner.table.add(spec, Spill::empty(id));
        }
        let slot = match inner.table.slot(&spec.name) {
            Some(slot) => {
                inner.table.redeclare(slot, spec);
                slot
            }
            None => inner.table.add(spec, Spill::empty(declared.id)),
        };
        if let (true, Some(first), Some(entry)) =
            (declared.moved > 0, first, inner.table.entry(slot))
        {
            // Everything of this queue in memory has lesser numbers.
            entry.extra.after.get_or_insert(first.saturating_sub(1));
            entry.extra.next_due = 0;
            inner.expect(0);
            inner.check_hunger(slot);
        }
        inner.adopt(slot);
        self.leave(inner);
    }

    /// Counts what is kept without a queue. What was published since the writer took its group isn't on disk yet.
    async fn recount(&self, database: &mut Database) -> Result<(), Failure> {
        let (kept, _) = database.counts().await?;
        let mut inner = self.lock();
        let waiting = inner
            .group
            .arrivals
            .iter()
            .filter(|arrival| arrival.queue.is_none())
            .count();
        inner.kept = kept + u64::try_from(waiting).unwrap_or_default();
        Ok(())
    }

    /// Forgets what was kept for too long.
    pub(super) async fn forget_kept(&self, database: &mut Database) -> Result<(), Failure> {
        let age = crate::backend::table::millis(self.lock().options.kept_for);
        let gone = database
            .forget_kept(clock::earliest_ms().saturating_sub(age))
            .await?;
        if gone > 0 {
            tracing::warn!(
                gone,
                "messages that no queue was bound to were kept for too long and are forgotten"
            );
            self.recount(database).await?;
        }
        Ok(())
    }
}

/// What a caller of `declare_queue` gets.
pub(super) fn declared(table: &Table<Spill>, spec: &QueueSpec) -> DeclaredQueue {
    let queue = |name: &QueueName| Queue { name: name.clone() };
    DeclaredQueue {
        queue: queue(&spec.name),
        dead_letter: spec
            .dead_letter
            .as_ref()
            .filter(|name| table.slot(name).is_some())
            .map(queue),
    }
}
