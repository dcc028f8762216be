//! Whether a flush waits for the commit that follows, so that one flush serves both.
//!
//! A message that is handled at once leads to a second commit, that of its handling. Waiting for it saves a whole flush
//! where handlers are quick and the disk is slow; where it is the other way round, the first flush is over before the
//! second commit comes, and waiting would be in vain. So both are measured. No clock and no thread in here.

use std::time::Duration;

/// No wait is longer than this, however slow the disk is.
const LONGEST: Duration = Duration::from_millis(5);
/// What is longer than this is no commit that follows, but the next one that comes.
const FAR: Duration = Duration::from_millis(20);

/// What is known of the disk and of the handlers; averages of the latest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// How long a flush takes.
    flush: Option<Duration>,
    /// How long after a commit that leads to another one that comes.
    follows: Option<Duration>,
}

impl Patience {
    /// How long to wait for the commit after one that leads to it; `None`: not at all.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (flush, follows) = (self.flush?, self.follows?);
        (follows < flush).then(|| flush.min(LONGEST))
    }

    /// So long after a commit that leads to another one it came, waited for or not.
    pub(super) fn followed(&mut self, after: Duration) {
        self.follows = Some(average(self.follows, after.min(FAR)));
    }

    /// How long a flush took.
    pub(super) fn flushed(&mut self, took: Duration) {
        self.flush = Some(average(self.flush, took));
    }
}

fn average(before: Option<Duration>, now: Duration) -> Duration {
    before.map_or(now, |before| (before * 7 + now) / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn known(flush: Duration, follows: Duration) -> Patience {
        let mut patience = Patience::default();
        patience.flushed(flush);
        patience.followed(follows);
        patience
    }

    #[test]
    fn it_waits_where_handlers_are_quicker_than_the_disk() {
        assert_eq!(Patience::default().wait(), None, "nothing is known");
        assert_eq!(known(MS, MS / 5).wait(), Some(MS));
        assert_eq!(known(MS, MS * 2).wait(), None);
        assert_eq!(known(MS * 90, MS).wait(), Some(LONGEST));
    }

    #[test]
    fn nothing_that_follows_ends_the_waiting_and_handlers_that_become_quick_bring_it_back() {
        let mut patience = known(MS, MS / 5);
        let mut waits = 0;
        while patience.wait().is_some() {
            patience.followed(Duration::from_secs(60));
            waits += 1;
        }
        assert!(waits < 3, "{waits} waits in vain");
        let mut seen = 0;
        while patience.wait().is_none() {
            patience.followed(MS / 5);
            seen += 1;
        }
        assert!(seen < 30, "{seen} commits that followed at once");
    }
}
