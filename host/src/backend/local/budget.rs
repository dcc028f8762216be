//! How much may be under way on one connection. Whoever wants more waits.
//!
//! Both sides count for themselves: the owner so that no client can fill its memory, the client so that its requests
//! wait where they are and not in a buffer.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{MAX_BYTES, MAX_REQUESTS};

/// Bytes are counted in these, because a semaphore hands out at most 2^32.
const UNIT: usize = 1 << 10;

/// Requests and their bytes.
#[derive(Debug)]
pub(super) struct Budget {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A request that may be under way until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new(requests: usize) -> Self {
        debug_assert!(requests <= MAX_REQUESTS);
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            bytes: Arc::new(Semaphore::new(MAX_BYTES / UNIT)),
        }
    }

    /// Waits until another request of so many bytes may be under way. `None` never happens, as nothing closes a budget.
    pub(super) async fn share(&self, bytes: usize) -> Option<Share> {
        let units = bytes.clamp(1, MAX_BYTES).div_ceil(UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Some(Share {
            _request: self.requests.clone().acquire_owned().await.ok()?,
            _bytes: self.bytes.clone().acquire_many_owned(units).await.ok()?,
        })
    }
}
