//! What is counted of one subscription while it goes on, for whoever asks later: how its messages ended, how long calls
//! took, what was not settled.
//!
//! Ends are counted for a batch at once, and calls are timed now and then, so that a message pays nothing for being counted.
//! What the numbers are called outside is said in [`crate::telemetry`].

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::beside::Ended;
use crate::backend::{SettleError, Verdict};
use crate::store::Reason;

/// Where one count of times ends and the next begins, in microseconds; the last count has no end.
pub(crate) const BOUNDS: [u64; 14] = [
    2, 5, 10, 25, 100, 250, 1_000, 2_500, 10_000, 50_000, 250_000, 1_000_000, 5_000_000, 30_000_000,
];
/// Of messages that follow each other closely one of so many is timed.
const SAMPLE: u32 = 16;
/// Every reason of a dead letter, and the one that only attempts have.
const REASONS: usize = Reason::ALL.len() + 1;

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: AtomicU64,
    rejected: AtomicU64,
    split: AtomicU64,
    retried: [AtomicU64; REASONS],
    dead: [AtomicU64; REASONS],
    unsettled: [AtomicU64; UNSETTLED.len()],
    times: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    stalls: AtomicU64,
}

/// What a message counts as that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    /// Who asked was told that it is wrong.
    Rejected,
    /// It became one message for each of its handlers.
    Split,
    Retried(Reason),
    Dead(Reason),
}

/// Why a message was not settled, in words that don't change.
const UNSETTLED: [&str; 5] = ["conflict", "stale", "refused", "unavailable", "closed"];

/// What was counted so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ends {
    pub(crate) done: u64,
    pub(crate) rejected: u64,
    pub(crate) split: u64,
    /// By reason.
    pub(crate) retried: Vec<(Reason, u64)>,
    pub(crate) dead: Vec<(Reason, u64)>,
    /// By why.
    pub(crate) unsettled: [(&'static str, u64); UNSETTLED.len()],
    /// Calls by how long they took: up to each of [`BOUNDS`], and longer.
    pub(crate) times: [u64; BOUNDS.len() + 1],
    /// How long they took together.
    pub(crate) seconds: f64,
    /// How often nothing could be received any more.
    pub(crate) stalls: u64,
}

/// For how many calls the next one is timed; none if it is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed(u32);

/// Who decides that, in one task.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    began: bool,
    waiting: u32,
}

/// A call that is timed until this is dropped.
#[derive(Debug)]
pub(super) struct Timer<'a> {
    tally: &'a Tally,
    calls: u32,
    began: Instant,
}

impl Sampler {
    /// For the next message; the first and the last one of a task are timed.
    pub(super) fn next(&mut self, last: bool) -> Timed {
        self.waiting += 1;
        if self.began && !last && self.waiting < SAMPLE {
            return Timed(0);
        }
        self.began = true;
        Timed(std::mem::take(&mut self.waiting))
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < us);
        let calls = u64::from(self.calls);
        add(self.tally.times.get(place), calls);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(Some(&self.tally.nanoseconds), ns.saturating_mul(calls));
    }
}

impl Ending {
    /// What a call that ended so counts as with its verdict; `None`: nobody was called.
    pub(super) fn of(ended: Option<Ended>, verdict: &Verdict) -> Self {
        match (verdict, ended) {
            (Verdict::Ack, None) => Self::Split,
            (Verdict::Ack, Some(Ended::Rejected)) => Self::Rejected,
            (Verdict::Ack, Some(_)) => Self::Done,
            (Verdict::Retry { failed, .. }, _) => Self::Retried(failed.reason),
            (Verdict::DeadLetter(letter), _) => Self::Dead(letter.reason),
        }
    }
}

