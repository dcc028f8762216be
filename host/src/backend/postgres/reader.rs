//! The task that reads plugin state: everybody who waits for a value is answered by one statement, and everybody who waits
//! for the same keys by another one.
//!
//! What is decided and not written yet is looked at by its caller, before and after.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::shared::{Backoff, Shared, Trouble};
use crate::store::StoreError;
use crate::store::postgres::{Failure, Kind, Session, StateKey};

/// Keys in one statement.
const MOST: usize = 2_048;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Reads {
    pub(super) values: Vec<Read>,
    pub(super) lists: Vec<List>,
}

/// Some keys of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Page {
    pub(super) plugin: Arc<str>,
    /// From this one on.
    pub(super) first: String,
    /// Without it.
    pub(super) excluded: bool,
    pub(super) limit: usize,
}

/// Somebody who waits for keys.
#[derive(Debug)]
pub(super) struct List {
    pub(super) page: Page,
    pub(super) caller: oneshot::Sender<Result<Vec<String>, StoreError>>,
}

/// What was read, by what was asked for.
#[derive(Debug, Default)]
struct Found {
    values: HashMap<StateKey, (Bytes, i64)>,
    lists: HashMap<Page, Vec<String>>,
}

/// A value, and the version that its writer gave it.
pub(super) type Value = Option<(Bytes, i64)>;

/// Somebody who waits for a value.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) key: StateKey,
    pub(super) caller: oneshot::Sender<Result<Value, StoreError>>,
}

/// The owner of a connection that reads.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    session: Session,
    trouble: Trouble,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let session = Session::new(shared.place.clone());
        Self {
            shared,
            session,
            trouble: Trouble::new("read state"),
        }
    }

    /// Works until the broker is closed.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        while !shared.ended.is_cancelled() {
            let mut reads = {
                let waiting = &mut shared.lock().reads;
                let count = waiting.values.len().min(MOST);
                Reads {
                    values: waiting.values.drain(..count).collect(),
                    lists: std::mem::take(&mut waiting.lists),
                }
            };
            reads.values.retain(|read| !read.caller.is_closed());
            reads.lists.retain(|list| !list.caller.is_closed());
            if reads.values.is_empty() && reads.lists.is_empty() {
                tokio::select! {
                    () = shared.reading.notified() => {}
                    () = shared.ended.cancelled() => {}
                }
                continue;
            }
            self.answer(reads).await;
        }
        drop(std::mem::take(&mut shared.lock().reads));
        self.session.close().await;
    }

    async fn answer(&mut self, reads: Reads) {
        let mut found = self.read(&reads).await;
        if let Err(Failure::Lost(_)) = found {
            Backoff::new().wait().await;
            found = self.read(&reads).await;
        }
        match found {
            Ok(found) => {
                self.trouble.ends();
                for read in reads.values {
                    let value = found.values.get(&read.key).cloned();
                    drop(read.caller.send(Ok(value)));
                }
                for list in reads.lists {
                    let keys = found.lists.get(&list.page).cloned();
                    drop(list.caller.send(Ok(keys.unwrap_or_default())));
                }
            }
            Err(failure) => {
                self.trouble.begins(&failure);
                let error = StoreError::Unavailable(failure.to_string());
                for read in reads.values {
                    drop(read.caller.send(Err(error.clone())));
                }
                for list in reads.lists {
                    drop(list.caller.send(Err(error.clone())));
                }
            }
        }
    }

    async fn read(&mut self, reads: &Reads) -> Result<Found, Failure> {
        let mut found = Found::default();
        let keys: Vec<StateKey> = reads.values.iter().map(|read| read.key.clone()).collect();
        let mut tx = self.session.begin(Kind::Read).await?;
        if !keys.is_empty() {
            found.values = tx.values(&keys).await?;
        }
        for List { page, .. } in &reads.lists {
            if !found.lists.contains_key(page) {
                let keys = tx.state_keys(&page.plugin, &page.first, page.excluded, page.limit);
                let keys = keys.await?;
                found.lists.insert(page.clone(), keys);
            }
        }
        tx.end().await;
        Ok(found)
    }
}
