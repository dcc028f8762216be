//! What this host keeps in its own store beside a network broker: the state of its plugins, dead letters, which messages
//! have changed state, and what such messages publish.
//!
//! Such a broker cannot commit an acknowledgement together with a change in another system. So a message that changes state is
//! committed here first, once, together with everything that it publishes; then it is acknowledged. If the
//! acknowledgement is lost, the message comes again, is found in this book and acknowledged without being handled. What is
//! published because of it is sent to the broker until it is confirmed.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use crate::backend::embedded::Record;
use crate::backend::{
    Backend as _, BackendError, EmbeddedBackend, EmbeddedOptions, OpenError, Outgoing,
    PublishError, QueueName, QueueSpec, SettleError,
};
use crate::clock;
use crate::store::{KeptLetter, Retention, StateEffects, Store, StoreError};

use super::outbox;

/// How long it is remembered that a message has been settled. The server has long processed, or lost, its
/// acknowledgement by then.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// Entries that are remembered at most, besides those since they were counted: many times what any host has in flight.
const MOST: usize = 100_000;
/// Sending may take long, and there is one sender only.
const OUTBOX_LEASE: Duration = Duration::from_secs(60 * 60);
/// Entries that are read, or forgotten, at once.
const PAGE: usize = 1_000;

/// The store of this host.
#[derive(Debug)]
pub(crate) struct Ledger {
    store: Result<Arc<EmbeddedBackend>, String>,
    book: Arc<Mutex<Book>>,
    /// The book among the state of plugins; no plugin can have such a name.
    settled: Arc<str>,
    outbox: QueueName,
}

/// Messages that were settled.
#[derive(Debug, Default)]
struct Book {
    entries: HashMap<Uuid, Entry>,
    /// In the order in which they are forgotten.
    durable: VecDeque<(Instant, Uuid)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Decided, and not yet on the disk.
    Pending,
    Durable,
}

impl Ledger {
    /// Opens the store of a data folder. A folder that another process has open is no error: state and dead letters are
    /// then out of reach, everything else works.
    ///
    /// `kind` is the kind of the broker; each has a book and an outbox of its own.
    pub(crate) async fn open(
        data: &Path,
        kind: &str,
        letters: Option<Retention>,
    ) -> Result<Self, OpenError> {
        let other = |error: BackendError| OpenError::Other {
            path: data.to_owned(),
            reason: error.to_string(),
        };
        let options = EmbeddedOptions {
            letters,
            ..EmbeddedOptions::default()
        };
        let opened = EmbeddedBackend::open(data, options).await;
        let store = match opened {
            Ok(store) => Ok(Arc::new(store)),
            Err(OpenError::Busy { folder, owner }) => Err(format!(
                "state and dead letters are in {}, which process {owner} has open; give this host a --data of its own",
                folder.display()
            )),
            Err(error) => return Err(error),
        };
        let ledger = Self {
            store,
            book: Arc::default(),
            settled: format!("({kind} settled)").into(),
            outbox: format!("({kind}-outbox)").parse().map_err(other)?,
        };
        let read = async {
            let Ok(store) = &ledger.store else {
                return Ok(());
            };
            let spec = QueueSpec {
                lease: OUTBOX_LEASE,
                ..QueueSpec::new(ledger.outbox.clone(), Vec::new())
            };
            store.declare_queue(spec).await?;
            ledger.read_book(store).await
        };
        read.await.map_err(other)?;
        Ok(ledger)
    }

