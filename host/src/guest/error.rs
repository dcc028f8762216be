//! Why a component cannot be used, and what is raised within a call to end it.
//!
//! Words only; what follows from them is decided by [`super`].

use std::time::Duration;

use super::crash::Crash;
use crate::plugin::Limit;

/// Why a component cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// It is no component.
    #[error("{0}")]
    NotAComponent(String),
    /// It is a component of no world that this host knows.
    #[error("{0}")]
    UnknownWorld(String),
    /// It imports what this host does not offer.
    #[error("{0}")]
    Import(String),
    /// It failed while it was loaded.
    #[error("{0}")]
    Load(String),
    /// It hit a limit while it was loaded.
    #[error("{1}")]
    Limit(Limit, String),
    /// The machine does not allow it.
    #[error("{0}")]
    Engine(String),
}

impl GuestError {
    /// The limit that was hit, if it was that.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Limit(limit, _) => Some(*limit),
            _ => None,
        }
    }
}

/// The guest ran out of time. Raised inside the call, found again in its error.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than {time:?} (`limits.{}`)", limit.name())]
pub(super) struct OutOfTime {
    pub(super) limit: Limit,
    pub(super) time: Duration,
}

/// The guest wanted more randomness than there is at once: raised and found again in the same way.
#[derive(Debug, thiserror::Error)]
#[error("{0} random bytes were asked for; at most {most} come at once", most = Self::MOST)]
pub(super) struct TooRandom(pub(super) u32);

impl TooRandom {
    /// Bytes of randomness in one call of `random`.
    pub(super) const MOST: u32 = 64 * 1024;
}

/// Why a component cannot be used that trapped while it was loaded.
pub(super) fn failed(what: &str, crash: Crash) -> GuestError {
    let text = format!("{what}: {}", crash.text);
    match crash.limit {
        Some(limit) => GuestError::Limit(limit, text),
        None => GuestError::Load(text),
    }
}
