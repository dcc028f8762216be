//! Queues and topics that come and go, and what this host knows of those of other hosts.
//!
//! A change waits for the transactions of all hosts that write at the moment; what they write next follows it.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::keeper::commit;
use super::shared::Shared;
use crate::backend::{BackendError, DeclaredQueue, Queue, QueueName, QueueSpec};
use crate::store::postgres::{Failure, Kind};
use crate::topic::TopicName;

/// How often other transactions may be in the way.
const COLLISIONS: u32 = 5;
/// How long a server that refused to write is taken for one that does, unless it has written meanwhile.
const REFUSES: Duration = Duration::from_secs(10);

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid(text) => Self::Invalid(text),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl Shared {
    /// Learns of the queues as they are.
    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        let known = self.lock().topology;
        let mut session = self.session.lock().await;
        let mut tx = session.begin(Kind::Read).await?;
        if tx.topology_version().await? != known {
            let topology = tx.topology_now().await?;
            self.install(topology);
        }
        tx.end().await;
        Ok(())
    }

    /// Makes sure that a queue is known if there is one of that name.
    pub(super) async fn find(&self, name: &QueueName) -> Result<(), BackendError> {
        let (known, mine) = {
            let inner = self.open()?;
            let known = inner.table.slot(name).is_some();
            (known, inner.mine.get(name).cloned())
        };
        match (known, mine) {
            (true, _) => {}
            // This host had been taken for dead.
            (false, Some(spec)) => drop(self.declare(spec).await?),
            // Another host may have just declared it.
            (false, None) => self.refresh().await?,
        }
        drop(self.open()?);
        Ok(())
    }

    /// Makes a queue, or changes it.
    pub(super) async fn declare(&self, spec: QueueSpec) -> Result<DeclaredQueue, Failure> {
        let mut collisions = 0;
        loop {
            match self.try_declare(&spec).await {
                Err(Failure::Again(_)) if collisions < COLLISIONS => collisions += 1,
                Err(failure) => return Err(failure),
                Ok(()) => break,
            }
        }
        if spec.ephemeral {
            self.lock().mine.insert(spec.name.clone(), spec.clone());
        }
        let queue = |name: QueueName| Queue { name };
        Ok(DeclaredQueue {
            queue: queue(spec.name),
            dead_letter: spec.dead_letter.map(queue),
        })
    }

    async fn try_declare(&self, spec: &QueueSpec) -> Result<(), Failure> {
        let mut session = self.session.lock().await;
        let mut tx = session.begin(Kind::Change).await?;
        let mut changed = false;
        if let Some(name) = spec.dead_letter.as_ref().filter(|name| **name != spec.name)
            && tx.queue_id(name).await?.is_none()
        {
            let dead_letter = QueueSpec::new(name.clone(), Vec::new());
            tx.put_queue(&dead_letter, &self.host).await?;
            changed = true;
        }
        let (id, new) = tx.put_queue(spec, &self.host).await?;
        changed |= new;
        let moved = if new {
            tx.take_kept(id, &spec.topics).await?
        } else {
            0
        };
        if changed {
            tx.changed().await?;
        }
        let topology = tx.topology_now().await?;
        commit(tx).await?;
        drop(session);
        self.install(topology);
        let mut inner = self.lock();
        inner.kept = inner.kept.saturating_sub(moved);
        if let (true, Some(slot)) = (moved > 0, inner.slot(id))
            && let Some(entry) = inner.table.entry(slot)
        {
            entry.extra.arrived(0);
            inner.table.touch(slot);
            inner.expect(std::time::Duration::ZERO);
        }
        inner.changed |= changed;
        self.leave(inner);
        self.keeping.notify_one();
        Ok(())
    }

    /// Deletes a queue. Its messages are out of reach at once, and removed by and by.
    pub(super) async fn delete(&self, name: &QueueName) -> Result<(), Failure> {
        self.lock().mine.remove(name);
        let mut session = self.session.lock().await;
        let mut tx = session.begin(Kind::Change).await?;
        let Some(id) = tx.queue_id(name).await? else {
            tx.end().await;
            return Ok(());
        };
        tx.hide_queue(id).await?;
        tx.changed().await?;
        let topology = tx.topology_now().await?;
        commit(tx).await?;
        drop(session);
        self.install(topology);
        self.lock().changed = true;
        self.keeping.notify_one();
        Ok(())
    }

    /// Forgets what a topic keeps.
    pub(super) async fn delete_topic(&self, topic: &TopicName) -> Result<(), Failure> {
        let mut session = self.session.lock().await;
        let mut tx = session.begin(Kind::Write).await?;
        tx.delete_topic(topic).await?;
        commit(tx).await
    }

    /// Something was written, or why it was not.
    pub(super) fn wrote(&self, failure: Option<&Failure>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => *refused = None,
            Some(failure @ Failure::Refused(_)) => {
                *refused = Some((Instant::now(), failure.clone()));
            }
            // Whether it can be reached is asked, and what it can never do is not its fault.
            Some(_) => {}
        }
    }

    /// What it refuses at this time, such as to write on a full disk, although it answers.
    fn refuses(&self) -> Option<Failure> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, failure) = refused.as_ref()?;
        (at.elapsed() < REFUSES).then(|| failure.clone())
    }

    /// One line about the server.
    pub(super) async fn describe(&self) -> Result<String, Failure> {
        if let Some(failure) = self.refuses() {
            return Err(failure);
        }
        let mut session = self.session.lock().await;
        let mut tx = session.begin(Kind::Read).await?;
        let about = tx.describe().await?;
        tx.end().await;
        Ok(about)
    }

    /// Gives back everything in flight and deletes the ephemeral queues of this host.
    pub(super) async fn leave_database(&self) -> Result<(), Failure> {
        let holds: Vec<_> = {
            let mut inner = self.lock();
            let mut holds = Vec::new();
            for (_, entry) in inner.table.iter_mut() {
                let queue = entry.extra.id;
                holds.extend(entry.extra.drain().map(|(id, lease)| {
                    let fence = lease.fence;
                    let token = crate::backend::Token { id, fence };
                    (super::shared::hold(queue, token), 0)
                }));
            }
            holds
        };
        let mut session = self.session.lock().await;
        if !holds.is_empty() {
            let mut tx = session.begin(Kind::Fast).await?;
            tx.release(&holds).await?;
            commit(tx).await?;
        }
        let ephemeral = !self.lock().mine.is_empty();
        let kind = if ephemeral { Kind::Change } else { Kind::Fast };
        let mut tx = session.begin(kind).await?;
        if ephemeral {
            tx.hide_orphans(Some(&self.host)).await?;
            tx.changed().await?;
        }
        tx.gone(&self.host).await?;
        commit(tx).await?;
        session.close().await;
        Ok(())
    }
}