    async fn read_book(&self, store: &EmbeddedBackend) -> Result<(), BackendError> {
        let mut after: Option<String> = None;
        loop {
            let keys = store
                .state_keys(&self.settled, "", after.as_deref(), PAGE)
                .await
                .map_err(|error| BackendError::Unavailable(error.to_string()))?;
            let mut book = self.book();
            for id in keys.iter().filter_map(|key| Uuid::parse_str(key).ok()) {
                book.remember(id);
            }
            match keys.last() {
                Some(last) if keys.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, if it is open here.
    pub(crate) fn store(&self) -> Result<&Arc<EmbeddedBackend>, StoreError> {
        let store = self.store.as_ref();
        store.map_err(|reason| StoreError::Unavailable(reason.clone()))
    }

    /// The queue of what waits for the broker.
    pub(crate) fn outbox(&self) -> &QueueName {
        &self.outbox
    }

    /// A message as it waits in the outbox.
    pub(crate) fn wrap(&self, outgoing: &Outgoing) -> Result<Outgoing, PublishError> {
        outbox::wrap(outgoing, &self.outbox, clock::now_ms())
    }

    /// Whether everything that a message caused is done already. It is asked who it is only if that can be.
    pub(crate) fn has_settled(&self, identity: impl FnOnce() -> Option<Uuid>) -> bool {
        let book = self.book();
        !book.durable.is_empty()
            && identity().is_some_and(|id| book.entries.get(&id) == Some(&Entry::Durable))
    }

    /// Decides at once about the end of a message; the future waits until that is durable. A message without an
    /// identity is not remembered, so that it may be settled twice. What is published goes through the outbox.
    pub(crate) fn commit(
        &self,
        identity: Option<Uuid>,
        state: Option<StateEffects>,
        letter: Option<KeptLetter>,
        publishes: Vec<Outgoing>,
    ) -> Result<BoxFuture<'static, Result<(), SettleError>>, SettleError> {
        let publishes: Result<Vec<Outgoing>, _> =
            publishes.iter().map(|one| self.wrap(one)).collect();
        let record = Record {
            state: state.into_iter().collect(),
            letter,
            publishes: publishes.map_err(SettleError::Refused)?,
        };
        self.write(identity, record)
    }

    /// The same for a message that goes into a queue of the store.
    pub(crate) fn take_over(
        &self,
        identity: Option<Uuid>,
        outgoing: Outgoing,
    ) -> Result<BoxFuture<'static, Result<(), SettleError>>, SettleError> {
        let record = Record {
            publishes: vec![outgoing],
            ..Record::default()
        };
        self.write(identity, record)
    }

    fn write(
        &self,
        identity: Option<Uuid>,
        mut record: Record,
    ) -> Result<BoxFuture<'static, Result<(), SettleError>>, SettleError> {
        let store = match &self.store {
            Ok(store) => store,
            Err(reason) => return Err(SettleError::Unavailable(reason.clone())),
        };
        if let Some(id) = identity {
            match self.book().entries.get(&id) {
                Some(Entry::Durable) => return Ok(std::future::ready(Ok(())).boxed()),
                // Handled twice at the same time; this one comes again when the other is decided.
                Some(Entry::Pending) => return Err(SettleError::Conflict),
                None => {}
            }
        }
        if let Some(id) = identity {
            record.state.push(self.writing(&[id], Some(Bytes::new())));
        }
        let committed = store.record(record)?;
        let Some(id) = identity else {
            return Ok(committed);
        };
        self.book().entries.insert(id, Entry::Pending);
        let book = self.book.clone();
        // It is noted even if nobody waits for it.
        let noted = tokio::spawn(async move {
            let committed = committed.await;
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            match &committed {
                Ok(()) => book.remember(id),
                Err(_) => drop(book.entries.remove(&id)),
            }
            committed
        });
        Ok(async move { noted.await.unwrap_or(Err(SettleError::Closed)) }.boxed())
    }

    /// Forgets what was settled long ago.
    pub(crate) async fn forget(&self) {
        loop {
            let old = self.book().take_old(Instant::now());
            if old.is_empty() {
                return;
            }
            let Ok(store) = &self.store else { return };
            let record = Record {
                state: vec![self.writing(&old, None)],
                letter: None,
                publishes: Vec::new(),
            };
            let forgotten = match store.record(record) {
                Ok(forgotten) => forgotten.await,
                Err(error) => Err(error),
            };
            if let Err(error) = forgotten {
                tracing::debug!(%error, "settled messages are remembered until the next start");
            }
        }
    }

