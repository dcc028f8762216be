//! Errors, as they are said on the local socket.

use serde::{Deserialize, Serialize};

/// A [`crate::backend::BackendError`].
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum Fault<'a> {
    Unavailable(&'a str),
    Invalid(&'a str),
    UnknownQueue(&'a str),
    Closed,
}

/// A [`crate::backend::PublishError`].
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum Refusal<'a> {
    TooLarge { size: u64, limit: u64 },
    Unroutable(&'a str),
    UnknownQueue(&'a str),
    Full(&'a str),
    Unavailable(&'a str),
    Closed,
    Invalid(&'a str),
}

/// A [`crate::backend::SettleError`].
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum Unsettled<'a> {
    Stale,
    Conflict,
    Refused(#[serde(borrow)] Refusal<'a>),
    Unavailable(&'a str),
    Closed,
}

/// A [`crate::store::StoreError`].
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum StoreFault<'a> {
    Unavailable(&'a str),
    Corrupt(&'a str),
    Unsupported(&'a str),
}
