//! The task that reads plugin state: everybody who waits for a value is answered by one statement.
//!
//! What is decided and not written yet is looked at by its caller, before and after.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::shared::{Backoff, Shared, Trouble};
use crate::store::StoreError;
use crate::store::postgres::{Failure, Kind, Session, StateKey};

/// Keys in one statement.
const MOST: usize = 2_048;

/// Those who wait for a value.
pub(super) type Reads = Vec<Read>;

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
            let mut reads: Reads = {
                let waiting = &mut shared.lock().reads;
                let count = waiting.len().min(MOST);
                waiting.drain(..count).collect()
            };
            reads.retain(|read| !read.caller.is_closed());
            if reads.is_empty() {
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

    async fn answer(&mut self, reads: Vec<Read>) {
        let keys: Vec<StateKey> = reads.iter().map(|read| read.key.clone()).collect();
        let mut values = self.values(&keys).await;
        if let Err(Failure::Lost(_)) = values {
            Backoff::new().wait().await;
            values = self.values(&keys).await;
        }
        match values {
            Ok(values) => {
                self.trouble.ends();
                for read in reads {
                    let value = values.get(&read.key).cloned();
                    drop(read.caller.send(Ok(value)));
                }
            }
            Err(failure) => {
                self.trouble.begins(&failure);
                for read in reads {
                    let error = StoreError::Unavailable(failure.to_string());
                    drop(read.caller.send(Err(error)));
                }
            }
        }
    }

    async fn values(
        &mut self,
        keys: &[StateKey],
    ) -> Result<std::collections::HashMap<StateKey, (Bytes, i64)>, Failure> {
        let mut tx = self.session.begin(Kind::Read).await?;
        let values = tx.values(keys).await?;
        tx.end().await;
        Ok(values)
    }
}