impl Tally {
    /// A timer for a call, if it is to be timed.
    pub(super) fn timer(&self, Timed(calls): Timed) -> Option<Timer<'_>> {
        (calls > 0).then(|| Timer {
            tally: self,
            calls,
            began: Instant::now(),
        })
    }

    /// These have ended, and this became of it.
    pub(super) fn settled(&self, endings: &[Ending], results: &[Result<(), SettleError>]) {
        let (mut done, mut others) = (0, endings.iter().zip(results));
        for (ending, result) in &mut others {
            match (result, ending) {
                (Ok(()), Ending::Done) => done += 1,
                (Ok(()), other) => add(self.place(*other), 1),
                (Err(error), _) => add(self.unsettled.get(why(error)), 1),
            }
        }
        if done > 0 {
            add(Some(&self.done), done);
        }
    }

    /// Nothing can be received, for the `first` time since something was.
    pub(crate) fn stalled(&self, first: bool) {
        add(Some(&self.stalls), u64::from(first));
    }

    fn place(&self, ending: Ending) -> Option<&AtomicU64> {
        match ending {
            Ending::Done => Some(&self.done),
            Ending::Rejected => Some(&self.rejected),
            Ending::Split => Some(&self.split),
            Ending::Retried(reason) => self.retried.get(number(reason)),
            Ending::Dead(reason) => self.dead.get(number(reason)),
        }
    }

    pub(crate) fn read(&self) -> Ends {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let reasons = |counts: &[AtomicU64; REASONS], reasons: &[Reason]| {
            let count = |reason: &Reason| counts.get(number(*reason)).map_or(0, read);
            reasons
                .iter()
                .map(|reason| (*reason, count(reason)))
                .collect()
        };
        let retried = [Reason::Retry].into_iter().chain(Reason::ALL);
        let mut unsettled = UNSETTLED.map(|why| (why, 0));
        for (place, count) in unsettled.iter_mut().zip(&self.unsettled) {
            place.1 = read(count);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "nanoseconds beyond the 53 bits of a float are a hundred days, and nobody counts them singly"
        )]
        let seconds = read(&self.nanoseconds) as f64 / 1e9;
        Ends {
            done: read(&self.done),
            rejected: read(&self.rejected),
            split: read(&self.split),
            retried: reasons(&self.retried, &retried.collect::<Vec<_>>()),
            dead: reasons(&self.dead, &Reason::ALL),
            unsettled,
            times: self.times.each_ref().map(read),
            seconds,
            stalls: read(&self.stalls),
        }
    }
}

fn add(count: Option<&AtomicU64>, more: u64) {
    if let Some(count) = count {
        count.fetch_add(more, Ordering::Relaxed);
    }
}

/// The place of a reason among all of them.
fn number(reason: Reason) -> usize {
    let known = Reason::ALL.iter().position(|known| *known == reason);
    known.unwrap_or(Reason::ALL.len())
}

/// The place in [`UNSETTLED`].
fn why(error: &SettleError) -> usize {
    match error {
        SettleError::Conflict => 0,
        SettleError::Stale => 1,
        SettleError::Refused(_) => 2,
        SettleError::Unavailable(_) => 3,
        SettleError::Closed => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_counted_though_not_every_one_is_timed() {
        for messages in [1, 2, 15, 16, 17, 100, 513] {
            let mut sampler = Sampler::default();
            let timed = (1..=messages).map(|number| sampler.next(number == messages).0);
            let timed: Vec<u32> = timed.collect();
            assert_eq!(timed.iter().sum::<u32>(), messages);
            let clocks = timed.iter().filter(|calls| **calls > 0).count();
            let most = usize::try_from(messages / SAMPLE).unwrap() + 2;
            assert!(clocks <= most, "{clocks} of {messages}");
        }
    }

    #[test]
    fn only_what_was_settled_has_ended() {
        let tally = Tally::default();
        let endings = [
            Ending::Done,
            Ending::Done,
            Ending::Rejected,
            Ending::Split,
            Ending::Retried(Reason::Retry),
            Ending::Retried(Reason::Trap),
            Ending::Dead(Reason::Malformed),
            Ending::Dead(Reason::Trap),
        ];
        let mut results = vec![Ok(()); endings.len()];
        if let Some(second) = results.get_mut(1) {
            *second = Err(SettleError::Conflict);
        }
        if let Some(last) = results.last_mut() {
            *last = Err(SettleError::Closed);
        }
        tally.settled(&endings, &results);
        let ends = tally.read();
        assert_eq!((ends.done, ends.rejected, ends.split), (1, 1, 1));
        let some = |counts: &[(Reason, u64)]| -> Vec<(Reason, u64)> {
            counts
                .iter()
                .filter(|(_, count)| *count > 0)
                .copied()
                .collect()
        };
        assert_eq!(some(&ends.retried), [(Reason::Retry, 1), (Reason::Trap, 1)]);
        assert_eq!(some(&ends.dead), [(Reason::Malformed, 1)]);
        let unsettled: Vec<_> = ends
            .unsettled
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(unsettled, [&("conflict", 1), &("closed", 1)]);
    }

    #[test]
    fn a_call_counts_for_those_that_were_not_timed() {
        let tally = Tally::default();
        drop(tally.timer(Timed(0)));
        assert_eq!(tally.read().times.iter().sum::<u64>(), 0);
        drop(tally.timer(Timed(7)));
        assert_eq!(tally.read().times.iter().sum::<u64>(), 7);
        assert!(tally.read().seconds > 0.0);
    }
}
