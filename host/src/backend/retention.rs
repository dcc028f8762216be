//! Dead letters that were kept long enough, or are too many: when to look for them, a few at a time.
//!
//! Without a [`Retention`] nothing is ever removed. Who removes them is up to each backend.

use std::time::Duration;

use tokio::time::Instant;

use super::table::millis;
use crate::clock;
use crate::store::Retention;

/// How often it is looked for old ones.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How many are removed at once, so that nobody waits long for it.
pub(super) const CHUNK: u64 = 1_000;

/// Says when there is something to remove.
#[derive(Debug)]
pub(super) struct Pruner {
    retention: Option<Retention>,
    at: Instant,
    /// Letters that were written since it was last looked.
    written: u64,
}

impl Pruner {
    /// What an earlier process left is looked at soon.
    pub(super) fn new(retention: Option<Retention>) -> Self {
        Self {
            retention,
            at: Instant::now(),
            written: 0,
        }
    }

    /// When it is due unless letters are written.
    pub(super) fn at(&self) -> Instant {
        match self.retention {
            Some(_) => self.at,
            None => Instant::now() + EVERY,
        }
    }

    pub(super) fn due(&self) -> bool {
        self.retention
            .is_some_and(|retention| Instant::now() >= self.at || self.written > slack(retention))
    }

    /// So many letters are about to be written.
    pub(super) fn written(&mut self, letters: usize) {
        self.written = self.written.saturating_add(letters as u64);
    }

    /// Before which moment letters have to have ended to be removed now, and beyond how many.
    pub(super) fn begin(&mut self) -> Option<(i64, u64)> {
        let Retention { keep, most } = self.retention?;
        self.written = 0;
        self.at = Instant::now() + EVERY;
        Some((clock::earliest_ms().saturating_sub(millis(keep)), most))
    }

    /// So many were removed; if there may be more, it is due again at once.
    pub(super) fn ended(&mut self, old: u64, too_many: u64) {
        if old + too_many > 0 {
            tracing::info!(
                old,
                too_many,
                "dead letters were removed; `keep` and `most` under [dead_letters] say how many stay"
            );
        }
        if old.max(too_many) >= CHUNK {
            self.at = Instant::now();
        }
    }
}

/// How many more there may be than the most, so that they are not counted for each one.
fn slack(retention: Retention) -> u64 {
    retention.most / 100
}
