//! A broker that was written outside of Sandbar: `files`, everything in one file of JSON lines.
//!
//! It shows what a backend of your own needs, and nothing but public items of `sandbar` is used; docs/own-backend.md
//! walks through it. It is complete (the contract suite runs unchanged, in `tests/own_backend.rs`) and simple: every
//! change is flushed by itself, under one lock, so it is not fast.
//!
//! Reading order: `table` (queues, routing, leases: what the broker knows), `journal` (what survives), and this file,
//! which puts both behind the trait.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sandbar::backend::{
    Backend, BackendError, Capabilities, DeclaredQueue, Delivery, Health, KeyOrder, Outgoing,
    PollingSource, PublishError, Queue, QueueName, QueueSpec, Receipt, Release, SettleError,
    Settlement, Source, Token,
};
use sandbar::store::{DeadLetter, Store, StoreError, Versioned};
use sandbar::topic::TopicName;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

mod change;
mod journal;
mod settle;
mod table;

use change::Change;
use journal::Journal;
use table::Table;

/// The largest content in bytes.
const MAX_CONTENT: usize = 16 << 20;
/// A longer wait is as good as this one, and moments don't overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A broker in a folder. One process at a time owns it.
#[derive(Debug, Clone)]
pub struct FilesBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Wakes everybody who waits for a message, whatever changed; each looks for himself.
    changed: Notify,
    folder: PathBuf,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    /// `None`: closed.
    journal: Option<Journal>,
}

impl FilesBackend {
    /// Opens or creates the broker of a folder.
    ///
    /// # Errors
    /// When the folder cannot be used, another process has it, or the journal cannot be read.
    pub fn open(folder: &Path) -> Result<Self, BackendError> {
        std::fs::create_dir_all(folder).map_err(unavailable)?;
        let (mut journal, changes) = Journal::open(folder)?;
        let mut table = Table::new();
        for change in changes {
            table.apply(change)?;
        }
        journal.rewrite(table.snapshot())?;
        let journal = Some(journal);
        Ok(Self {
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner { table, journal }),
                changed: Notify::new(),
                folder: folder.to_owned(),
            }),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, unless the broker was closed.
    fn open(&self) -> Result<MutexGuard<'_, Inner>, BackendError> {
        let inner = self.lock();
        match inner.journal {
            Some(_) => Ok(inner),
            None => Err(BackendError::Closed),
        }
    }
}

impl Inner {
    /// Makes changes durable, and only then visible. After an error nothing has happened.
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), BackendError> {
        let journal = self.journal.as_mut().ok_or(BackendError::Closed)?;
        journal.append(changes.iter().filter_map(Change::durable))?;
        for change in changes {
            self.table.apply(change)?;
        }
        Ok(())
    }
}

/// A delivery that was dropped is ready again.
impl Release for Shared {
    fn release(&self, token: Token) {
        self.lock().table.release(token);
        self.changed.notify_waiters();
    }
}

#[async_trait]
impl Backend for FilesBackend {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transactional: true,
            durable: true,
            delay: true,
            wildcards: true,
            key_order: KeyOrder::Everywhere,
            counts_queues: true,
            max_content: MAX_CONTENT,
            max_batch: 64,
        }
    }

    async fn health(&self) -> Result<Health, BackendError> {
        drop(self.shared.open()?);
        let folder = self.shared.folder.display();
        Ok(Health {
            detail: format!("JSON lines in {folder}, flushed to the disk (fsync) one by one"),
        })
    }

    async fn declare_topic(&self, _: &TopicName) -> Result<(), BackendError> {
        drop(self.shared.open()?);
        Ok(())
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<DeclaredQueue, BackendError> {
        let mut inner = self.shared.open()?;
        let declared = DeclaredQueue {
            queue: Queue {
                name: spec.name.clone(),
            },
            dead_letter: spec.dead_letter.clone().map(|name| Queue { name }),
        };
        let changes = inner.table.declare(spec);
        inner.commit(changes)?;
        self.shared.changed.notify_waiters();
        Ok(declared)
    }

    async fn get_queue(&self, name: &QueueName) -> Result<Queue, BackendError> {
        self.shared.open()?.table.queue(name)?;
        Ok(Queue { name: name.clone() })
    }

    async fn delete_queue(&self, name: &QueueName) -> Result<(), BackendError> {
        let mut inner = self.shared.open()?;
        inner.commit(vec![Change::QueueGone(name.to_string())])?;
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<(), BackendError> {
        let mut inner = self.shared.open()?;
        let changes = inner.table.forget(topic);
        inner.commit(changes)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let mut inner = self.shared.lock();
        if inner.journal.is_none() {
            return batch.iter().map(|_| Err(PublishError::Closed)).collect();
        }
        let mut changes = Vec::new();
        let mut results: Vec<_> = batch
            .into_iter()
            .map(|outgoing| inner.table.publish(outgoing, &mut changes))
            .collect();
        if let Err(error) = inner.commit(changes) {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(PublishError::Unavailable(error.to_string()));
            }
        }
        self.shared.changed.notify_waiters();
        results
    }

    async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BackendError> {
        let until = Instant::now() + wait.min(LONGEST);
        let release: Arc<dyn Release> = self.shared.clone();
        loop {
            // Made before looking, so that no change between looking and waiting is missed.
            let changed = self.shared.changed.notified();
            let next = {
                let mut inner = self.shared.open()?;
                let queue = inner.table.queue_mut(&queue.name)?;
                let deliveries = queue.take(max, &release);
                if !deliveries.is_empty() || max == 0 {
                    return Ok(deliveries);
                }
                queue.next_due()
            };
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
            let next = next.map_or(until, |next| next.min(until));
            // Woken or not, the next look decides.
            drop(timeout_at(next, changed).await);
        }
    }

    async fn subscribe(self: Arc<Self>, queue: &Queue) -> Result<Box<dyn Source>, BackendError> {
        let queue = self.get_queue(&queue.name).await?;
        Ok(Box::new(PollingSource::new(self, queue)))
    }

    /// Everything is decided and written before this returns, so the future is ready.
    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Vec<Result<(), SettleError>>> {
        let mut inner = self.shared.lock();
        let results: Vec<_> = batch
            .into_iter()
            .map(|settlement| inner.settle(settlement))
            .collect();
        drop(inner);
        self.shared.changed.notify_waiters();
        std::future::ready(results).boxed()
    }

    async fn extend(&self, tokens: &[Token], lease: Duration) -> Vec<Result<(), SettleError>> {
        let mut inner = self.shared.lock();
        let closed = inner.journal.is_none();
        let extend = |token: &Token| match closed {
            true => Err(SettleError::Closed),
            false => inner.table.extend(*token, lease),
        };
        tokens.iter().map(extend).collect()
    }

    async fn close(&self) {
        self.shared.lock().journal = None;
        self.shared.changed.notify_waiters();
    }
}

#[async_trait]
impl Store for FilesBackend {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        Ok(self.shared.lock().table.value(plugin, key))
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let inner = self.shared.lock();
        Ok(inner.table.keys(plugin, prefix, after, limit))
    }

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        Ok(Some(self.shared.lock().table.size(plugin)))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let inner = self.shared.lock();
        let letters = inner.table.dead.iter().rev().take(limit);
        Ok(letters.cloned().map(DeadLetter::from).collect())
    }
}

fn unavailable(error: std::io::Error) -> BackendError {
    BackendError::Unavailable(error.to_string())
}