    pub(crate) async fn close(&self) {
        if let Ok(store) = &self.store {
            store.close().await;
        }
    }

    /// The same value, or none, for entries of the book.
    fn writing(&self, ids: &[Uuid], value: Option<Bytes>) -> StateEffects {
        StateEffects {
            plugin: self.settled.clone(),
            reads: Vec::new(),
            writes: ids
                .iter()
                .map(|id| (id.simple().to_string().into(), value.clone()))
                .collect(),
        }
    }
}

impl Book {
    fn remember(&mut self, id: Uuid) {
        self.entries.insert(id, Entry::Durable);
        self.durable.push_back((Instant::now(), id));
    }

    fn take_old(&mut self, now: Instant) -> Vec<Uuid> {
        let mut old = Vec::new();
        while old.len() < PAGE
            && let Some((since, id)) = self.durable.front()
            && (self.durable.len() > MOST || now.duration_since(*since) >= REMEMBERED)
        {
            self.entries.remove(id);
            old.push(*id);
            self.durable.pop_front();
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn state(value: &'static str) -> Option<StateEffects> {
        Some(StateEffects {
            plugin: "p".into(),
            reads: Vec::new(),
            writes: vec![("k".into(), Some(Bytes::from_static(value.as_bytes())))],
        })
    }

    async fn value(ledger: &Ledger) -> Option<Bytes> {
        let store = ledger.store().unwrap();
        store.state_get("p", "k").await.unwrap().value
    }

    #[tokio::test]
    async fn a_message_changes_state_once_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4();
        {
            let ledger = Ledger::open(folder.path(), "test", None).await.unwrap();
            assert!(!ledger.has_settled(|| Some(id)));
            let first = ledger.commit(Some(id), state("1"), None, Vec::new());
            let at_once = ledger.commit(Some(id), state("2"), None, Vec::new());
            assert_eq!(at_once.err(), Some(SettleError::Conflict));
            first.unwrap().await.unwrap();
            assert!(ledger.has_settled(|| Some(id)));
            ledger.close().await;
        }
        let ledger = Ledger::open(folder.path(), "test", None).await.unwrap();
        assert!(ledger.has_settled(|| Some(id)));
        let again = ledger.commit(Some(id), state("3"), None, Vec::new());
        again.unwrap().await.unwrap();
        assert_eq!(value(&ledger).await.as_deref(), Some(&b"1"[..]));
        let other = ledger.commit(Some(Uuid::new_v4()), state("4"), None, Vec::new());
        other.unwrap().await.unwrap();
        assert_eq!(value(&ledger).await.as_deref(), Some(&b"4"[..]));
        ledger.close().await;
    }

    #[tokio::test]
    async fn what_was_settled_long_ago_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), "test", None).await.unwrap();
        let id = Uuid::new_v4();
        let committed = ledger.commit(Some(id), state("1"), None, Vec::new());
        committed.unwrap().await.unwrap();
        ledger.forget().await;
        assert!(ledger.has_settled(|| Some(id)));
        assert_eq!(ledger.book().take_old(Instant::now() + REMEMBERED), [id]);
        assert!(!ledger.has_settled(|| Some(id)));
        let many: Vec<Uuid> = (0..MOST + 2).map(|_| Uuid::new_v4()).collect();
        many.iter().for_each(|id| ledger.book().remember(*id));
        assert_eq!(ledger.book().take_old(Instant::now()), many[..2]);
    }

    #[tokio::test]
    async fn a_folder_of_another_process_leaves_state_out_of_reach() {
        let ledger = Ledger {
            store: Err("elsewhere".to_owned()),
            book: Arc::default(),
            settled: "settled".into(),
            outbox: "outbox".parse().unwrap(),
        };
        let refused = ledger.commit(None, state("1"), None, Vec::new()).err();
        let reason = || "elsewhere".to_owned();
        assert_eq!(refused, Some(SettleError::Unavailable(reason())));
        assert!(ledger.store().is_err());
    }
}
