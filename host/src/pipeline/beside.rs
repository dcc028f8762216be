//! A version beside the live one: it handles a share of the messages, and both are counted meanwhile.
//!
//! What follows from the counts is decided in [`crate::rollout`] and done by whoever had the version tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Version;
use crate::backend::{Delivery, Verdict};
use crate::dispatch::{Kind, Outcome, Route};
use crate::message::Message;
use crate::rollout::{BUCKETS, Choice, Judgement, Policy, Share, Side, Times, judge};

/// A version that is tried on a share of the messages.
#[derive(Debug)]
pub struct Beside {
    pub(crate) version: Arc<Version>,
    choice: Choice,
    live: Counts,
    canary: Counts,
    began: Instant,
    /// Something went wrong.
    news: Notify,
}

/// What is counted of one side while it goes on.
#[derive(Debug)]
struct Counts {
    done: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    crashed: AtomicU64,
    /// First calls that are not timed, since they may have to make their instance.
    cold: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

/// A call of one of both sides. It counts when it [ends](Self::end).
#[derive(Debug)]
pub(super) struct Measured<'a> {
    beside: &'a Beside,
    canary: bool,
    began: Instant,
}

impl Beside {
    /// A version that was not tried yet; `digest` is that of its component.
    pub(crate) fn new(version: Arc<Version>, digest: &str, share: Share) -> Self {
        let cold = 2 * version.access.limits.concurrency as u64;
        Self {
            version,
            choice: Choice::new(digest, share),
            live: Counts::new(cold),
            canary: Counts::new(cold),
            began: Instant::now(),
            news: Notify::new(),
        }
    }

    /// The route of a message that is for this version. Runs of what is periodic are not.
    pub(super) fn route(&self, delivery: &Delivery, message: &Message) -> Option<&Route> {
        let of_key = delivery.key.as_deref().map(str::as_bytes);
        if !self
            .choice
            .takes(of_key.unwrap_or(message.identifier.as_bytes()))
        {
            return None;
        }
        let found = self.version.route(delivery, message);
        match found.as_slice() {
            [route] if route.kind != Kind::Periodic => Some(*route),
            // What has several handlers is split first, which is the same in both versions.
            _ => None,
        }
    }

    pub(super) fn measure(&self, canary: bool) -> Measured<'_> {
        Measured {
            beside: self,
            canary,
            began: Instant::now(),
        }
    }

    /// It gets nothing more, and what it handles goes back.
    pub(crate) fn withdraw(&self) {
        self.version.supersede(true);
        self.version.cut().cancel();
    }

    /// Returns when something went wrong on either side since the last time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// How much it handles.
    #[must_use]
    pub fn share(&self) -> Share {
        self.choice.share()
    }

    /// What was counted so far: of the live version, and of this one.
    #[must_use]
    pub fn counted(&self) -> (Side, Side) {
        (self.live.read(), self.canary.read())
    }

    /// What follows from that.
    #[must_use]
    pub fn judge(&self, policy: &Policy) -> Judgement {
        let (live, canary) = self.counted();
        judge(policy, &live, &canary, self.began.elapsed())
    }
}

impl Measured<'_> {
    /// The version was withdrawn while this call went on, so that its end is not to count.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.canary && self.beside.version.is_cut()
    }

    /// The end of the call, as its outcome says; if it was done, what became of its effects.
    pub(super) fn end(self, outcome: Ended, verdict: &Verdict) {
        let counts = match self.canary {
            true => &self.beside.canary,
            false => &self.beside.live,
        };
        let (count, wrong) = match (outcome, verdict) {
            (Ended::Done, Verdict::Ack) => (&counts.done, false),
            (Ended::Done | Ended::Failed, _) => (&counts.failed, true),
            (Ended::Rejected, _) => (&counts.rejected, true),
            (Ended::Crashed, _) => (&counts.crashed, true),
        };
        count.fetch_add(1, Ordering::Relaxed);
        counts.time(self.began.elapsed());
        if wrong {
            self.beside.news.notify_one();
        }
    }
}

/// What an outcome counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Rejected,
    Failed,
    Crashed,
}

impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done(_) => Self::Done,
            Outcome::Rejected(_) => Self::Rejected,
            Outcome::Failed(_) | Outcome::Retry { .. } | Outcome::Superseded => Self::Failed,
            Outcome::Crashed { .. } => Self::Crashed,
        }
    }
}

impl Counts {
    fn new(cold: u64) -> Self {
        Self {
            done: AtomicU64::default(),
            rejected: AtomicU64::default(),
            failed: AtomicU64::default(),
            crashed: AtomicU64::default(),
            cold: AtomicU64::new(cold),
            times: std::array::from_fn(|_| AtomicU64::default()),
        }
    }

    fn time(&self, took: Duration) {
        let less = |cold: u64| cold.checked_sub(1);
        let was_cold = self
            .cold
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if was_cold.is_err()
            && let Some(count) = self.times.get(Times::bucket(us))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Side {
        let times = self.times.each_ref();
        Side {
            done: self.done.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            crashed: self.crashed.load(Ordering::Relaxed),
            times: Times::from(times.map(|count| count.load(Ordering::Relaxed))),
        }
    }
}
